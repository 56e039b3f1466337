"""``roundhouse data``: who holds what, before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from configs.loading import load_plan
from configs.plan import Plan
from federated.federation import Federation
from roundhouse.holdings import Holding, Holdings, differences, holdings
from roundhouse.holdings_table import described
from tests.roundhouse.commands import environment, here, roundhouse

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that is not there: nothing needs it."""
    return tmp_path / "home"


def loaded(plan: str, *overrides: str) -> tuple[Plan, Federation]:
    found = load_plan(plan, overrides)
    return found, found.federation()


def rows_of(printed: str) -> dict[str, list[str]]:
    """The lines of a table, by their first word."""
    return {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}


def test_data_prints_a_line_a_client_with_its_rows_by_class(home: Path) -> None:
    done = here(home, "data", "quickstart")
    assert (done.returncode, done.stderr) == (0, "")
    _, federation = loaded("quickstart")
    printed = rows_of(done.stdout)
    assert printed["client"] == ["train", "test", *"0123456789"]
    for name, client in federation.clients.items():
        counts = [str(np.sum(client.train.y == label) or "·") for label in range(10)]
        assert printed[name] == [str(len(client.train)), str(len(client.test)), *counts]
    every = np.concatenate([client.train.y for client in federation.clients.values()])
    assert printed["together"][0] == str(len(every))
    assert printed["together"][2:] == [str(count) for count in np.bincount(every)]


def test_data_says_how_much_clients_differ_and_what_the_server_holds_out(home: Path) -> None:
    printed = here(home, "data", "quickstart").stdout
    _, federation = loaded("quickstart")
    sizes = sorted(len(client.train) for client in federation.clients.values())
    assert f"rows to train on         {sizes[0]} to {sizes[-1]} a client, median" in printed
    assert f"{len(federation.test)} rows to test on, {len(federation.validation)} to validate" in printed
    assert "label distance           0.466, from all together" in printed


def test_data_saves_a_picture_in_the_current_folder_and_says_where(home: Path, tmp_path: Path) -> None:
    done = here(home, "data", "quickstart")
    picture = tmp_path / "quickstart-who-holds-what.png"
    assert done.stdout.splitlines()[-1].split() == ["picture", str(picture)]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    height, width = image.imread(picture).shape[:2]
    assert width == 990
    assert 400 < height < 800
    assert list(tmp_path.iterdir()) == [picture]


def test_the_picture_goes_where_the_user_wants_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    done = here(home, "data", "linear-regression", "--picture", "pictures/line.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pictures" / "line.png").stat().st_size > 5000
    assert not list(tmp_path.glob("*.png"))


def test_data_gives_programs_every_client(home: Path, tmp_path: Path) -> None:
    many = ["--set", "partition={kind: labels, clients: 70, labels_each: 2}"]
    done = here(home, "data", "quickstart", *many, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert len(answer["clients"]) == 70
    assert answer["picture"] == str(tmp_path / "quickstart-who-holds-what.png")
    assert sum(client["train_rows"] for client in answer["clients"]) == answer["together"]["train_rows"]
    dealt = answer["together"]["train_rows"] + answer["together"]["test_rows"]
    assert dealt + answer["validation_rows"] + answer["test_rows"] == 1797
    held = [sum(count > 0 for count in client["classes"].values()) for client in answer["clients"]]
    assert max(held) == 2
    assert answer["differences"]["classes_most"] == 2
    assert answer["differences"]["rows_least"] == min(client["train_rows"] for client in answer["clients"])


def test_a_regression_has_the_mean_and_the_deviation_of_its_targets(home: Path) -> None:
    _, federation = loaded("linear-regression")
    printed = rows_of(here(home, "data", "linear-regression").stdout)
    for name, client in federation.clients.items():
        y = client.train.y.astype(np.float64)
        assert printed[name][2:] == [f"{y.mean():.4g}", f"{y.std():.3g}"]
    answer = json.loads(here(home, "data", "linear-regression", "--json").stdout)
    assert answer["clients"][0]["classes"] is None
    assert f"{answer['differences']['between_clients']:.3f}" == printed["between"][1]


def test_more_than_sixty_clients_are_sixty_lines_and_a_number(home: Path) -> None:
    done = here(home, "data", "quickstart", "--set", "partition={kind: iid, clients: 75}")
    printed = rows_of(done.stdout)
    assert sum(name.startswith("client-") for name in printed) == 60
    assert printed["…"] == ["and", "15", "more"]
    assert int(printed["together"][0]) > 900


def test_columns_that_do_not_fit_become_the_largest_class() -> None:
    found = holdings(*loaded("quickstart"))
    wide, narrow = (next(iter(described(found, width))) for width in (80, 50))
    assert [column.header for column in wide.columns][3:] == list("0123456789")
    assert [column.header for column in narrow.columns][3:] == ["classes", "largest", "its share"]
    first = found.clients[0]
    cells = [next(iter(column.cells)) for column in narrow.columns]
    largest = max(first.classes, key=first.classes.get)
    share = f"{first.classes[largest] / first.train_rows:.2f}"
    assert cells[3:] == [str(sum(map(bool, first.classes.values()))), largest, share]


def test_many_classes_are_their_number_and_the_most_frequent_ones_that_can_be_read() -> None:
    counts = {" ": 50, "\n": 20, **{chr(97 + place): 24 - place for place in range(19)}}
    holding = Holding("together", sum(counts.values()), 0, counts, None, None)
    found = Holdings("play", [holding], holding, 0, 0, differences([holding], holding))
    table, *lines = described(found, 1000)
    assert [column.header for column in table.columns][3:] == ["classes", "largest", "its share"]
    assert [next(iter(column.cells)) for column in table.columns][3:] == [
        "21",
        "' '",
        f"{50 / sum(counts.values()):.2f}",
    ]
    (line,) = [line for line in lines if line.startswith("most frequent ")]
    of_all = 100 / sum(counts.values())
    assert line.startswith(f"most frequent            ' ' {50 * of_all:.1f} %, a {24 * of_all:.1f} %, b ")
    assert f", '\\n' {20 * of_all:.1f} %" in line
    assert line.count("%") == 10


@pytest.mark.parametrize(
    ("partition", "low", "high"),
    [("{kind: iid, clients: 3}", 0.0, 0.1), ("{kind: labels, clients: 10, labels_each: 1}", 0.88, 0.92)],
)
def test_the_label_distance_is_0_for_clients_alike_and_near_1_for_one_of_ten_classes_each(partition, low, high) -> None:
    overrides = [f"partition={partition}", "quorum=1", "algorithm.select={kind: all}"]
    assert low <= holdings(*loaded("quickstart", *overrides)).differences["label_distance"] <= high


def test_the_variance_between_clients_is_that_of_a_regression_on_who_holds_the_row() -> None:
    plan, federation = loaded("linear-regression", "partition={kind: shards, clients: 5, shards_each: 1}")
    clients = list(federation.clients.values())
    y = np.concatenate([client.train.y for client in clients]).astype(np.float64)
    whose = np.repeat(np.eye(5), [len(client.train) for client in clients], axis=0)
    _, squares, _, _ = np.linalg.lstsq(whose, y)
    expected = 1 - squares[0] / np.sum((y - y.mean()) ** 2)
    assert expected > 0.8
    assert holdings(plan, federation).differences["between_clients"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rounds=many", "rounds: input should be a valid integer"),
        ("partition.alpha=0.001", "partition.dirichlet.min_rows: client 'client-"),
        ("partition.clients=5", "algorithm.select.uniform.cohort: 10 clients a round, but there are 5"),
        ("partition={kind: iid, clients: 2000}", "partition.iid.min_rows: client 'client-"),
        (
            "partition={kind: labels, clients: 20, labels_each: 11}",
            "partition.labels.labels_each: a client cannot hold",
        ),
        ("partition={kind: shards, clients: 20, shards_each: 0}", "partition.shards.shards_each: input should be"),
    ],
)
def test_a_bad_plan_is_one_line_exit_code_2_and_no_picture(home: Path, tmp_path: Path, change: str, says: str) -> None:
    done = here(home, "data", "quickstart", "--set", change)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {says}")
    assert not list(tmp_path.glob("*.png*"))


def test_a_picture_is_a_png(home: Path) -> None:
    done = here(home, "data", "quickstart", "--picture", "who.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --picture: expected a file that ends in .png, got 'who.jpg'\n"


def test_a_folder_that_is_not_there_is_one_line(home: Path) -> None:
    done = here(home, "data", "quickstart", "--picture", "nowhere/who.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --picture: cannot write nowhere/who.png (No such file or directory); choose another file\n"
    )


def test_a_full_disk_is_one_line_and_leaves_no_half_picture(home: Path, tmp_path: Path) -> None:
    done = roundhouse(home, "data", "quickstart", "--picture", "who.png", largest_file=10_000)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --picture: cannot write who.png (File too large); choose another file\n"
    assert not list(tmp_path.glob("who*"))


AS_NOBODY = """
import os, sys
from roundhouse.cli import app
import configs.loading, federated.federation, roundhouse.holdings_table, tasks.holdings_figure
if os.geteuid() == 0:
    os.seteuid(65534)
app(["data", "quickstart", "--picture", sys.argv[1]])
"""


def test_a_write_protected_folder_is_one_line(home: Path, tmp_path: Path) -> None:
    """For root too: the command runs as nobody."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(locked / "who.png")],
        env=environment(home, {"MPLCONFIGDIR": "/tmp"}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --picture: cannot write ")
    assert line.endswith("(Permission denied); choose another file")
    assert list(locked.iterdir()) == []


def test_neither_keras_nor_a_server_is_needed_to_look(home: Path) -> None:
    code = (
        "import sys; from roundhouse.cli import app\n"
        "try: app(['data', 'breast-cancer'])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'prefect', 'mlflow', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not home.exists()
