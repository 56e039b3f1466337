"""``roundhouse privacy``, as one types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federated.privacy.releases import Gaussian
from tasks.ledger import PrivacyLedger, Terms
from tasks.signing import signer
from tests.roundhouse.commands import roundhouse

ASKED = ("--sampling-rate", "0.01", "--delta", "1e-5")


def asked(home: Path, *arguments: str) -> dict[str, object]:
    done = roundhouse(home, "privacy", *arguments, "--json")
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
    }
    assert list(tmp_path.iterdir()) == []


def test_it_gives_the_noise_or_the_rounds_that_a_budget_buys(tmp_path: Path) -> None:
    noise = asked(tmp_path, *ASKED, "--rounds", "1000", "--target-epsilon", "1")["noise_multiplier"]
    assert noise == pytest.approx(1.4146, abs=1.1e-4)
    assert asked(tmp_path, *ASKED, "--noise-multiplier", "1", "--budget", "2")["rounds"] == 1202


def test_an_epsilon_is_printed_with_what_it_means(tmp_path: Path) -> None:
    done = roundhouse(tmp_path, "privacy", "--noise-multiplier", "1", "--rounds", "1")
    assert done.stdout.splitlines() == [
        "epsilon                 4.3772 (by Rényi divergences 4.7285)",
        "delta                   1e-05",
        "noise multiplier        1",
        "sampling rate           1, each unit by itself (Poisson)",
        "rounds                  1",
        "neighbours differ in    one unit, added or removed",
    ]


def test_no_noise_is_no_privacy(tmp_path: Path) -> None:
    found = asked(tmp_path, "--noise-multiplier", "0", "--rounds", "1")
    assert found["epsilon"] == {"pld": "infinite", "rdp": "infinite"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (),
            "error: give --noise-multiplier and --rounds for epsilon, --rounds and --target-epsilon for the noise, or ",
        ),
        (("--noise-multiplier", "1", "--rounds", "2", "--budget", "3"), "error: give --noise-multiplier and --rounds"),
        (
            ("--noise-multiplier", "1", "--rounds", "2", "--delta", "0"),
            "error: --delta: expected a number above 0, got 0",
        ),
        (("wards",), "error: there is no privacy ledger wards in "),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = roundhouse(tmp_path, "privacy", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_a_ledger_prints_its_statement(home: Path) -> None:
    path = home / "privacy" / "wards.db"
    ledger = PrivacyLedger(path, Terms(population="wards", unit="client", delta=1e-5, budget=5.0), signer())
    ledger.reserve(Gaussian(noise_multiplier=1.0), "run", 1)
    done = roundhouse(home, "privacy", "wards")
    lines = done.stdout.splitlines()
    assert lines[:5] == [
        "population              wards",
        "epsilon                 4.3772 (by Rényi divergences 4.7285) of 5",
        "delta                   1e-05",
        "neighbours differ in    one client, added or removed",
        "spent                   1 × noise_multiplier 1, sampling_rate 1 (Poisson)",
    ], done.stderr
    assert asked(home, str(path))["head"] == ledger.statement().head


def test_a_ledger_that_was_changed_is_one_line(home: Path) -> None:
    path = home / "privacy" / "wards.db"
    PrivacyLedger(path, Terms(population="wards", unit="client", delta=1e-5), signer())
    path.write_bytes(path.read_bytes().replace(b'"wards"', b'"words"'))
    done = roundhouse(home, "privacy", "wards")
    assert done.returncode == 1
    assert "wards.db: entry 0: the signature does not fit: it was changed" in done.stderr
