"""A plan whose clients' cards lack what it goes by is refused before any training."""

from __future__ import annotations

import pytest

from configs.loading import load_plan
from federated.errors import InputError

NAMES = [f"client-{number:02}" for number in range(20)]


def refusal(*overrides: str) -> str:
    with pytest.raises(InputError) as refused:
        load_plan("quickstart", overrides).federation()
    return str(refused.value)


def cards(field: str, *values: object) -> str:
    said = ", ".join(f"{name}: {{{field}: {value}}}" for name, value in zip(NAMES, values, strict=False))
    return f"cards={{{said}}}"


def test_a_tag_that_a_client_does_not_have() -> None:
    found = refusal("algorithm.select={kind: stratified, cohort: 8, tag: region}", cards("region", *["north"] * 7))
    assert found.startswith("algorithm.select.stratified.tag: the card of client client-07 has no 'region'; add it")


def test_a_number_that_a_client_does_not_have() -> None:
    found = refusal("algorithm.rule={kind: weighted_mean, by: quality}", cards("quality", 1.0, 0.5, "good"))
    assert "'quality' on the card of client client-02, got 'good'" in found


def test_a_client_that_is_not_there() -> None:
    presence = "{client-20: {probability: 0.5}}"
    found = refusal(f"algorithm.select={{kind: available, cohort: 8, clients: {presence}}}")
    assert found.startswith("algorithm.select.available: there is no client client-20; there are client-00,")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("presence: {probability: 0}", "no client is ever there; give presence"),
        ("presence: {cycle: 3, at: []}", "no client is ever there; give presence"),
        (f"clients: {{{', '.join(f'{name}: {{probability: 0}}' for name in NAMES)}}}", "no client is ever there"),
        ("finish: 0", "finish is 0, so nobody ever finishes; raise it"),
    ],
)
def test_a_selector_that_never_finds_anybody(fields: str, told: str) -> None:
    assert refusal(f"algorithm.select={{kind: available, cohort: 8, {fields}}}").startswith(
        f"algorithm.select.available: {told}"
    )


def test_cards_that_say_it_are_taken() -> None:
    federation = load_plan(
        "quickstart",
        ["algorithm.select={kind: stratified, cohort: 8, tag: region}", cards("region", *["north", "south"] * 10)],
    ).federation()
    assert [client.card["region"] for client in federation.clients.values()] == ["north", "south"] * 10
