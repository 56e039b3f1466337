"""The matrix of rules and attacks in short: what ``make robustness`` measures holds in a few rounds already."""

from __future__ import annotations

import pytest

from benchmarks.robustness import ATTACKS, CLIENTS, LIARS, PAGE, PARTITIONS, RULES, Cell, measure, page, plan_of

ROUNDS = 8
SHORT_RULES = ("mean", "trimmed mean", "multi-Krum", "FLTrust")
SHORT_ATTACKS = ("none", "sign flip ×4", "backdoor ×5")


@pytest.fixture(scope="module")
def cells() -> dict[str, dict[str, Cell]]:
    rules = {name: RULES[name] for name in SHORT_RULES}
    attacks = {name: ATTACKS[name] for name in SHORT_ATTACKS}
    return dict(measure(PARTITIONS["IID"], rules, attacks, (1,), ROUNDS))


def test_every_rule_learns_where_nobody_attacks(cells: dict[str, dict[str, Cell]]) -> None:
    assert all(row["none"].accuracy > 0.8 for row in cells.values())


def test_liars_that_flip_signs_ruin_the_mean_and_no_robust_rule(cells: dict[str, dict[str, Cell]]) -> None:
    under = {name: row["sign flip ×4"].accuracy for name, row in cells.items()}
    assert under.pop("mean") < 0.5
    assert all(accuracy > 0.8 for accuracy in under.values())


def test_a_backdoor_opens_under_the_mean_and_stays_shut_under_multi_krum(cells: dict[str, dict[str, Cell]]) -> None:
    success = {name: row["backdoor ×5"].backdoor for name, row in cells.items()}
    assert success["mean"] is not None
    assert success["mean"] > 0.8
    assert success["multi-Krum"] is not None
    assert success["multi-Krum"] < 0.1
    assert cells["mean"]["backdoor ×5"].accuracy > 0.8  # nothing else shows it
    assert cells["mean"]["none"].backdoor is None


@pytest.mark.parametrize("partition", PARTITIONS)
def test_every_cell_is_a_plan_that_fits_its_parties(partition: str) -> None:
    for rule in RULES.values():
        federation = plan_of(PARTITIONS[partition], rule, ATTACKS["none"], 1).federation()
        for attack in ATTACKS.values():
            plan = plan_of(PARTITIONS[partition], rule, attack, 1)
            liars = plan.adversary(federation).attackers(1, federation.clients)
            assert (len(federation.clients), len(liars)) == (CLIENTS, LIARS if attack else 0)
            assert plan.rounds == 30


def test_the_page_says_what_was_run() -> None:
    text = page([])
    assert all(f"`{change}`" in text for changes in RULES.values() for change in changes)
    assert all(f"{{{attack}, count: 4}}" in text for attack in ATTACKS.values() if attack)
    assert "seeds 1, 2, 3;" in text.replace("\n", " ")
    assert (str(Cell(0.956, 0.5)), str(Cell(0.12, None))) == ("95.6 / 50.0", "12.0")


def told() -> list[dict[str, dict[str, float]]]:
    """Accuracies on the page, by table, rule and attack."""
    tables: list[dict[str, dict[str, float]]] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        first, *others = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if first == "rule":
            tables.append({})
        elif first in RULES and len(others) > 1:
            tables[-1][first] = {
                attack: float(cell.split(" / ")[0]) for attack, cell in zip(ATTACKS, others[:-1], strict=True)
            }
    return tables


def test_what_the_page_reads_out_of_its_tables_is_in_them() -> None:
    """Means are lost to one loud attack; robust rules stay within five points; multi-Krum's lowest is the highest."""
    means = ("mean", "weighted mean", "FedNova", "q-FedAvg, q = 0.2")
    assert len(told()) == len(PARTITIONS)
    for table in told():
        assert list(table) == list(RULES)
        for rule, row in table.items():
            if rule in means:
                assert row["sign flip ×4"] < 20
            else:
                assert row["sign flip ×4"] > row["none"] - 5
        assert max(table, key=lambda rule, table=table: min(table[rule].values())) == "multi-Krum"
    assert all(table["q-FedAvg, q = 0.2"]["Gaussian 0.5"] < 60 for table in told())
    robust = [rule for rule in RULES if rule not in means]
    falls = {rule: told()[1][rule]["none"] - told()[1][rule]["label flip"] for rule in robust}
    assert max(falls, key=lambda rule: falls[rule]) == "FLTrust"
