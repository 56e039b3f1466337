"""Windows over series: against pandas' shift and plain loops, and what is told of unusable ones."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from federated.errors import DataError
from federated.sources import Windows
from federated.sources.sliding import starts
from tests.shared_data import shared_data


@pytest.fixture
def series(tmp_path):
    """Writes a table of ``lengths`` numbered values and gives a source that reads it."""

    def build(text: str, name: str = "s.csv", **fields) -> Windows:
        (tmp_path / name).write_text(text)
        return Windows(path=tmp_path / name, **fields)

    return build


def counting(rows: int) -> str:
    """Two columns: k, and 100 + k."""
    return "north,south\n" + "".join(f"{k},{100 + k}\n" for k in range(rows))


@pytest.mark.parametrize(("past", "horizon", "step"), [(1, 1, 1), (3, 1, 1), (2, 4, 1), (3, 2, 3)])
def test_an_example_is_the_past_and_its_target_the_value_so_many_steps_on(series, past, horizon, step) -> None:
    dataset = series(counting(30), past=past, horizon=horizon, step=step, test_share=0).load()
    expected = [
        ([base + first + k for k in range(past)], base + first + past - 1 + horizon)
        for base in (0, 100)
        for first in range(0, 30 - past - horizon + 1, step)
    ]
    assert dataset.rows.x.shape == (len(expected), past, 1)
    assert dataset.rows.x[..., 0].tolist() == [inputs for inputs, _ in expected]
    assert dataset.rows.y.tolist() == [target for _, target in expected]
    assert dataset.reserved is None


def test_each_column_is_a_client(series) -> None:
    dataset = series(counting(10), past=2, test_share=0).load()
    assert dataset.keys.tolist() == ["north"] * 8 + ["south"] * 8
    assert np.all((dataset.rows.y >= 100) == (dataset.keys == "south"))


def test_each_file_is_a_client_called_like_it(tmp_path) -> None:
    for name, base in (("b.csv", 100), ("a.csv.gz", 0)):
        table = pd.DataFrame({"heat": np.arange(10) + base, "rain": -np.arange(10), "where": "x"})
        table.to_csv(tmp_path / name, index=False)
    dataset = Windows(
        path=tmp_path / "*.csv*", past=2, client="file", columns=("rain", "heat"), target="heat", test_share=0
    ).load()
    assert dataset.keys.tolist() == ["a"] * 8 + ["b"] * 8
    assert dataset.rows.x[1].tolist() == [[-1, 1], [-2, 2]]
    assert dataset.rows.y[[1, 9]].tolist() == [3, 103]


def test_a_path_says_whose_file_it_is_and_where_it_lies(tmp_path, monkeypatch) -> None:
    for client in ("x", "y"):
        (tmp_path / client).mkdir()
        (tmp_path / client / "s.csv").write_text(counting(20))
    monkeypatch.setenv("MY_TABLES", str(tmp_path))
    dataset = Windows(path=Path("${MY_TABLES}/{client}/s.csv"), past=2, client="file", target="north").load()
    assert set(dataset.keys) == {"x", "y"}


def test_without_a_list_all_columns_but_the_times_are_inputs(tmp_path) -> None:
    pd.DataFrame({"t": range(9), "a": range(9), "b": range(9)}).to_csv(tmp_path / "s.csv", index=False)
    source = Windows(path=tmp_path / "s.csv", past=2, client="file", target="b", time="t", test_share=0)
    assert source.load().rows.x.shape[1:] == (2, 2)


# What is tested on


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("past", "horizon", "step"), [(1, 1, 1), (4, 3, 1), (3, 1, 2)])
def test_no_number_is_both_trained_and_tested_on(series, share, past, horizon, step) -> None:
    source = series(counting(90), past=past, horizon=horizon, step=step, test_share=share)
    dataset = source.load()
    for name in ("north", "south"):
        own = dataset.keys == name
        seen = [
            {float(value) for value in np.append(dataset.rows.x[own & part].ravel(), dataset.rows.y[own & part])}
            for part in (dataset.reserved, ~dataset.reserved)
        ]
        assert all(seen)
        assert min(seen[0]) > max(seen[1])


def test_the_last_share_of_the_time_is_reserved(series) -> None:
    dataset = series("a\n" + "".join(f"{k}\n" for k in range(100)), past=2, test_share=0.2).load()
    assert dataset.rows.x[dataset.reserved].min() == 80
    assert dataset.rows.y[~dataset.reserved].max() == 79
    assert (dataset.reserved.sum(), (~dataset.reserved).sum()) == (18, 78)


@pytest.mark.parametrize(
    ("length", "share", "cut"), [(2016, 0.2, 1612), (10, 0.3, 7), (10, 0.9, 1), (7, 0, 7), (5, 0.01, 4)]
)
def test_the_cut_leaves_at_least_the_share_behind_it(length, share, cut) -> None:
    found = starts(length, 1, 1, share)
    assert (found.train.tolist(), found.test.tolist()) == (list(range(cut)), list(range(cut, length)))


# What is missing


def holed(rows: int, *missing: int) -> str:
    return "a\n" + "".join(f"{'NA' if k in missing else k}\n" for k in range(rows))


def test_windows_over_missing_values_are_left_out(series) -> None:
    dataset = series(holed(12, 0, 5), past=2, horizon=2, missing="skip", test_share=0).load()
    starts_left = [k for k in range(9) if not {k, k + 1, k + 3} & {0, 5}]
    assert dataset.rows.x[:, 0, 0].tolist() == starts_left
    assert dataset.rows.y.tolist() == [k + 3 for k in starts_left]


def test_missing_values_are_refused_with_what_would_be_left(series) -> None:
    with pytest.raises(DataError, match=r"data\.windows\.missing: 1 of 1 clients miss .* 'a'; .* leaves 6 windows"):
        series(holed(12, 5), past=2, horizon=2, test_share=0).load()


@pytest.mark.parametrize(
    "times", [[0, 1, 2, 3, 7, 8, 9, 10, 11], ["2020-01-0" + d for d in "123478"]], ids=["numbers", "dates"]
)
def test_windows_do_not_cross_a_leap_in_time(tmp_path, times) -> None:
    table = pd.DataFrame({"when": times, "a": np.arange(len(times))})
    table.to_csv(tmp_path / "s.csv", index=False)
    dataset = Windows(path=tmp_path / "s.csv", past=2, time="when", test_share=0).load()
    left = [k for k in range(len(times) - 2) if not k < 4 <= k + 2]
    assert dataset.rows.x[:, 0, 0].tolist() == left


# Real series


def test_los_loop_is_what_pandas_shifts_to_in_a_second() -> None:
    path = shared_data("los-loop-traffic") / "los_speed.csv.gz"
    pd.read_csv(path, nrows=1)  # pandas is imported once, not here
    begin = time.perf_counter()
    dataset = Windows(path=path, past=12, horizon=3).load()
    assert time.perf_counter() - begin < 3  # a fraction of a second on an idle machine
    speeds = pd.read_csv(path)
    assert len(dataset.rows) == 207 * (1598 + 390)
    assert sorted(set(dataset.keys.tolist())) == sorted(speeds.columns)
    for sensor in speeds.columns[[0, 100, 206]]:
        column, own = speeds[sensor], dataset.keys == sensor
        lagged = pd.concat([column.shift(-k) for k in range(12)] + [column.shift(-14)], axis=1).to_numpy()
        known = np.concatenate([lagged[: 1612 - 14], lagged[1612 : 2016 - 14]]).astype(np.float32)
        np.testing.assert_array_equal(dataset.rows.x[own, :, 0], known[:, :12])
        np.testing.assert_array_equal(dataset.rows.y[own], known[:, 12])
        assert dataset.reserved[own].tolist() == [False] * 1598 + [True] * 390


def test_beijing_is_what_pandas_leaves_when_it_drops_missing_values() -> None:
    folder = shared_data("beijing-air-quality")
    columns = ("PM2.5", "TEMP", "WSPM")
    source = Windows(
        path=folder / "*.csv.gz", past=8, horizon=2, client="file", columns=columns, target="PM2.5", time="No",
        missing="skip",
    )  # fmt: skip
    dataset = source.load()
    assert len(set(dataset.keys.tolist())) == 12
    name = "PRSA_Data_Dongsi_20130301-20170228"
    table = pd.read_csv(folder / f"{name}.csv.gz")
    cut = int(len(table) * 0.8)
    known = []
    for part in (table[:cut], table[cut:]):
        shifted = [part[column].shift(-k) for k in range(8) for column in columns]
        known.append(pd.concat([*shifted, part["PM2.5"].shift(-9)], axis=1).dropna().to_numpy(np.float32))
    own = dataset.keys == name
    assert dataset.reserved[own].tolist() == [False] * len(known[0]) + [True] * len(known[1])
    flat = np.concatenate(known)
    np.testing.assert_array_equal(dataset.rows.x[own].reshape(len(flat), -1), flat[:, :-1])
    np.testing.assert_array_equal(dataset.rows.y[own], flat[:, -1])


# Faults


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"columns": ("nort",)}, r"columns: .*s\.csv has no column 'nort'; did you mean 'north'\?"),
        ({"client": "file", "target": "sout"}, r"target: .*s\.csv has no column 'sout'; did you mean 'south'\?"),
        ({"time": "hour"}, r"time: .*s\.csv has no column 'hour'; it has north, south"),
    ],
)
def test_a_misspelt_column_is_answered_with_the_closest(series, fields, told) -> None:
    with pytest.raises(DataError, match=rf"data\.windows\.{told}"):
        series(counting(20), past=2, **fields).load()


def test_a_column_named_twice_is_refused(series) -> None:
    with pytest.raises(ValidationError, match="each column may be named once"):
        series(counting(20), past=2, columns=("north", "north"))
    with pytest.raises(DataError, match=r"data\.windows\.path: .*s\.csv has two columns 'a'; rename one of them"):
        series("a,a\n1,2\n2,3\n3,4\n", past=1).load()


def test_text_among_the_columns_is_told(series) -> None:
    with pytest.raises(DataError, match=r"data\.windows\.columns: expected numbers, .*s\.csv has text in wind;"):
        series("a,wind\n1,N\n2,S\n", past=1).load()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "t,a\n1,1\n3,1\n2,1\n4,1\n",
            r"'t' must rise from line to line, in .*s\.csv it does not after row 2 \(counted from 1\)",
        ),
        ("t,a\n1,1\n,1\n3,1\n", r"s\.csv has rows without a value in 't'"),
        ("t,a\n2024-01-01,1\n,1\n2024-01-03,1\n", r"s\.csv has rows without a value in 't'"),
        ("t,a\n31/05/2024,1\n01/06/2024,1\n", r"expected numbers or dates such as .*s\.csv has '31/05/2024' in 't'"),
        ("t,a\nsoon,1\nlate,1\n", r"expected numbers or dates such as .*s\.csv has 'soon' in 't', row 1"),
        ("t,a\n0,1\n1,1\nx,1\n", r"expected numbers or dates such as .*s\.csv has 'x' in 't', row 3"),
    ],
)
def test_times_that_are_no_times_are_told(series, text, told) -> None:
    with pytest.raises(DataError, match=rf"data\.windows\.time: .*{told}"):
        series(text, past=1, time="t").load()


@pytest.mark.parametrize(
    ("rows", "share", "use"), [(4, 0, "train"), (10, 0.6, "train"), (20, 0.1, "test"), (1, 0, "train")]
)
def test_a_client_without_windows_is_named(series, rows, share, use) -> None:
    with pytest.raises(DataError, match=rf"data\.windows: client 'north' has no window to {use} on in {rows} steps"):
        series(counting(rows), past=3, horizon=2, test_share=share).load()


def test_two_files_of_one_name_cannot_be_two_clients(tmp_path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.csv").write_text(counting(20))
    with pytest.raises(DataError, match=r"data\.windows\.path: two files are client 's'"):
        Windows(path=tmp_path / "*" / "s.csv", past=2, client="file", target="north").load()


def test_columns_of_several_files_cannot_be_clients(tmp_path) -> None:
    paths = (tmp_path / "a.csv", tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"data\.windows\.path: client: column takes one table, got 2"):
        Windows(path=paths, past=2).load()


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"target": "a"}, "each column is its own target"), ({"client": "file"}, "the column to forecast is needed")],
)
def test_a_target_is_named_where_files_are_clients_and_only_there(fields, told) -> None:
    with pytest.raises(ValidationError, match=told):
        Windows(path="s.csv", past=2, **fields)
