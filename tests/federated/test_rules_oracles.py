"""Every rule that holds the cohort against a reference written another way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import trim_mean

from federated.rules import (
    Bulyan,
    CenteredClip,
    FlTrust,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    NormBoundedMean,
    QFedAvg,
    TrimmedMean,
)
from federated.updates import Update
from tests.fakes import update

each_seed = pytest.mark.parametrize("seed", range(5))


def matrix(clients: int = 11, size: int = 6, seed: int = 0) -> NDArray[np.float32]:
    """Rows about (1, 1, …), some farther from it than others."""
    rng = np.random.default_rng(seed)
    return (1 + rng.normal(size=(clients, size)) * rng.uniform(0.1, 3, size=(clients, 1))).astype(np.float32)


def updates(rows: NDArray[np.float32]) -> list[Update]:
    return [update(f"client-{place:04}", row, 1.0 + place) for place, row in enumerate(rows)]


def result(rule, rows: NDArray[np.float32], root: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    state = rule.init(rows.shape[1])
    return rule.next(state if root is None else rule.guided(state, root), updates(rows)).result


@pytest.mark.parametrize("clients", [1, 2, 3, 4, 10, 33, 100, 192, 193, 500])
def test_the_median_is_numpys(clients) -> None:
    rows = matrix(clients, 40, seed=clients)
    np.testing.assert_allclose(result(Median(), rows), np.median(rows.astype(np.float64), axis=0), rtol=1e-6)


def test_the_median_of_numbers_that_are_often_the_same_is_numpys() -> None:
    for clients in (5, 8, 31, 200):
        rows = np.random.default_rng(clients).integers(-2, 3, size=(clients, 200)).astype(np.float32)
        np.testing.assert_array_equal(result(Median(), rows), np.median(rows, axis=0))


@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.4, 0.49])
@pytest.mark.parametrize("clients", [1, 2, 7, 24, 100, 250])
def test_the_trimmed_mean_is_scipys(trim, clients) -> None:
    rows = matrix(clients, 40, seed=clients)
    expected = trim_mean(rows.astype(np.float64), trim, axis=0)
    np.testing.assert_allclose(result(TrimmedMean(trim=trim), rows), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("trim", "clients", "cut"), [(0.29, 100, 29), (0.07, 100, 7), (0.4999999999, 10, 4), (0.2, 4, 0)]
)
def test_what_is_trimmed_is_a_whole_number_of_clients_and_never_all(trim, clients, cut) -> None:
    """0.29 * 100 is 28.999999999999996 in floating point, and the last trim is a half but for rounding."""
    _, found, metrics = TrimmedMean(trim=trim).next(None, updates(matrix(clients, 3)))
    assert metrics == {"trimmed": 2.0 * cut}
    kept = np.sort(matrix(clients, 3).astype(np.float64), axis=0)[cut : clients - cut]
    np.testing.assert_allclose(found, kept.mean(axis=0), rtol=1e-6)


def krum_scores(rows, byzantine: int) -> list[float]:
    """Blanchard et al. 2017, section 4, as it is written; of too few rows, the nearest one counts."""
    squared = cdist(rows.astype(np.float64), rows.astype(np.float64), "sqeuclidean")
    scores = []
    for place, distances in enumerate(squared):
        others = sorted(np.delete(distances, place))
        scores.append(sum(others[: max(len(rows) - byzantine - 2, 1)]))
    return scores


@each_seed
@pytest.mark.parametrize("byzantine", [0, 1, 4])
def test_krum_is_the_update_with_the_least_score(seed, byzantine) -> None:
    rows = matrix(seed=seed)
    np.testing.assert_array_equal(
        result(Krum(byzantine=byzantine), rows), rows[np.argmin(krum_scores(rows, byzantine))]
    )


@each_seed
@pytest.mark.parametrize(("byzantine", "keep"), [(0, None), (2, None), (4, None), (2, 3), (1, 1)])
def test_multi_krum_is_the_mean_of_the_updates_with_the_least_scores(seed, byzantine, keep) -> None:
    rows = matrix(seed=seed)
    best = np.argsort(krum_scores(rows, byzantine))[: keep or len(rows) - byzantine]
    expected = rows[best].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(result(MultiKrum(byzantine=byzantine, keep=keep), rows), expected, rtol=1e-6)


def test_multi_krum_that_keeps_one_is_krum() -> None:
    np.testing.assert_array_equal(result(MultiKrum(byzantine=2, keep=1), matrix()), result(Krum(byzantine=2), matrix()))


def test_multi_krum_needs_as_many_as_it_keeps_besides_the_liars() -> None:
    assert MultiKrum(byzantine=2).least == 7
    assert MultiKrum(byzantine=2, keep=9).least == 11
    with pytest.raises(ValueError, match="multi_krum with byzantine=2 and keep=9 needs at least 11 updates, got 10"):
        MultiKrum(byzantine=2, keep=9).next(None, updates(matrix(10)))


def test_a_tie_in_krum_goes_to_the_first_by_name() -> None:
    """The corners of a square, and its mirror image: all scores are the same."""
    corners = np.array(list(itertools.product((1.0, -1.0), repeat=2)), np.float32)
    for order in itertools.permutations(range(4)):
        sent = [update("dacb"[place], corners[place]) for place in order]
        np.testing.assert_array_equal(Krum(byzantine=0).next(None, sent).result, corners[1])


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e5])
def test_krum_tells_updates_apart_that_differ_little_for_their_size(offset) -> None:
    rng = np.random.default_rng(1)
    rows = (offset + max(offset, 1.0) * 1e-5 * rng.normal(size=(9, 50)) * rng.uniform(0.5, 2, (9, 1))).astype(
        np.float32
    )
    np.testing.assert_array_equal(result(Krum(byzantine=1), rows), rows[np.argmin(krum_scores(rows, 1))])


@each_seed
@pytest.mark.parametrize(("clients", "byzantine"), [(3, 0), (7, 1), (12, 2), (15, 3)])
def test_bulyan_is_the_papers_algorithm(seed, clients, byzantine) -> None:
    """El Mhamdi et al. 2018, algorithm 2: Krum again and again, then the values nearest to the median, one by one."""
    rows = matrix(clients, seed=seed)
    left, chosen = list(range(clients)), []
    for _ in range(clients - 2 * byzantine):
        best = left[int(np.argmin(krum_scores(rows[left], byzantine)))]
        chosen.append(rows[best].astype(np.float64))
        left.remove(best)
    expected = []
    for column in np.transpose(chosen):
        median = np.median(column)
        nearest = sorted(column, key=lambda value, median=median: abs(value - median))
        expected.append(np.mean(nearest[: clients - 4 * byzantine]))
    np.testing.assert_allclose(result(Bulyan(byzantine=byzantine), rows), expected, rtol=1e-5)


@each_seed
def test_the_geometric_median_is_where_a_minimizer_finds_the_least_way_to_all(seed) -> None:
    rows = matrix(12, 4, seed=seed).astype(np.float64)
    found = minimize(lambda point: np.linalg.norm(rows - point, axis=1).sum(), rows.mean(axis=0), tol=1e-12)
    rule = GeometricMedian(tolerance=1e-9, iterations=2000)
    np.testing.assert_allclose(result(rule, rows.astype(np.float32)), found.x, atol=1e-5)
    np.testing.assert_allclose(result(GeometricMedian(), rows.astype(np.float32)), found.x, atol=1e-3)


def test_the_geometric_median_of_a_triangle_is_fermats_point() -> None:
    """From there the sides are seen at 120 degrees; of a right triangle with sides 1 it is at (3 - √3) / 6, twice."""
    corners = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(result(GeometricMedian(), corners), [(3 - np.sqrt(3)) / 6] * 2, rtol=1e-5)


def test_the_geometric_median_on_a_line_is_the_median() -> None:
    points = np.array([[-1e6], [0.25], [0.5], [3.0], [80.0]], np.float32)
    np.testing.assert_allclose(result(GeometricMedian(iterations=5000, tolerance=0.0), points), [0.5], atol=1e-4)


def test_smoothing_larger_than_all_distances_makes_the_geometric_median_the_mean() -> None:
    np.testing.assert_allclose(result(GeometricMedian(smoothing=1e3), matrix()), matrix().mean(axis=0), rtol=1e-5)


def clipped(vector, bound: float):
    norm = np.linalg.norm(vector)
    return vector if norm <= bound else vector * (bound / norm)


@each_seed
@pytest.mark.parametrize("iterations", [1, 3])
def test_centred_clipping_is_the_papers_equation_and_goes_on_from_the_last_aggregate(seed, iterations) -> None:
    rule = CenteredClip(radius=1.5, iterations=iterations)
    state, centre = rule.init(6), np.zeros(6)
    for turn in range(3):
        rows = matrix(seed=10 * seed + turn)
        for _ in range(iterations):
            centre = centre + np.mean([clipped(row - centre, 1.5) for row in rows.astype(np.float64)], axis=0)
        state, found, _ = rule.next(state, updates(rows))
        np.testing.assert_allclose(found, centre, rtol=1e-5, atol=1e-6)


def test_centred_clipping_with_a_wide_radius_is_the_mean() -> None:
    np.testing.assert_allclose(result(CenteredClip(radius=1e9), matrix()), result(Mean(), matrix()), rtol=1e-5)


@each_seed
@pytest.mark.parametrize("bound", [None, 0.7, 1e9])
def test_the_norm_bounded_mean_is_the_mean_of_clipped_updates(seed, bound) -> None:
    rows = matrix(seed=seed).astype(np.float64)
    limit = np.median([np.linalg.norm(row) for row in rows]) if bound is None else bound
    expected = np.mean([clipped(row, limit) for row in rows], axis=0)
    np.testing.assert_allclose(result(NormBoundedMean(bound=bound), matrix(seed=seed)), expected, rtol=1e-5, atol=1e-6)


def test_where_most_updates_are_zero_the_norm_bounded_mean_is_zero() -> None:
    rows = np.zeros((5, 3), np.float32)
    rows[0] = 9
    np.testing.assert_array_equal(result(NormBoundedMean(), rows), np.zeros(3))


@each_seed
def test_fltrust_is_the_papers_algorithm(seed) -> None:
    """Cao et al. 2021, equations 2 to 4."""
    rows, root = matrix(seed=seed).astype(np.float64), matrix(1, seed=100 + seed)[0].astype(np.float64)
    total, trusts = np.zeros(6), 0.0
    for row in rows:
        trust = max(row @ root / np.linalg.norm(row) / np.linalg.norm(root), 0)
        total += trust * np.linalg.norm(root) / np.linalg.norm(row) * row
        trusts += trust
    found = result(FlTrust(), rows.astype(np.float32), root.astype(np.float32))
    np.testing.assert_allclose(found, total / trusts, rtol=1e-5)


def test_fltrust_without_anybody_to_trust_stays_where_it_is() -> None:
    root = np.ones(6, np.float32)
    assert not result(FlTrust(), -np.abs(matrix()), root).any()
    assert not result(FlTrust(), np.zeros((3, 6), np.float32), root).any()
    assert not result(FlTrust(), matrix(), 0 * root).any()


def test_fltrust_wants_the_servers_own_update_in_every_round() -> None:
    with pytest.raises(ValueError, match="fltrust needs the server's own update of this round, got none"):
        FlTrust().next(None, updates(matrix()))
    state = FlTrust().next(FlTrust().guided(None, np.ones(6, np.float32)), updates(matrix())).state
    assert state is None


def lossy(rows, losses) -> list[Update]:
    return [replace(one, loss=float(loss)) for one, loss in zip(updates(rows), losses, strict=True)]


@each_seed
@pytest.mark.parametrize("q", [0.0, 0.3, 1.0, 5.0])
def test_q_fedavg_is_the_papers_algorithm(seed, q) -> None:
    """Li et al. 2020, algorithm 2, in its own terms: Δw is a gradient, and the new model is w - ΣΔ / Σh."""
    rows, lipschitz = matrix(seed=seed).astype(np.float64), 8.0
    losses = np.random.default_rng(seed).uniform(0.1, 4, len(rows))
    way, scale = np.zeros(6), 0.0
    for row, loss in zip(rows, losses, strict=True):
        gradient = lipschitz * -row
        way += loss**q * gradient
        scale += q * loss ** (q - 1) * (gradient @ gradient) + lipschitz * loss**q
    found = QFedAvg(q=q, lipschitz=lipschitz).next(None, lossy(rows.astype(np.float32), losses)).result
    np.testing.assert_allclose(found, -way / scale, rtol=1e-5, atol=1e-8)


def test_q_fedavg_listens_most_to_those_with_the_largest_loss() -> None:
    rows, losses = np.eye(3, dtype=np.float32), [0.1, 1.0, 4.0]
    result = QFedAvg(q=2.0, lipschitz=1.0).next(None, lossy(rows, losses)).result
    assert result[0] < result[1] < result[2]


@pytest.mark.parametrize("losses", [[1e-300, 1e-300], [0.0, 0.0], [1e30, 1.0], [0.0, 5.0]])
def test_q_fedavg_takes_any_loss_that_is_not_negative(losses) -> None:
    result = QFedAvg(q=30.0, lipschitz=1.0).next(None, lossy(matrix(2), losses)).result
    assert np.isfinite(result).all()


@pytest.mark.parametrize("loss", [None, -0.5, np.nan])
def test_q_fedavg_names_the_client_whose_loss_it_cannot_use(loss) -> None:
    sent = [replace(one, loss=loss) for one in updates(matrix(1))]
    with pytest.raises(ValueError, match=rf"a loss of at least 0, got {loss} from client client-0000"):
        QFedAvg(lipschitz=1.0).next(None, sent)
