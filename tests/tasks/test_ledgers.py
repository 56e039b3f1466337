"""Which ends of ledgers a training has seen, going by its records."""

from __future__ import annotations

from typing import Any

from tasks.ledgers import ends_seen
from tasks.signed_log import End


def record(entries: int, population: str = "wards", **more: Any) -> dict[str, Any]:
    return {"privacy": {"population": population, "entries": entries, "head": f"head {entries}"}, **more}


def test_the_last_end_counts_and_rounds_without_noise_say_nothing() -> None:
    assert ends_seen([{}, record(3), record(5), {}], "wards", False) == {"wards": End(5, "head 5")}
    assert ends_seen([], "wards", False) == {}


def test_each_client_has_the_end_of_the_last_round_that_it_was_in() -> None:
    def told(**ledgers: int) -> dict[str, Any]:
        ends = {name: {"epsilon": 1.0, "entries": count, "head": f"{count}"} for name, count in ledgers.items()}
        return {"privacy": {"population": "wards", "ledgers": ends}}

    found = ends_seen([told(a=3, b=3), told(a=5), told()], "wards", False)
    assert found == {"wards/a": End(5, "5"), "wards/b": End(3, "3")}


def test_another_populations_ledger_is_another() -> None:
    assert ends_seen([record(3), record(9, "others")], "wards", False) == {"wards": End(3, "head 3")}


def test_a_simulations_ledger_is_another_also_where_an_accepted_change_ended_or_began_it() -> None:
    def identity(simulation: bool) -> dict[str, Any]:
        return {"identity": {"plan": {"simulation": simulation}}}

    records = [identity(True), record(3), record(5), record(2, **identity(False)), record(4)]
    assert ends_seen(records[:3], "wards", False) == {}
    assert ends_seen(records, "wards", False) == {"wards": End(4, "head 4")}
    assert ends_seen(records, "wards", True) == {"wards": End(5, "head 5")}
