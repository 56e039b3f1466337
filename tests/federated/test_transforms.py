"""Transforms: laws over the family, and an oracle for each member."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import linalg

from federated.algorithm import Algorithm
from federated.data import Client
from federated.loop import one_round
from federated.onion import Trained, decode
from federated.onion import encode as encode_through
from federated.rounds import Memories, initial_state
from federated.transforms import Clip, ClipElements, ClipLayers, Quantise, RandomK, Rotate, Sign, TopK
from federated.updates import l2_norm
from tests.fakes import FakeEngine, line_federation, plain_sgd, update
from tests.federated.families import TRANSFORMS

each_quiet_transform = pytest.mark.parametrize(
    "transform", [transform for transform in TRANSFORMS if transform.release(1.0) is None], ids=repr
)
each_transform = pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
each_open_transform = pytest.mark.parametrize(  # noise on the client hides that an update is not finite, too
    "transform", [transform for transform in TRANSFORMS if transform.noised_by != "clients"], ids=repr
)


COMPRESSING = [transform for transform in TRANSFORMS if transform.makes != "weights"]
UNBIASED = [RandomK(share=0.3), Quantise(bits=2, block=8), Quantise(bits=5), Rotate(bits=1, block=8), Rotate(bits=2)]
each_compressing = pytest.mark.parametrize("transform", COMPRESSING, ids=repr)
each_unbiased = pytest.mark.parametrize("transform", UNBIASED, ids=repr)


def layers_of(size: int) -> tuple[int, ...]:
    return (size // 3, size - size // 3)


def encode(transform, delta, seed: int = 0):
    return transform.encode(update("a", delta, 7.0), layers_of(len(delta)), np.random.default_rng(seed))


def received_of(transform, sent, size: int, seed: int = 0):
    return transform.decode(sent, size, np.random.default_rng(seed))


def there_and_back(transform, delta, seed: int = 0):
    """One client's update as the server optimizer would see it, were it the only one."""
    received = received_of(transform, encode(transform, delta, seed), len(delta), seed)
    rng = np.random.default_rng(seed)
    return transform.finish(transform.init(len(delta)), received.delta, ("a",), rng, 1.0).result


def vectors(count: int = 20, size: int = 30, scale: float = 1.0):
    rng = np.random.default_rng(3)
    return [(rng.normal(size=size) * scale).astype(np.float32) for _ in range(count)]


@each_quiet_transform
def test_a_zero_update_stays_zero(transform) -> None:
    np.testing.assert_array_equal(there_and_back(transform, np.zeros(4)), np.zeros(4))


@each_quiet_transform
def test_a_transform_is_a_function_of_update_and_randomness(transform) -> None:
    for delta in vectors():
        np.testing.assert_array_equal(there_and_back(transform, delta, 1), there_and_back(transform, delta, 1))


@each_transform
def test_a_transform_leaves_name_weight_and_the_clients_own_metrics_alone(transform) -> None:
    sent = replace(update("a", [3.0, 4.0], 7.0), metrics={"train_loss": 0.5})
    received = received_of(transform, transform.encode(sent, (1, 1), np.random.default_rng(0)), 2)
    assert (received.client, received.weight) == ("a", 7.0)
    assert received.metrics.items() >= {"train_loss": 0.5}.items()


@each_transform
def test_a_transform_keeps_shape_and_type_and_does_not_touch_what_it_was_given(transform) -> None:
    given = update("a", [3.0, -4.0, 0.1])
    received = received_of(transform, transform.encode(given, (1, 2), np.random.default_rng(0)), 3)
    assert received.delta.shape == (3,)
    assert received.extras == {}
    assert received.delta.dtype == np.float32
    np.testing.assert_array_equal(given.delta, np.array([3.0, -4.0, 0.1], np.float32))
    assert given.metrics == {}


@each_open_transform
def test_an_update_with_nan_is_never_made_usable(transform) -> None:
    assert not encode(transform, [np.nan, 1.0]).finite


@each_open_transform
def test_an_update_with_infinity_is_never_made_usable(transform) -> None:
    with np.errstate(invalid="ignore"):
        assert not encode(transform, [np.inf, 1.0]).finite


def test_clipping_an_infinite_update_warns_of_nothing() -> None:
    assert not encode(Clip(norm=1.0), [np.inf, 1.0]).finite


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("limit", [1e-3, 1.0, 17.0])
def test_clipping_never_leaves_a_norm_above_the_limit(limit, scale) -> None:
    for delta in vectors(scale=scale):
        assert l2_norm(encode(Clip(norm=limit), delta).delta) <= limit * (1 + 1e-6)


@pytest.mark.parametrize("norm", [1e-6, 1e-3, 1.0])
def test_clipping_the_largest_updates_there_are_leaves_a_norm_of_the_limit(norm) -> None:
    for delta in (np.full(1_000_000, 1.35e38, np.float32), np.full(3, 3.4e38, np.float32)):
        assert l2_norm(encode(Clip(norm=norm), delta).delta) == pytest.approx(norm, rel=1e-6)


def test_clip_scales_by_the_ratio_of_limit_and_norm() -> None:
    for delta in vectors():
        exact = delta.astype(np.float64)
        expected = exact * min(1.0, 2.5 / np.linalg.norm(exact))
        np.testing.assert_allclose(encode(Clip(norm=2.5), delta).delta, expected, rtol=1e-5)


def test_clip_passes_an_update_within_the_limit_bit_for_bit() -> None:
    np.testing.assert_array_equal(encode(Clip(norm=5.0), [3.0, 4.0]).delta, np.array([3.0, 4.0], np.float32))


def test_clip_reports_the_norm_and_whether_it_clipped() -> None:
    assert encode(Clip(norm=5.0), [3.0, 4.0]).metrics == {"update_norm": 5.0, "clipped": 0.0}
    assert encode(Clip(norm=4.9), [3.0, 4.0]).metrics == {"update_norm": 5.0, "clipped": 1.0}


def test_clip_elements_limits_each_coordinate_by_itself() -> None:
    for delta in vectors():
        expected = [max(-0.7, min(0.7, float(value))) for value in delta]
        encoded = encode(ClipElements(threshold=0.7), delta).delta
        np.testing.assert_allclose(encoded, expected, rtol=1e-7)
        assert np.abs(encoded).max() <= np.float32(0.7)


def test_clip_elements_reports_the_share_of_clipped_coordinates() -> None:
    metrics = encode(ClipElements(threshold=1.0), [3.0, 0.5, -2.0, 1.0]).metrics
    assert metrics == {"clipped_elements": 0.5}


def test_clip_layers_scales_each_layer_by_itself() -> None:
    clipped = ClipLayers(norm=1.0).encode(update("a", [3.0, 4.0, 0.1, 0.2, -2.0]), (2, 2, 1), np.random.default_rng(0))
    np.testing.assert_allclose(clipped.delta, [0.6, 0.8, 0.1, 0.2, -1.0], rtol=1e-6)
    assert clipped.metrics == {"update_norm": pytest.approx(np.sqrt(29.05)), "clipped_layers": pytest.approx(2 / 3)}


def test_clip_layers_of_one_layer_is_clip() -> None:
    for delta in vectors():
        expected = Clip(norm=2.0).encode(update("a", delta), (30,), np.random.default_rng(0)).delta
        found = ClipLayers(norm=2.0).encode(update("a", delta), (30,), np.random.default_rng(0)).delta
        np.testing.assert_array_equal(found, expected)


def test_top_k_keeps_what_a_sort_would_keep() -> None:
    for delta in vectors(size=57):
        kept = np.argsort(-np.abs(delta), kind="stable")[:17]
        expected = np.zeros(57, np.float32)
        expected[kept] = delta[kept]
        np.testing.assert_array_equal(there_and_back(TopK(share=0.3), delta), expected)


@pytest.mark.parametrize("share", [1e-9, 0.5, 1.0])
def test_of_coordinates_of_one_size_the_first_are_sent(share) -> None:
    sent = encode(TopK(share=share), [1.0, -1.0, 1.0, 1.0])
    count = max(round(4 * share), 1)
    assert sent.extras["places"].tolist() == list(range(count))


@each_unbiased
def test_what_chance_rounds_is_right_on_average(transform) -> None:
    delta = vectors(count=1, size=21)[0]
    seen = np.array([there_and_back(transform, delta, seed) for seed in range(4000)], np.float64)
    error = np.abs(seen.mean(axis=0) - delta) / (seen.std(axis=0) / np.sqrt(4000) + 1e-9)
    assert error.max() < 4.5


@pytest.mark.parametrize("bits", range(2, 9))
def test_quantised_numbers_are_the_papers(bits) -> None:
    """QSGD by hand: every number is its block's norm times one of the two levels around it."""
    delta, levels = vectors(count=1, size=20)[0], 2 ** (bits - 1) - 1
    seen = there_and_back(Quantise(bits=bits, block=16), delta)
    for block in (slice(0, 16), slice(16, 20)):
        norm = np.linalg.norm(delta[block].astype(np.float64))
        found = seen[block] / norm * levels
        np.testing.assert_allclose(found, np.round(found), atol=1e-4)
        assert (np.abs(found - delta[block] / norm * levels) < 1 + 1e-4).all()


def test_the_rotation_is_hadamards_matrix_times_signs() -> None:
    """With codes of the two ends only, and numbers that rotate to these, nothing is lost."""
    matrix = linalg.hadamard(8) / np.sqrt(8)
    signs = np.unpackbits(np.frombuffer(np.random.default_rng(0).bytes(1), np.uint8)) * 2.0 - 1
    ends = np.array([1, 1, -3, 1, -3, -3, 1, -3], np.float64)
    delta = signs * (matrix @ ends)
    np.testing.assert_allclose(there_and_back(Rotate(block=8), delta.astype(np.float32)), delta, atol=1e-5)


def test_rotation_makes_few_bits_do_where_one_number_is_large() -> None:
    delta = np.full(4096, 0.01, np.float32)
    delta[7] = 10.0

    def error(transform) -> float:
        return float(np.mean([np.sum((there_and_back(transform, delta, seed) - delta) ** 2) for seed in range(20)]))

    assert error(Rotate(bits=2)) < error(Quantise(bits=2, block=4096))


@pytest.mark.parametrize(
    "transform",
    [Rotate(bits=1), Rotate(bits=2), Quantise(bits=2), Sign(), TopK(share=0.5), RandomK(share=0.5)],
    ids=repr,
)
@pytest.mark.parametrize("size", [1.8e38, 3.4e38])
def test_what_passes_the_screen_is_finite_when_it_is_unpacked(transform, size) -> None:
    for delta in ([size, 0, 0, 0], [size, -size, size, size], [-size] * 4, [size / 1e3] * 4096):
        sent = transform.encode(update("a", delta), (len(delta),), np.random.default_rng(0))
        if sent.finite:
            assert np.isfinite(transform.decode(sent, len(delta), np.random.default_rng(0)).delta).all()


@pytest.mark.parametrize("scales", [(-3e38, 3e38), (3e38, -3e38), (1e36, 2e36), (3e38, 3e38)])
def test_no_scales_that_a_client_may_send_make_a_rotation_infinite(scales) -> None:
    sent = Rotate(bits=2).encode(update("a", [1.0] * 4096), (4096,), np.random.default_rng(0))
    lied = replace(sent, extras=sent.extras | {"scales": np.array(scales, np.float32)})
    assert lied.finite
    assert np.isfinite(Rotate(bits=2).decode(lied, 4096, np.random.default_rng(0)).delta).all()


def test_sign_sends_signs_and_the_mean_size() -> None:
    sent = there_and_back(Sign(), np.array([3.0, -0.5, 0.0, -2.5], np.float32))
    np.testing.assert_array_equal(sent, np.array([1.5, -1.5, 1.5, -1.5], np.float32))


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (TopK(share=0.01), 100 * 8),
        (RandomK(share=0.01), 100 * 4),
        (Quantise(bits=2), 10_000 // 4 + 20 * 4 + 4),
        (Quantise(bits=8), 10_000 + 20 * 4 + 4),
        (Rotate(bits=1), 3 * 4096 // 8 + 3 * 8 + 4),
        (Rotate(bits=2), 3 * 4096 // 4 + 3 * 8 + 4),
        (Sign(), 10_000 // 8 + 4 + 4),
    ],
    ids=repr,
)
def test_what_is_sent_has_the_size_that_the_bits_say(transform, expected) -> None:
    assert encode(transform, vectors(count=1, size=10_000)[0]).nbytes == expected


@each_compressing
def test_before_and_after_are_reported_in_bytes(transform) -> None:
    algorithm = Algorithm(transforms=(transform,))
    sent = encode_through(algorithm, 1, (100, 900), Trained(update("a", vectors(count=1, size=1000)[0]), {})).update
    assert sent.metrics[f"{transform.kind}_bytes_before"] == 4000
    assert sent.metrics[f"{transform.kind}_bytes_after"] == sent.nbytes < 4000


def test_an_onion_of_three_layers_comes_back_whole() -> None:
    algorithm = Algorithm(transforms=(Clip(norm=1.0), TopK(share=0.2), Quantise(bits=8)))
    delta = np.concatenate([vectors(count=1, size=1000)[0], [7.0, 8.0]]).astype(np.float32)
    sent = encode_through(algorithm, 1, (1000,), Trained(update("a", delta), {})).update
    seen = decode(algorithm, 1, 1000, sent)
    assert sent.nbytes == 200 * (1 + 4) + 4 + 4 + 8
    assert seen.delta.shape == (1002,)
    assert seen.extras == {}
    assert seen.delta[1000:].tolist() == [7.0, 8.0]
    top = np.argsort(-np.abs(delta[:1000]))[:200]
    clipped = delta[:1000] / l2_norm(delta[:1000])
    np.testing.assert_allclose(seen.delta[top], clipped[top], atol=2 / 127)
    assert np.count_nonzero(seen.delta[:1000]) <= 200


@pytest.mark.parametrize("transform", [TopK(share=0.1), Sign()], ids=repr)
def test_what_was_not_sent_is_sent_later(transform) -> None:
    """Stich et al. 2018: all that a client has sent, and what it still owes, is all that it had to say."""
    algorithm, memory, size = Algorithm(transforms=(transform,)), {}, 30
    said, heard = np.zeros(size), np.zeros(size)
    for number, delta in enumerate(vectors(size=size), 1):
        sent, memory = encode_through(algorithm, number, (size,), Trained(update("a", delta), memory))
        said += delta
        heard += decode(algorithm, number, size, sent).delta
    np.testing.assert_allclose(heard + memory["transforms.0"], said, atol=1e-4)


def final_error(*transforms) -> float:
    """How far from the pooled optimum ten clients end, with what they send."""
    federation = line_federation(clients=10, points=60)
    algorithm = Algorithm(local=plain_sgd(), transforms=transforms)
    state, memories = initial_state(algorithm, FakeEngine(), 10), Memories()
    for _ in range(150):
        state, learnt, *_ = one_round(algorithm, FakeEngine(), state, federation.clients, memories)
        memories |= learnt
    rows: list[Client] = list(federation.clients.values())
    x = np.concatenate([client.train.x[:, 0] for client in rows]).astype(np.float64)
    y = np.concatenate([client.train.y for client in rows])
    return float(np.abs(state.params - np.polyfit(x, y, 1)).max())


@each_compressing
def test_training_comes_near_the_optimum_through_every_compression(transform) -> None:
    assert final_error(transform) < 0.1


def test_without_feedback_a_coordinate_that_is_always_smaller_never_arrives() -> None:
    assert final_error(TopK(share=0.5)) < 0.05
    assert final_error(TopK(share=0.5, error_feedback=False)) > 2 * final_error(TopK(share=0.5))


@pytest.mark.parametrize(
    ("transforms", "wrong"),
    [
        ((Quantise(), Clip(norm=1.0)), "clip cannot come after quantise"),
        ((TopK(share=0.1), ClipLayers(norm=1.0)), "clip_layers cannot come after top_k"),
        ((TopK(share=0.1), RandomK(share=0.1)), "random_k cannot come after top_k"),
        ((Sign(), Quantise()), "quantise cannot come after sign"),
        ((TopK(share=0.1), Sign()), "sign after top_k cannot feed back what it loses; set sign's error_feedback"),
    ],
)
def test_transforms_that_do_not_fit_each_other_are_refused(transforms, wrong) -> None:
    with pytest.raises(ValidationError, match=wrong):
        Algorithm(transforms=transforms)


def test_a_block_of_a_rotation_is_a_power_of_two() -> None:
    with pytest.raises(ValidationError, match="a block must be a power of 2, got 12"):
        Rotate(block=12)
