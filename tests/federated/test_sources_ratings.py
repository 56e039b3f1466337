"""Ratings: against plain loops over the file, and how each fault is told."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from federated.errors import DataError
from federated.sources import Ratings
from tests.shared_data import shared_data

TABLE = "user,item,rating,when\n10,b,5,x\n9,a,3.5,y\n10,a,1,\n"


@pytest.fixture
def ratings(tmp_path):
    def build(text: str, **fields) -> Ratings:
        (tmp_path / "r.csv").write_text(text)
        return Ratings(path=tmp_path / "r.csv", **fields)

    return build


def test_each_user_is_a_client(ratings) -> None:
    dataset = ratings(TABLE).load()
    assert dataset.keys.tolist() == ["10", "9", "10"]
    assert dataset.rows.y.tolist() == [5, 3.5, 1]
    assert dataset.labels is None


def test_numbers_are_places_among_the_ids_sorted_as_numbers_where_they_are_numbers(ratings) -> None:
    assert ratings(TABLE).load().rows.x.tolist() == [[1, 1], [0, 0], [1, 0]]  # 9 before 10


def test_ids_may_be_the_numbers(ratings) -> None:
    source = ratings("user,item,rating\n10,7,5\n9,3,1\n", numbers="ids")
    assert source.load().rows.x.tolist() == [[10, 7], [9, 3]]


def test_with_ids_as_numbers_a_new_id_changes_no_row(ratings) -> None:
    text = "user,item,rating\n10,7,5\n9,3,1\n"
    before = ratings(text, numbers="ids").load().rows.x
    after = ratings(text + "1,1,1\n", numbers="ids").load().rows.x
    np.testing.assert_array_equal(before, after[:2])


def test_ids_are_taken_as_they_are_written(ratings) -> None:
    dataset = ratings("user,item,rating\nNA,1,5\n007,2,1\n7,2,1\n").load()
    assert dataset.keys.tolist() == ["NA", "007", "7"]
    assert len(set(dataset.rows.x[:, 0].tolist())) == 3


def test_without_a_header_columns_are_positions(ratings) -> None:
    dataset = ratings("5;2;10\n1;4;9\n", user=2, item=1, rating=0, separator=";").load()
    assert dataset.keys.tolist() == ["10", "9"]
    assert (dataset.rows.x.tolist(), dataset.rows.y.tolist()) == ([[1, 0], [0, 1]], [5, 1])


@pytest.mark.parametrize("numbers", ["places", "ids"])
def test_movielens_is_what_a_plain_loop_reads(numbers) -> None:
    path = shared_data("movielens-100k") / "u.data"
    source = Ratings(path=path, user=0, item=1, rating=2, separator="\t", numbers=numbers)
    dataset = source.load()
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    first = 1 if numbers == "places" else 0  # the file's ids begin at 1 and leave none out
    assert dataset.rows.x.tolist() == [[int(user) - first, int(item) - first] for user, item, *_ in lines]
    assert dataset.rows.y.tolist() == [float(stars) for _, _, stars, _ in lines]
    counts = Counter(dataset.keys.tolist())
    assert counts == Counter(user for user, *_ in lines)
    assert (len(counts), min(counts.values()), max(counts.values())) == (943, 20, 737)
    assert dataset.rows.y.mean(dtype=np.float64) == pytest.approx(3.52986, abs=1e-9)


@pytest.mark.parametrize(
    ("field", "wrong", "meant"), [("user", "usr", "user"), ("item", "items", "item"), ("rating", "ratin", "rating")]
)
def test_a_misspelt_column_is_answered_with_the_closest(ratings, field, wrong, meant) -> None:
    with pytest.raises(
        DataError, match=rf"data\.ratings\.{field}: .*r\.csv has no column '{wrong}'; did you .* '{meant}'"
    ):
        ratings(TABLE, **{field: wrong}).load()


def test_a_position_that_is_not_there_is_answered_with_those_there_are(ratings) -> None:
    with pytest.raises(DataError, match=r"data\.ratings\.rating: .* has no column 7; it has 0, 1, 2"):
        ratings("1,2,3\n", user=0, item=1, rating=7).load()


@pytest.mark.parametrize(
    ("cell", "told"),
    [("", "'nan'|''"), ("five", "'five'"), ("nan", "'nan'")],
)
def test_a_rating_that_is_no_number_is_located(ratings, cell, told) -> None:
    with pytest.raises(
        DataError,
        match=rf"data\.ratings\.rating: .* 1 rows of .*r\.csv .* row 2 \(counted from 1\) with ({told}), of user '007'",
    ):
        ratings(f"user,item,rating\n1,1,1\n007,2,{cell}\n").load()


@pytest.mark.parametrize(("row", "field"), [(",2,1", "user"), (" ,2,1", "user"), ("2,,1", "item")])
def test_a_row_without_an_id_is_located(ratings, row, field) -> None:
    with pytest.raises(
        DataError, match=rf"data\.ratings\.{field}: 1 rows of .*r\.csv have none, the first is row 2 \(counted from 1\)"
    ):
        ratings(f"user,item,rating\n1,1,1\n{row}\n").load()


@pytest.mark.parametrize("separator", [",", "::"])
def test_a_line_that_ends_before_its_user_is_located(ratings, separator) -> None:
    text = "item,rating,user\n1,1,1\n2,1\n".replace(",", separator)
    with pytest.raises(DataError, match=r"data\.ratings\.user: 1 rows of .*r\.csv have none, the first is row 2 "):
        ratings(text, separator=separator).load()


@pytest.mark.parametrize("columns", [{}, {"user": 0, "item": 1, "rating": 2}])
@pytest.mark.parametrize(("separator", "found"), [(",", ";"), ("\t", ","), ("::", "\t")])
def test_another_separator_is_told_with_the_first_line(ratings, separator, found, columns) -> None:
    text = "\nuser,item,rating\n1,1,1\n".replace(",", found)
    told = f"data.ratings.separator: expected {separator!r} between columns, "
    begins = f"begins with {f'user{found}item{found}rating'!r}; set the separator that it has"
    with pytest.raises(DataError, match=re.escape(told) + r".*r\.csv " + re.escape(begins)):
        ratings(text, separator=separator, **columns).load()


def test_ids_that_are_no_numbers_cannot_be_the_numbers(ratings) -> None:
    with pytest.raises(DataError, match=r"data\.ratings\.numbers: .* has item 'b'; use numbers: places"):
        ratings(TABLE, numbers="ids").load()


@pytest.mark.parametrize("large", [str(2**24), "9" * 30])
def test_ids_that_float32_cannot_hold_are_refused(ratings, large) -> None:
    with pytest.raises(DataError, match=r"data\.ratings\.item: numbers must lie below 16,777,216, .*r\.csv has larger"):
        ratings(f"user,item,rating\n1,{large},1\n2,2,2\n", numbers="ids").load()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"user": 0}, "three names, or three positions"),
        ({"user": 0, "item": 0, "rating": 1}, "are three columns, got 0, 0, 1"),
        ({"user": -1, "item": 0, "rating": 1}, "positions begin at 0, got -1, 0, 1"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(fields, told) -> None:
    with pytest.raises(ValidationError, match=told):
        Ratings(path="r.csv", **fields)
