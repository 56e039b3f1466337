"""``roundhouse privacy``, as one types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from sklearn.datasets import load_digits

from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.neighbours import Neighbours
from federated.privacy.releases import Gaussian
from tasks.ledger import PrivacyLedger, Terms
from tasks.signing import signer
from tests.roundhouse.commands import here, roundhouse

ASKED = ("--sampling-rate", "0.01", "--delta", "1e-5")


def asked(home: Path, *arguments: str) -> dict[str, object]:
    done = here(home, "privacy", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_a_plan_it_is_a_calculator(tmp_path: Path) -> None:
    found = asked(tmp_path, *ASKED, "--noise-multiplier", "1.0", "--rounds", "1000")
    assert found.pop("epsilon") == {"pld": pytest.approx(1.8282, abs=1e-4), "rdp": pytest.approx(2.1014, abs=1e-4)}
    assert found == {
        "delta": 1e-5,
        "sampling_rate": 0.01,
        "noise_multiplier": 1.0,
        "rounds": 1000,
        "relation": "add_or_remove_one",
        "sampling": "poisson",
        "means": "one unit, added or removed; delta 1e-05; Poisson sampling at 0.01",
    }
    assert list(tmp_path.iterdir()) == []


def test_it_gives_the_noise_or_the_rounds_that_a_budget_buys(tmp_path: Path) -> None:
    noise = asked(tmp_path, *ASKED, "--rounds", "1000", "--target-epsilon", "1")["noise_multiplier"]
    assert noise == pytest.approx(1.4146, abs=1.1e-4)
    assert asked(tmp_path, *ASKED, "--noise-multiplier", "1", "--budget", "2")["rounds"] == 1202


def test_no_round_and_any_number_of_them_are_said_in_words(tmp_path: Path) -> None:
    for noise, said in (("0.1", "0, even one costs more than the budget"), ("1000000", "at least 1,073,741,824")):
        done = roundhouse(tmp_path, "privacy", "--noise-multiplier", noise, "--budget", "1")
        assert f"rounds                  {said}\n" in done.stdout


@pytest.mark.parametrize("rate", ["1e-16", "1e-100"])
def test_the_rarest_sampling_has_an_epsilon(tmp_path: Path, rate: str) -> None:
    found = asked(tmp_path, "--sampling-rate", rate, "--noise-multiplier", "1", "--rounds", "10")["epsilon"]
    assert found["rdp"] < 1.2


def test_an_epsilon_is_printed_with_what_it_means(tmp_path: Path) -> None:
    done = roundhouse(tmp_path, "privacy", "--noise-multiplier", "1", "--rounds", "1")
    assert done.stdout.splitlines() == [
        "epsilon                 4.3772 (by Rényi divergences 4.7285)",
        "delta                   1e-05",
        "noise multiplier        1",
        "sampling rate           1, every unit, no sampling",
        "rounds                  1",
        "neighbours differ in    one unit, added or removed",
    ]


def test_the_calculator_says_of_sampling_what_a_ledger_says_of_the_same_release(home: Path) -> None:
    ledger = PrivacyLedger(
        home / "privacy" / "wards.db", Terms(population="wards", unit="client", delta=1e-5), signer()
    )
    ledger.reserve(Gaussian(noise_multiplier=1.0), "run", 1)
    found = asked(home, "--noise-multiplier", "1", "--rounds", "1")
    assert found["sampling"] == asked(home, "wards")["sampling"] == "none"
    assert found["means"] == "one unit, added or removed; delta 1e-05; no sampling"


def test_no_noise_is_no_privacy(tmp_path: Path) -> None:
    found = asked(tmp_path, "--noise-multiplier", "0", "--rounds", "1")
    assert found["epsilon"] == {"pld": "infinite", "rdp": "infinite"}
    lines = here(tmp_path, "privacy", "--noise-multiplier", "0", "--rounds", "1").stdout.splitlines()
    assert lines[0] == "epsilon                 infinite (by Rényi divergences infinite)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (),
            "error: give --noise-multiplier and --rounds for epsilon, --rounds and --target-epsilon for the noise, or ",
        ),
        (("--noise-multiplier", "1", "--rounds", "2", "--budget", "3"), "error: give --noise-multiplier and --rounds"),
        (("wards", "--rounds", "3"), "error: --rounds: is no question to a ledger"),
        (("quickstart", "--delta", "0.1"), "error: --delta: the plan says it; change that by --set"),
        (("quickstart",), "error: quickstart: nothing in the plan adds noise, so there is no privacy to count"),
        (("--set-budget", "3"), "error: --set-budget: is for a plan or a ledger; name it"),
        (("wards",), "error: there is no plan wards, and no privacy ledger wards in "),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = here(tmp_path, "privacy", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


ABOVE_ZERO = "a number above 0"
WRONG = {
    "--sampling-rate": ("a number above 0, at most 1", ("0", "1.5", "nan", "often")),
    "--noise-multiplier": ("a number from 0 to a million", ("nan", "inf", "-1", "1e300", "much")),
    "--rounds": ("a whole number from 1 to a billion", ("0", "1.5", "nan", "9" * 20, "9" * 400)),
    "--delta": ("a number above 0, below 1", ("0", "1", "nan")),
    "--target-epsilon": (ABOVE_ZERO, ("0", "-1", "nan", "inf")),
    "--budget": (ABOVE_ZERO, ("0", "-1", "nan", "inf")),
}


@pytest.mark.parametrize(
    ("option", "text", "wanted"),
    [(option, text, wanted) for option, (wanted, texts) in WRONG.items() for text in texts],
)
def test_a_number_that_an_option_does_not_take_is_one_line(tmp_path: Path, option: str, text: str, wanted: str) -> None:
    done = here(tmp_path, "privacy", f"{option}={text}")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {option}: expected {wanted}, got {text}\n")


@pytest.mark.parametrize("option", ["--target-epsilon", "--budget"])
def test_a_limit_that_is_no_number_is_refused_for_a_plan_too(tmp_path: Path, option: str) -> None:
    done = here(tmp_path, "privacy", "private-digits", option, "0")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"error: {option}: expected a number above 0, got 0\n",
    )


PLAN = """
name: wards
data: {kind: digits}
partition: {kind: iid, clients: 20}
scaling: {kind: divide, by: 16}
model: {kind: mlp, hidden: [4]}
rounds: 12
privacy: {population: wards, delta: 1.0e-5, budget: 6}
algorithm:
  select: {kind: poisson, rate: 0.25}
  transforms: [{kind: central_gaussian, norm: 1.0, noise_multiplier: 1.0}]
  rule: {kind: fixed_mean, expected: 5}
"""


def test_a_plan_is_asked_before_it_trains(home: Path) -> None:
    plan = home / "wards.yaml"
    plan.write_text(PLAN)
    done = here(home, "privacy", str(plan))
    assert done.stdout.splitlines() == [
        "population              wards",
        "epsilon                 6.4471 (by Rényi divergences 7.3300)",
        "epsilon is of           one client, added or removed; delta 1e-05; Poisson sampling at 0.25",
        "noise multiplier        1",
        "rounds                  12",
        "the plan's budget       6: it ends the training after 10 rounds",
    ], done.stderr
    noise = asked(home, str(plan), "--target-epsilon", "2")["noise_multiplier"]
    assert noise == pytest.approx(2.1377, abs=1.1e-4)
    assert asked(home, str(plan), "--budget", "4")["rounds"] == 3
    assert asked(home, str(plan), "--set", "rounds=3")["rounds"] == 3


def test_what_a_population_has_spent_counts_in_a_plans_forecast(home: Path) -> None:
    plan, terms = home / "wards.yaml", Terms(population="wards", unit="client", delta=1e-5, budget=6.0)
    plan.write_text(PLAN)
    ledger = PrivacyLedger(home / "privacy" / "wards.db", terms, signer())
    for number in (1, 2):
        ledger.reserve(Gaussian(noise_multiplier=1.0, sampling_rate=0.25), "yesterday", number)
    found = asked(home, str(plan), "--set", "rounds=10")
    assert found["epsilon"]["pld"] == pytest.approx(6.4471, abs=1e-4)
    assert (found["spent_before"], found["rounds_within"], found["unit"]) == (2, 8, "client")
    assert asked(home, str(plan), "--set", "rounds=10", "--set", "simulation=true")["spent_before"] == 0
    refused = here(home, "privacy", str(plan), "--target-epsilon", "1")
    spent = ledger.statement().epsilon.best
    assert (refused.returncode, refused.stderr) == (
        2,
        f"error: no noise is enough for epsilon 1 after 12 rounds more: wards has spent epsilon {spent:.4g} already "
        "(unit client, delta 1e-05; one client, added or removed; Poisson sampling); allow more\n",
    )


def test_a_budget_that_is_exceeded_already_is_said_so(home: Path) -> None:
    plan, terms = home / "wards.yaml", Terms(population="wards", unit="client", delta=1e-5, budget=6.0)
    plan.write_text(PLAN)
    ledger = PrivacyLedger(home / "privacy" / "wards.db", terms, signer())
    ledger.reserve(Gaussian(noise_multiplier=1.0, sampling_rate=0.25), "yesterday", 1, times=4)
    spent = epsilon([SelfComposed(Gaussian(noise_multiplier=1.0, sampling_rate=0.25), 4)], 1e-5).best
    exceeded, just_enough = (
        here(home, "privacy", str(plan), "--budget", str(budget)).stdout.splitlines() for budget in (2, spent)
    )
    assert exceeded[-2:] == [
        "rounds                  0, even one costs more than the budget",
        "the budget asked for    2: more than that is spent already",
    ]
    assert just_enough[-1] == "rounds                  0, even one costs more than the budget"


RECORDS = """
name: silos
data: {kind: csv, path: silos.csv, target: digit, client: silo}
partition: {kind: natural}
scaling: {kind: divide, by: 16}
model: {kind: logistic}
rounds: 5
privacy: {population: silos, delta: 1.0e-4, budget: 2}
algorithm:
  local: {epochs: 1, batch_size: 32, dp_sgd: {norm: 1.0, noise_multiplier: 1.0}}
"""


def silos(home: Path) -> Path:
    """The plan, beside its digits, of which every fourth is the smaller client's."""
    digits = load_digits(as_frame=True).frame.rename(columns={"target": "digit"})
    digits["silo"] = np.where(np.arange(len(digits)) % 4, "client-0", "client-1")
    digits.to_csv(home / "silos.csv", index=False)
    (home / "silos.yaml").write_text(RECORDS.replace("silos.csv", str(home / "silos.csv")))
    return home / "silos.yaml"


def test_where_records_are_hidden_the_client_is_named_that_pays_most(home: Path) -> None:
    plan = silos(home)
    lines = dict(line.split("  ", 1) for line in here(home, "privacy", str(plan)).stdout.splitlines())
    assert lines["population"].strip() == "silos/client-1, which pays most"
    means = "one record of a client, or zero gradients in its place; delta 0.0001; Poisson batches of 32"
    assert lines["epsilon is of"].strip() == means
    assert lines["steps a round"].strip() == "9, where it takes part in every round"
    assert lines["the plan's budget"].strip().startswith("2: it keeps it out after ")


@pytest.mark.slow
def test_noise_and_rounds_are_found_for_the_client_that_pays_most(home: Path) -> None:
    plan = silos(home)
    found = asked(home, str(plan), "--target-epsilon", "2")
    assert 1.9 < found["epsilon"]["pld"] <= 2.0
    again = asked(home, str(plan), "--set", f"algorithm.local.dp_sgd.noise_multiplier={found['noise_multiplier']}")
    assert again["epsilon"]["pld"] == pytest.approx(found["epsilon"]["pld"])
    assert again["rounds_within"] == 5
    assert asked(home, str(plan), "--budget", "2")["rounds"] == asked(home, str(plan))["rounds_within"] < 5
    terms = Terms(population="silos/client-1", unit="record", delta=1e-4, budget=2.0)
    ledger = PrivacyLedger(home / "privacy" / "silos" / "client-1.db", terms, signer(), neighbours=RECORD)
    ledger.reserve(Gaussian(noise_multiplier=4.0), "run", 1)
    refused = here(home, "privacy", str(plan), "--target-epsilon", "0.1")
    said = "after 5 rounds more: silos/client-1 has spent epsilon 0."
    assert said in refused.stderr, "rounds, not releases"
    means = "(unit record, delta 0.0001; all of it, where zeros are in the place of what one record sends: one record"
    assert means in refused.stderr


def population(home: Path, clients: list[str]) -> None:
    """Of each client so many records have been told of as its place says."""
    for place, client in enumerate(clients):
        terms = Terms(population=f"sites/{client}", unit="record", delta=1e-5, budget=50.0)
        path = home / "privacy" / "sites" / f"{quote(client, safe='')}.db"
        ledger = PrivacyLedger(path, terms, signer(), neighbours=RECORD)
        if place:
            ledger.reserve(Gaussian(noise_multiplier=4.0), "run", 1, times=place)


RECORD = Neighbours(relation="zero_out", said="one record of a client, or zero gradients in its place")


def test_a_population_that_pays_by_record_is_a_table_of_its_clients_the_largest_epsilon_first(home: Path) -> None:
    population(home, ["north", "south", "west coast"])
    done = here(home, "privacy", "sites")
    each = [epsilon([SelfComposed(Gaussian(noise_multiplier=4.0), times)], 1e-5).best for times in (2, 1)]
    assert done.stdout.splitlines() == [
        "population              sites: 3 clients, each pays for its own records",
        "neighbours differ in    one record of a client, or zero gradients in its place; no sampling",
        f"epsilon                 {each[0]:.4f} of 50, delta 1e-05: west coast",
        f"epsilon                 {each[1]:.4f} of 50, delta 1e-05: south",
        "epsilon                 0.0000 of 50, delta 1e-05: north",
    ], done.stderr
    assert asked(home, "sites/west coast")["unit"] == "record"
    assert asked(home, str(home / "privacy" / "sites")) == asked(home, "sites")


def test_a_table_of_clients_names_twenty_and_json_has_all(home: Path) -> None:
    population(home, [f"client-{number:02}" for number in range(23)])
    lines = here(home, "privacy", "sites").stdout.splitlines()
    assert len([line for line in lines if line.startswith("epsilon")]) == 20
    assert lines[-1] == "and                     3 clients more; --json has all"
    found = asked(home, "sites")
    assert [one["population"] for one in found["clients"]][:2] == ["sites/client-22", "sites/client-21"]
    assert len(found["clients"]) == 23


def test_a_ledger_gets_another_budget_or_none(home: Path) -> None:
    path = home / "privacy" / "wards.db"
    PrivacyLedger(path, Terms(population="wards", unit="client", delta=1e-5, budget=5.0), signer())
    assert asked(home, "wards", "--set-budget", "8")["budget"] == 8.0
    assert asked(home, "wards")["budget"] == 8.0
    assert asked(home, "wards", "--set-budget", "none")["budget"] is None
    assert "no budget" in here(home, "privacy", "wards").stdout
    entries = asked(home, "wards")["entries"]
    for wrong in ("0", "nan", "much"):
        done = here(home, "privacy", "wards", f"--set-budget={wrong}")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"error: --set-budget: expected a number above 0, or none for no limit, got {wrong}" in done.stderr
    assert asked(home, "wards")["entries"] == entries


def test_a_ledger_that_nobody_paid_into_says_whose_privacy_it_is_and_that_nothing_was_released(home: Path) -> None:
    path = home / "privacy" / "wards.db"
    PrivacyLedger(path, Terms(population="wards", unit="client", delta=1e-5, budget=5.0), signer())
    assert here(home, "privacy", "wards").stdout.splitlines()[:5] == [
        "population              wards",
        "unit                    client",
        "epsilon                 0.0000 (by Rényi divergences 0.0000) of 5",
        "delta                   1e-05",
        "spent                   nothing was released",
    ]


def test_a_folder_of_populations_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is said of it would change them all."""
    folder = home / "privacy"
    for name in ("beds", "wards"):
        PrivacyLedger(folder / f"{name}.db", Terms(population=name, unit="client", delta=1e-5, budget=5.0), signer())
    monkeypatch.chdir(folder)
    for subject in (".", str(folder)):
        done = here(home, "privacy", subject, "--set-budget", "none")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"error: {subject}: the folder of ledgers that have nothing in common; name one: " in done.stderr
    assert asked(home, "wards")["budget"] == 5.0


def test_a_population_that_pays_by_record_gets_a_budget_for_every_client(home: Path) -> None:
    population(home, ["north", "south"])
    found = asked(home, "sites", "--set-budget", "7")
    assert [one["budget"] for one in found["clients"]] == [7.0, 7.0]
    assert asked(home, "sites/north")["budget"] == 7.0


def test_a_name_that_a_plan_and_a_population_share_is_no_answer_and_each_has_another(home: Path) -> None:
    path = home / "privacy" / "private-digits.db"
    PrivacyLedger(path, Terms(population="private-digits", unit="client", delta=1e-5, budget=5.0), signer())
    done = here(home, "privacy", "private-digits")
    assert (done.returncode, done.stdout) == (2, "")
    found = re.search(r"a shipped plan, and a population too; name the file, (\S+) or (\S+)", done.stderr)
    assert found is not None, done.stderr
    plan, ledger = found.groups()
    assert asked(home, plan)["population"] == "digits"
    assert asked(home, ledger)["population"] == "private-digits"


def test_a_ledger_prints_its_statement(home: Path) -> None:
    path, terms = home / "privacy" / "wards.db", Terms(population="wards", unit="client", delta=1e-5, budget=5.0)
    neighbours = Neighbours(relation="add_or_remove_one", said="one client, added or removed")
    ledger = PrivacyLedger(path, terms, signer(), neighbours=neighbours)
    ledger.reserve(Gaussian(noise_multiplier=1.0), "run", 1)
    done = here(home, "privacy", "wards")
    lines = done.stdout.splitlines()
    means = "one client, added or removed; no sampling"
    assert lines[:6] == [
        "population              wards",
        "unit                    client",
        "epsilon                 4.3772 (by Rényi divergences 4.7285) of 5",
        "delta                   1e-05",
        f"neighbours differ in    {means}",
        f"spent                   1 × gaussian: noise_multiplier 1, sampling_rate 1 ({means})",
    ], done.stderr
    assert asked(home, str(path))["head"] == ledger.statement().head


def test_a_ledger_that_was_changed_is_one_line(home: Path) -> None:
    path = home / "privacy" / "wards.db"
    PrivacyLedger(path, Terms(population="wards", unit="client", delta=1e-5), signer())
    path.write_bytes(path.read_bytes().replace(b'"wards"', b'"words"'))
    done = here(home, "privacy", "wards")
    assert done.returncode == 1
    assert "wards.db: entry 0: the signature does not fit: it was changed" in done.stderr
