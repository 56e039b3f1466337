"""A user's own table: what is read from it, and how each fault is told."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from federated.errors import DataError
from federated.sources import Csv

TABLE = "age,pulse,site,outcome\n50,60.5,north,well\n61,72,south,ill\n33,80,north,well\n"


@pytest.fixture
def csv(tmp_path):
    """Writes a table and gives a source that reads it."""

    def build(text: str | bytes, target: str = "outcome", **fields) -> Csv:
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Csv(path=path, target=target, **fields)

    return build


def test_a_classification_names_its_classes_in_order(csv) -> None:
    dataset = csv(TABLE, features=("age", "pulse")).load()
    assert dataset.labels == ("ill", "well")
    assert dataset.rows.y.tolist() == [1, 0, 1]
    assert dataset.rows.y.dtype == np.int32
    np.testing.assert_array_equal(dataset.rows.x, [[50, 60.5], [61, 72], [33, 80]])
    assert dataset.keys is None


def test_numeric_classes_are_sorted_as_numbers(csv) -> None:
    dataset = csv("a,y\n1,10\n2,9\n3,10\n", target="y").load()
    assert (dataset.labels, dataset.rows.y.tolist()) == (("9", "10"), [1, 0, 1])


def test_a_regression_takes_the_target_as_it_is(csv) -> None:
    dataset = csv(TABLE, target="pulse", task="regression", features=("age",)).load()
    assert dataset.labels is None
    assert dataset.rows.y.dtype == np.float32
    assert dataset.rows.y.tolist() == [60.5, 72, 80]


def test_without_a_list_features_are_all_columns_but_target_and_client(csv) -> None:
    dataset = csv(TABLE, client="site").load()
    np.testing.assert_array_equal(dataset.rows.x, [[50, 60.5], [61, 72], [33, 80]])
    assert dataset.rows.x.dtype == np.float32


def test_features_come_in_the_order_asked_for(csv) -> None:
    dataset = csv(TABLE, features=("pulse", "age")).load()
    np.testing.assert_array_equal(dataset.rows.x[0], [60.5, 50])


def test_the_client_column_says_whose_row_it_is(csv) -> None:
    assert csv(TABLE, client="site").load().keys.tolist() == ["north", "south", "north"]


def test_numbers_may_name_clients_and_truth_values_may_be_features(csv) -> None:
    dataset = csv("smokes,ward,y\nTrue,7,0\nFalse,12,1\n", target="y", client="ward").load()
    assert dataset.keys.tolist() == ["7", "12"]
    assert dataset.rows.x.tolist() == [[1], [0]]


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.csv\.path: there is no file .*absent\.csv; name"):
        Csv(path=tmp_path / "absent.csv", target="y").load()


def test_a_folder_is_no_file(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.csv\.path: cannot read .*directory"):
        Csv(path=tmp_path, target="y").load()


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "a,y\n1,2\n1,2,3,4,5\n", b"\x89PNG\r\n\x1a\n\x00\x00\xff"],
    ids=["empty", "blank", "ragged", "picture"],
)
def test_what_is_no_table_is_refused(csv, text) -> None:
    with pytest.raises(DataError, match=r"data\.csv\.path: .*table\.csv is no CSV table \("):
        csv(text).load()


@pytest.mark.parametrize("field", ["target", "client"])
def test_a_misspelt_column_is_answered_with_the_closest(csv, field) -> None:
    fields = {"target": "pulse", field: "outcom"}
    expected = rf"data\.csv\.{field}: .* has no column 'outcom'; did you mean 'outcome'\?"
    with pytest.raises(DataError, match=expected):
        csv(TABLE, **fields).load()


def test_a_misspelt_feature_is_answered_with_the_closest(csv) -> None:
    expected = r"data\.csv\.features: .* has no column 'agee'; did you mean 'age'\?"
    with pytest.raises(DataError, match=expected):
        csv(TABLE, features=("agee",)).load()


def test_a_column_like_no_other_is_answered_with_all_there_are(csv) -> None:
    expected = r"no column 'zzz'; it has age, pulse, site, outcome"
    with pytest.raises(DataError, match=expected):
        csv(TABLE, target="zzz").load()


def test_text_among_the_features_is_told_by_column(csv) -> None:
    expected = r"data\.csv\.features: expected numbers, got text in site; encode them"
    with pytest.raises(DataError, match=expected):
        csv(TABLE).load()


def test_text_as_the_target_of_a_regression_is_told(csv) -> None:
    with pytest.raises(DataError, match=r"data\.csv\.target: expected numbers, got text in outcome"):
        csv(TABLE, task="regression", features=("age",)).load()


def test_missing_cells_are_counted_and_told_by_column(csv) -> None:
    expected = r"2 rows of .*table\.csv have no value in a, y; fill or drop them"
    with pytest.raises(DataError, match=expected):
        csv("a,b,y\n,1,0\n1,1,1\n1,1,\n", target="y").load()


def test_an_infinite_cell_is_located(csv) -> None:
    with pytest.raises(DataError, match=r"table\.csv: NaN or infinity in 1 rows, .* row 1"):
        csv("a,y\n1,0\ninf,1\n", target="y").load()


def test_one_class_is_not_a_classification(csv) -> None:
    with pytest.raises(DataError, match=r"at least 2 classes, got \['0'\]"):
        csv("a,y\n1,0\n2,0\n", target="y").load()


def test_a_header_without_rows_is_told_as_no_rows(csv) -> None:
    with pytest.raises(DataError, match="no rows"):
        csv("a,b,y\n", target="y").load()


@pytest.mark.parametrize("leak", ["y", "who"])
def test_target_and_client_column_are_no_features(csv, leak) -> None:
    with pytest.raises(DataError):
        csv("a,who,y\n1,0,0\n2,1,1\n", target="y", client="who", features=("a", leak)).load()


def test_a_feature_named_twice_is_refused(csv) -> None:
    with pytest.raises(ValidationError, match="each column may be named once"):
        csv("a,y\n1,0\n2,1\n", target="y", features=("a", "a"))


def test_missing_cells_in_a_column_that_is_not_used_do_not_matter(csv) -> None:
    assert len(csv("a,note,y\n1,,0\n2,x,1\n", target="y", features=("a",)).load().rows) == 2


def test_rows_wider_than_the_header_are_refused(csv) -> None:
    with pytest.raises(DataError, match="no CSV table"):
        csv("a,b,y\n1,2,5,0\n3,4,6,1\n", target="y").load()


def test_a_number_beyond_float32_is_told_like_infinity(csv) -> None:
    with pytest.raises(DataError, match="NaN or infinity in 1 rows"):
        csv("a,y\n1e39,0\n1,1\n", target="y").load()
