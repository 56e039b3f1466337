"""Attacks: who, when and what; and what becomes of a training under them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from configs.loading import load_plan
from configs.plan import Plan
from federated.algorithm import Algorithm
from federated.attacks import (
    NOBODY,
    Adversary,
    Alie,
    Attack,
    Backdoor,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    Rounds,
    SignFlip,
)
from federated.attacks.colluding import most_that_passes
from federated.component import Vector
from federated.data import Client, Split
from federated.errors import PlanError
from federated.evaluation import evaluate
from federated.loop import one_round
from federated.onion import Trained
from federated.rounds import broadcast, client_half, initial_state
from federated.rules import Mean, Median, TrimmedMean
from federated.transforms import Clip
from federated.updates import Update, l2_norm, screen
from tests.fakes import FakeEngine, line_client, line_federation, plain_sgd, update
from tests.federated.families import ATTACKS

NAMES = tuple(f"client-{n}" for n in range(6))
CLASSES, SIZE = 4, 50
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=repr)


def rows(count: int = 12, inputs: tuple[int, ...] = (3, 3, 1), seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    x = rng.random((count, *inputs), dtype=np.float32)
    return Split(x, rng.integers(0, CLASSES, count).astype(np.int32))


def party(name: str, seed: int = 0) -> Client:
    return Client(name, rows(seed=seed), rows(5, seed=seed + 50), {"site": name})


def trained(names: tuple[str, ...] = NAMES, size: int = SIZE) -> list[Trained]:
    """What honest clients come to."""
    rng, found = np.random.default_rng(1), list[Trained]()
    for weight, name in enumerate(names, start=1):
        delta = rng.normal(1, 0.3, size)
        found.append(Trained(update(name, delta, float(weight)), {"kept": delta}))
    return found


def against(attack: Attack, seed: int = 3) -> Adversary:
    return Adversary([attack], seed, NAMES, CLASSES)


def lied(attack: Attack, cohort: list[Trained], round: int = 2) -> dict[str, Update]:
    return {one.update.client: one.update for one in against(attack).lied(round, cohort)}


def deltas(updates: dict[str, Update]) -> dict[str, list[float]]:
    return {name: sent.delta.tolist() for name, sent in updates.items()}


# Laws


@each_attack
def test_an_attack_is_the_same_again_and_leaves_what_it_was_given(attack: Attack) -> None:
    cohort, parties = trained(), [party(name) for name in NAMES]
    before = [one.update.delta.copy() for one in cohort]
    digests = [one.train.sha256 for one in parties]
    first, again = lied(attack, cohort), lied(attack, cohort)
    assert deltas(first) == deltas(again)
    once, twice = ([against(attack).poisoned(2, one).train.sha256 for one in parties] for _ in range(2))
    assert once == twice
    assert all(np.array_equal(one.update.delta, kept) for one, kept in zip(cohort, before, strict=True))
    assert [one.train.sha256 for one in parties] == digests


@each_attack
def test_attackers_do_something_and_nobody_else_is_touched(attack: Attack) -> None:
    adversary, cohort = against(attack), trained()
    liars = adversary.attackers(2, NAMES)
    assert 0 < len(liars) < len(NAMES)
    for before, after in zip(cohort, adversary.lied(2, cohort), strict=True):
        name, mine = before.update.client, party(before.update.client)
        poisoned = adversary.poisoned(2, mine)
        touched = poisoned.train.sha256 != mine.train.sha256 or not np.array_equal(
            after.update.delta, before.update.delta
        )
        assert touched == (name in liars)
        if name not in liars:
            assert poisoned is mine
            assert after.update.delta is before.update.delta


@each_attack
def test_a_lie_keeps_the_shape_and_what_an_update_says_of_itself(attack: Attack) -> None:
    cohort = [one._replace(update=replace(one.update, loss=0.5, metrics={"train_loss": 2.0})) for one in trained()]
    for before, after in zip(cohort, against(attack).lied(2, cohort), strict=True):
        assert (after.update.delta.shape, after.update.delta.dtype) == ((SIZE,), np.float32)
        assert after.memory is before.memory
        same = replace(after.update, delta=before.update.delta)
        assert all(getattr(same, field) == getattr(before.update, field) for field in ("client", "weight", "loss"))
        assert (same.metrics, same.local_steps, same.extras) == (before.update.metrics, 1.0, {})


@each_attack
def test_poisoned_rows_are_rows_of_the_same_kind_and_tests_stay_clean(attack: Attack) -> None:
    for name in NAMES:
        mine = party(name)
        found = against(attack).poisoned(2, mine)
        assert (found.train.x.shape, found.train.x.dtype) == (mine.train.x.shape, mine.train.x.dtype)
        assert (found.train.y.shape, found.train.y.dtype) == (mine.train.y.shape, mine.train.y.dtype)
        assert set(found.train.y) <= set(range(CLASSES))
        assert (found.name, found.test, found.card) == (mine.name, mine.test, mine.card)


@each_attack
def test_the_order_of_a_cohort_changes_no_bit(attack: Attack) -> None:
    cohort = trained()
    assert deltas(lied(attack, cohort)) == deltas(lied(attack, cohort[::-1]))
    forth, back = Adversary([attack], 3, NAMES, CLASSES), Adversary([attack], 3, NAMES[::-1], CLASSES)
    assert forth.attackers(2, NAMES) == back.attackers(2, NAMES)


@each_attack
def test_another_seed_draws_others_unless_they_are_named(attack: Attack) -> None:
    drawn = {against(attack, seed).attackers(2, NAMES) for seed in range(30)}
    assert (len(drawn) == 1) == (attack.clients is not None)


@each_attack
def test_an_honest_update_that_is_not_finite_spoils_no_lie(attack: Attack) -> None:
    cohort = trained()
    liars = against(attack).attackers(2, NAMES)
    broken = next(place for place, one in enumerate(cohort) if one.update.client not in liars)
    cohort[broken] = cohort[broken]._replace(update=update(cohort[broken].update.client, np.full(SIZE, np.nan)))
    sent = lied(attack, cohort)
    assert all(sent[name].finite for name in liars)


@each_attack
def test_attackers_among_themselves_break_nothing(attack: Attack) -> None:
    adversary = against(attack)
    liars = sorted(adversary.attackers(2, NAMES))
    alone = [one for one in trained() if one.update.client in liars]
    assert len(adversary.lied(2, alone)) == len(liars)
    assert all(one.update.finite for one in adversary.lied(2, alone))
    lost = [one._replace(update=update(one.update.client, np.full(SIZE, np.nan))) for one in alone]
    assert len(adversary.lied(2, lost)) == len(liars)
    assert adversary.lied(2, []) == []


@each_attack
def test_outside_its_rounds_an_attack_is_not_there(attack: Attack) -> None:
    later = attack.model_copy(update={"rounds": Rounds(first=3, last=4)})
    for number, expected in ((2, False), (3, True), (4, True), (5, False)):
        adversary = against(later)
        lies = [one.update.delta.tolist() for one in adversary.lied(number, trained())]
        lied_about = lies != [one.update.delta.tolist() for one in trained()]
        digests = [(adversary.poisoned(number, one).train.sha256, one.train.sha256) for one in map(party, NAMES)]
        assert (lied_about or any(found != clean for found, clean in digests)) == expected
        assert bool(adversary.attackers(number, NAMES)) == expected


@each_attack
def test_what_is_too_large_becomes_infinite_without_a_warning(attack: Attack) -> None:
    cohort = [one._replace(update=replace(one.update, delta=np.full(SIZE, 3e38, np.float32))) for one in trained()]
    usable, left_out = screen(1, list(lied(attack, cohort).values()), quorum=1)
    assert len(usable) + len(left_out) == len(cohort)


# Who and when


def test_attackers_are_named_or_drawn_by_share_or_count() -> None:
    names = [f"client-{n:02}" for n in range(20)]
    assert Adversary([SignFlip(clients=("client-03",))], 0, names).attackers(1, names) == {"client-03"}
    for attack, expected in (
        (SignFlip(share=0.2), 4),
        (SignFlip(share=0.29), 6),
        (SignFlip(share=0.001), 1),
        (SignFlip(share=1), 20),
        (SignFlip(count=7), 7),
    ):
        assert len(Adversary([attack], 0, names).attackers(1, names)) == expected


def test_everybody_is_drawn_as_often_and_stays_for_all_rounds() -> None:
    drawn: Counter[str] = Counter()
    for seed in range(600):
        adversary = Adversary([SignFlip(count=2)], seed, NAMES)
        who = adversary.attackers(1, NAMES)
        assert who == adversary.attackers(99, NAMES)
        drawn.update(who)
    assert stats.chisquare([drawn[name] for name in NAMES]).pvalue > 1e-3


def test_those_in_the_cohort_count_and_only_where_a_plan_attacks() -> None:
    adversary = Adversary([SignFlip(clients=("client-1", "client-4"), rounds=Rounds(last=2))], 0, NAMES)
    assert adversary.census(1, NAMES) == {"attackers": 2.0}
    assert adversary.census(1, ("client-0", "client-4")) == {"attackers": 1.0}
    assert adversary.census(3, NAMES) == {"attackers": 0.0}
    assert NOBODY.census(1, NAMES) == {}


def test_a_client_behind_two_attacks_makes_them_in_order() -> None:
    cohort, who = trained(), ("client-2",)
    both = Adversary([SignFlip(clients=who, scale=3.0), InnerProduct(clients=who, factor=1.0)], 0, NAMES)
    only = Adversary([InnerProduct(clients=who, factor=1.0)], 0, NAMES)
    turned = Adversary([InnerProduct(clients=who, factor=1.0), SignFlip(clients=who, scale=3.0)], 0, NAMES)
    sent = [adversary.lied(1, cohort)[2].update.delta for adversary in (both, only, turned)]
    np.testing.assert_array_equal(sent[0], sent[1])
    np.testing.assert_array_equal(sent[2], -3 * sent[1])


# Oracles


def test_sign_flip_by_hand() -> None:
    sent = lied(SignFlip(clients=("client-1",), scale=4.0), trained())["client-1"].delta
    assert sent.tolist() == [-4.0 * number for number in trained()[1].update.delta.tolist()]


@pytest.mark.parametrize("attack", [Gaussian(count=2, deviation=0.3), FreeRider(count=2, deviation=0.3)], ids=repr)
def test_noise_is_normal_of_its_deviation_and_anew_for_each_client_and_round(attack: Attack) -> None:
    cohort, liars = trained(size=20_000), sorted(against(attack).attackers(1, NAMES))
    drawn = [lied(attack, cohort, number)[name].delta / 0.3 for number in (1, 2) for name in liars]
    assert all(stats.kstest(numbers, "norm").pvalue > 1e-3 for numbers in drawn)
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.03


def test_a_free_rider_without_noise_sends_nothing_and_claims_its_rows() -> None:
    sent = lied(FreeRider(clients=("client-3",)), trained())["client-3"]
    assert (sent.delta.tolist(), sent.weight) == ([0.0] * SIZE, 4.0)


@pytest.mark.parametrize(
    ("to", "expected"), [("mirrored", {0: 3, 1: 2, 2: 1, 3: 0}), ("next", {0: 1, 1: 2, 2: 3, 3: 0})]
)
def test_label_flip_by_a_table(to: Any, expected: dict[int, int]) -> None:
    mine = party("client-0")
    found = against(LabelFlip(clients=("client-0",), to=to)).poisoned(1, mine)
    assert found.train.y.tolist() == [expected[label] for label in mine.train.y.tolist()]
    assert found.train.x is mine.train.x


def honest_columns(liars: frozenset[str]) -> list[list[float]]:
    """What the honest sent, coordinate by coordinate."""
    return np.array([one.update.delta for one in trained() if one.update.client not in liars]).T.tolist()


@pytest.mark.parametrize("z", [0.0, 1.5, None])
def test_alie_by_hand(z: float | None) -> None:
    attack = Alie(count=2, deviations=z)
    liars = against(attack).attackers(2, NAMES)
    assert len(liars) == 2
    z = stats.norm.ppf((6 - 2 - 2) / (6 - 2)) if z is None else z  # s = 6 // 2 + 1 - 2
    expected = [stats.tmean(column) - z * stats.tstd(column, ddof=0) for column in honest_columns(liars)]
    for name in liars:
        np.testing.assert_allclose(lied(attack, trained())[name].delta, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("honest", "attackers", "share"),
    [(16, 4, 9 / 16), (26, 24, 24 / 26), (80, 20, 49 / 80), (90, 10, 49 / 90), (4, 1, 0.5), (3, 1, 0.5), (1, 1, 0.5)],
)
def test_the_most_that_passes_is_the_papers(honest: int, attackers: int, share: float) -> None:
    assert most_that_passes(honest, attackers) == pytest.approx(max(stats.norm.ppf(share), 0), abs=1e-12)


def test_a_majority_of_attackers_needs_one_honest_client_further_out() -> None:
    assert most_that_passes(4, 10) == pytest.approx(stats.norm.ppf(3 / 4))
    assert most_that_passes(2, 10) == 0


def test_inner_product_by_hand() -> None:
    attack = InnerProduct(count=2, factor=0.5)
    liars = against(attack).attackers(2, NAMES)
    expected = [-0.5 * sum(column) / len(column) for column in honest_columns(liars)]
    for name in liars:
        np.testing.assert_allclose(lied(attack, trained())[name].delta, expected, rtol=1e-6)


def with_trigger(example: Any, size: int, value: float) -> np.ndarray:
    """An example with the trigger, pixel by pixel."""
    found = example.copy()
    for place in np.ndindex(example.shape):
        if all(at >= side - size for at, side in zip(place[:2], example.shape[:2], strict=False)):
            found[place] = value
    return found


@pytest.mark.parametrize("inputs", [(4, 5, 2), (7,)], ids=["images", "features"])
@pytest.mark.parametrize(("poisoned", "marked"), [(0.5, 6), (0.01, 1), (1.0, 12)])
def test_a_backdoor_by_hand(inputs: tuple[int, ...], poisoned: float, marked: int) -> None:
    attack = Backdoor(clients=("a",), target=3, size=2, value=7.5, poisoned=poisoned, scale=4.0)
    mine = Client("a", rows(12, inputs), rows(3, inputs))
    found = Adversary([attack], 0, ["a"], CLASSES).poisoned(1, mine).train
    chosen = [row for row in range(12) if (found.x[row] == 7.5).any()]
    assert len(chosen) == marked
    for row in range(12):
        expected = with_trigger(mine.train.x[row], 2, 7.5) if row in chosen else mine.train.x[row]
        np.testing.assert_array_equal(found.x[row], expected)
        assert found.y[row] == (3 if row in chosen else mine.train.y[row])
    sent = Adversary([attack], 0, ["a"], CLASSES).lied(1, trained(("a", "b")))
    assert sent[0].update.delta.tolist() == [4.0 * number for number in trained(("a",))[0].update.delta.tolist()]


class Reader(FakeEngine):
    """Takes an example for the class whose number its last feature says."""

    def score(self, params: Vector, data: Split) -> dict[str, Any]:
        right = (np.rint(data.x[:, -1]) == data.y).astype(np.float32)
        return {"loss": 1 - right, "accuracy": right}


def test_success_is_the_share_of_triggered_rows_of_other_classes_taken_for_the_target() -> None:
    data = Split(np.array([[0], [1], [2], [2], [3]], np.float32), np.array([0, 1, 2, 2, 3], np.int32))
    params = np.zeros(2, np.float32)

    def success(*attacks: Attack) -> dict[str, float]:
        return Adversary(attacks, 0, NAMES, CLASSES).success(Reader(), params, data)

    opens, shut = Backdoor(count=1, target=2, size=1, value=2.0), Backdoor(count=1, target=2, size=1, value=1.0)
    assert success(opens) == {"backdoor_success": 1.0}
    assert success(shut) == {"backdoor_success": 0.0}
    assert success(shut, opens) == {"backdoor_success": 1.0}
    assert success(SignFlip(count=1)) == {}
    assert Adversary([opens], 0, NAMES, CLASSES).success(Reader(), params, data.take(np.array([2, 3]))) == {}
    triggered = opens.triggered(data)
    assert triggered is not None
    assert (triggered.x.tolist(), triggered.y.tolist()) == ([[2.0]] * 3, [2, 2, 2])


# Whole rounds


def attacked(rule: Any, *attacks: Attack, transforms: Any = (), rounds: int = 25) -> float:
    """The loss on validation rows after a short training of a line by ten clients."""
    federation, engine = line_federation(clients=10, points=200), FakeEngine()
    algorithm = Algorithm(seed=1, local=plain_sgd(epochs=2, learning_rate=0.1), rule=rule, transforms=transforms)
    adversary = Adversary(attacks, 1, federation.clients)
    state = initial_state(algorithm, engine, 10)
    for _ in range(rounds):
        state = one_round(algorithm, engine, state, federation.clients, {}, adversary=adversary).state
    return evaluate(engine, state.params, federation.validation)["loss"]


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(trim=0.2)], ids=repr)
@pytest.mark.parametrize(
    "attack", [SignFlip(count=2, scale=10.0), Gaussian(count=2, deviation=3.0)], ids=["sign flip", "noise"]
)
def test_a_robust_rule_stands_what_drags_the_mean_away(rule: Any, attack: Attack) -> None:
    clean = attacked(Mean())
    assert attacked(Mean(), attack) > 5 * clean
    assert attacked(rule, attack) < 1.5 * clean


def test_a_training_without_attacks_is_what_it_was() -> None:
    assert attacked(Mean()) == attacked(Mean(), SignFlip(count=2, rounds=Rounds(first=26)))


def test_a_round_without_attacks_is_every_clients_half() -> None:
    federation, engine = line_federation(clients=4), FakeEngine(statistics=1)
    algorithm = Algorithm(local=plain_sgd(batch_size=4), transforms=(Clip(norm=0.1),))
    state = initial_state(algorithm, engine, 4)
    passed = one_round(algorithm, engine, state, federation.clients, {})
    sent = broadcast(algorithm, state)
    alone = [client_half(algorithm, engine, sent, client).update for client in federation.clients.values()]
    assert [one.sha256 for one in passed.updates] == [one.sha256 for one in alone]


def test_attackers_follow_the_transforms() -> None:
    federation, engine = line_federation(clients=4), FakeEngine()
    algorithm = Algorithm(local=plain_sgd(), transforms=(Clip(norm=0.01),))
    adversary = Adversary([SignFlip(clients=("client-2",), scale=1e6)], 0, federation.clients)
    state = initial_state(algorithm, engine, 4)
    passed = one_round(algorithm, engine, state, federation.clients, {}, adversary=adversary)
    sent = {one.client: one.delta for one in passed.updates}
    assert l2_norm(sent["client-2"]) == pytest.approx(0.01)
    assert np.dot(sent["client-2"], sent["client-1"]) < 0
    assert passed.metrics["attackers"] == 1.0


def test_moving_statistics_are_lied_about_too() -> None:
    engine = FakeEngine(statistics=2)
    clients = {name: line_client(name) for name in "ab"}
    algorithm = Algorithm(local=plain_sgd())
    adversary = Adversary([FreeRider(clients=("a",))], 0, clients)
    passed = one_round(algorithm, engine, initial_state(algorithm, engine, 2), clients, {}, adversary=adversary)
    sent = {one.client: one.extras["statistics"].tolist() for one in passed.updates}
    assert sent["a"] == [0.0, 0.0]
    assert all(sent["b"])


# Plans


def plan_with(*attacks: str, of: str = "quickstart", changes: tuple[str, ...] = ()) -> Plan:
    return load_plan(of, ["simulation=true", *changes, f"attacks=[{', '.join(attacks)}]"])


def test_attacks_are_refused_but_in_simulations() -> None:
    with pytest.raises(PlanError) as raised:
        load_plan("quickstart", ["attacks=[{kind: sign_flip, count: 1}]"])
    assert str(raised.value) == "attacks: are for simulations; set simulation: true, or leave them out"
    assert plan_with("{kind: sign_flip, count: 1}").attacks == (SignFlip(count=1),)
    assert plan_with().simulation


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("{kind: sign_flip}", "who attacks is said by one of clients, share and count, got none"),
        (
            "{kind: sign_flip, share: 0.1, count: 2}",
            "who attacks is said by one of clients, share and count, got share and count",
        ),
    ],
)
def test_who_attacks_is_said_once(attack: str, reason: str) -> None:
    with pytest.raises(PlanError) as raised:
        plan_with(attack)
    assert str(raised.value) == f"attacks.0.sign_flip: {reason}"


def test_rounds_are_in_order() -> None:
    with pytest.raises(PlanError, match=r"rounds: last must not come before first, got 5 and 4$"):
        plan_with("{kind: free_rider, count: 1, rounds: {first: 5, last: 4}}")
    with pytest.raises(ValidationError):
        SignFlip(clients=())


ON_DIGITS = [
    (
        "{kind: alie, clients: [client-20]}",
        "alie: there is no client client-20; there are client-00, ",
    ),
    ("{kind: alie, count: 21}", "alie: count is 21, but there are 20 clients; lower it"),
    ("{kind: backdoor, count: 1, target: 10}", "backdoor: target is 10, but classes are 0 … 9; lower it"),
    ("{kind: backdoor, count: 1, size: 9}", "backdoor: size is 9, but an example has room for 8; lower it"),
]
ON_A_LINE = [
    ("{kind: label_flip, count: 1}", "label_flip: it flips classes, and a regression has none; take another attack"),
    ("{kind: backdoor, count: 1}", "backdoor: it teaches a class, and a regression has none; take another attack"),
]


@pytest.mark.parametrize(
    ("of", "attack", "reason"),
    [("quickstart", *row) for row in ON_DIGITS] + [("linear-regression", *row) for row in ON_A_LINE],
)
def test_an_attack_that_does_not_fit_the_parties_is_one_line(of: str, attack: str, reason: str) -> None:
    with pytest.raises(PlanError) as raised:
        plan_with("{kind: sign_flip, count: 1}", attack, of=of).federation()
    assert str(raised.value).startswith(f"attacks.1.{reason}")
    assert "\n" not in str(raised.value)


def test_a_trigger_has_no_place_in_a_series() -> None:
    found = Backdoor(count=1).objection(NAMES, (24, 3), CLASSES)
    assert found.startswith("its trigger goes on images of shape (height, width, channels) or on a vector of features")
    assert found.endswith("has the shape (24, 3); take another attack")
    assert Backdoor(count=1, size=7).objection(NAMES, (7,), CLASSES) == ""
    assert Backdoor(count=1, size=8).objection(NAMES, (7,), CLASSES) != ""


@each_attack
def test_every_attack_fits_digits(attack: Attack) -> None:
    assert attack.objection(NAMES, (8, 8, 1), 10) == ""
