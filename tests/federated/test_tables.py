"""A user's own table: what is read from it, and how each fault is told."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.model_selection import train_test_split

from federated.errors import DataError, PlanError
from federated.sources import Csv, Parquet

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
    with pytest.raises(DataError, match=r"data\.csv\.path: expected a CSV table, .*table\.csv is none \("):
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
    expected = r"2 rows of .*table\.csv have no value in a, y; fill or drop them \(data\.csv\.missing\)$"
    with pytest.raises(DataError, match=expected):
        csv("a,b,y\n,1,0\n1,1,1\n1,1,\n", target="y").load()


def test_an_infinite_cell_is_located(csv) -> None:
    with pytest.raises(DataError, match=r"table\.csv: NaN or infinity in 1 rows, .* row 2 \(counted from 1\)"):
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
    with pytest.raises(DataError, match=r"expected a CSV table, .* is none"):
        csv("a,b,y\n1,2,5,0\n3,4,6,1\n", target="y").load()


def test_a_number_beyond_float32_is_told_like_infinity(csv) -> None:
    with pytest.raises(DataError, match="NaN or infinity in 1 rows"):
        csv("a,y\n1e39,0\n1,1\n", target="y").load()


# Several files


def write(folder, **tables: str) -> None:
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)


def test_a_path_may_say_whose_rows_a_file_holds(tmp_path) -> None:
    write(tmp_path, site_north="a,y\n1,0\n2,1\n", site_east="a,y\n3,1\n", other="b\n1\n")
    dataset = Csv(path=tmp_path / "site_{client}.csv", target="y").load()
    assert dataset.keys.tolist() == ["east", "north", "north"]
    assert dataset.rows.x[:, 0].tolist() == [3, 1, 2]


def test_a_client_may_be_a_folder_and_its_rows_in_several_files(tmp_path) -> None:
    for name, row in {"north/1": "1,0", "north/2": "2,1", "east/1": "3,0"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.csv").write_text(f"a,y\n{row}\n")
    assert Csv(path=tmp_path / "{client}" / "*.csv", target="y").load().keys.tolist() == ["east", "north", "north"]


def test_files_are_joined_as_listed_and_columns_found_by_their_names(tmp_path) -> None:
    write(tmp_path, one="a,b,y\n1,2,0\n", two="y,b,a\n1,4,3\n")
    dataset = Csv(path=(tmp_path / "two.csv", tmp_path / "one.csv"), target="y", features=("a", "b")).load()
    assert (dataset.rows.x.tolist(), dataset.keys) == ([[3, 4], [1, 2]], None)


def test_signs_in_a_folders_name_are_no_pattern(tmp_path) -> None:
    folder = tmp_path / "[x] (1+1)"
    folder.mkdir()
    write(folder, site_a="a,y\n1,0\n2,1\n")
    assert Csv(path=folder / "site_{client}.csv", target="y").load().keys.tolist() == ["a", "a"]


def test_a_pattern_that_nothing_fits_is_told_as_it_was_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HERE", str(tmp_path))
    with pytest.raises(DataError, match=r"^data\.csv\.path: no file fits \$\{HERE\}/\{client\}\.csv$"):
        Csv(path="${HERE}/{client}.csv", target="y").load()
    write(tmp_path, a="a,y\n1,0\n2,1\n")
    assert len(Csv(path="${HERE}/{client}.csv", target="y").load().rows) == 2
    monkeypatch.delenv("HERE")
    with pytest.raises(PlanError, match=r"^data\.csv\.path: the environment has no HERE"):
        Csv(path="${HERE}/{client}.csv", target="y").load()


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("a,bb,y\n1,2,0\n", r"two\.csv has no column 'b'; did you mean 'bb'\?"),
        ("a,b,y,z\n1,2,0,1\n", r"two\.csv has a column 'z' that other files have not"),
    ],
    ids=["another", "more"],
)
def test_files_of_different_columns_are_refused(tmp_path, second, expected) -> None:
    write(tmp_path, one="a,b,y\n1,2,0\n", two=second)
    with pytest.raises(DataError, match=expected):
        Csv(path=tmp_path / "{client}.csv", target="y").load()


@pytest.mark.parametrize("names", [("St Mary", "St John", "northern"), ("1", "12", "123")])
def test_a_row_without_a_client_cuts_no_other_name_short(csv, names: tuple[str, ...]) -> None:
    rows = "".join(f"{name},{k},{k % 2}\n" for name in names for k in range(4))
    dataset = csv(f"site,a,y\n,9,1\n{rows}", target="y", client="site", missing="drop").load()
    assert sorted(set(dataset.keys)) == sorted(names)
    with pytest.raises(DataError, match=r"1 rows of .* have no value in site; fill or drop them"):
        csv(f"site,a,y\n,9,1\n{rows}", target="y", client="site").load()


def test_the_client_is_nothing_to_predict(csv) -> None:
    with pytest.raises(ValidationError, match="client and target are both 'y'"):
        csv("a,y\n1,0\n", target="y", client="y")


def test_a_word_among_numbers_is_named_with_its_row(csv) -> None:
    with pytest.raises(DataError, match=r"got text in a: 'abc' in row 3 \(counted from 1\); encode"):
        csv("a,y\n1,0\n2,1\nabc,1\n", target="y").load()


def test_rows_that_are_dropped_count_where_a_word_is_located(csv) -> None:
    with pytest.raises(DataError, match=r"'abc' in row 3 \("):
        csv("a,y\n1,0\n,1\nabc,1\n", target="y", missing="drop").load()


def test_a_clients_file_without_rows_is_named(tmp_path) -> None:
    write(tmp_path, north="a,y\n1,0\n2,1\n", south="a,y\n")
    with pytest.raises(DataError, match=r"data\.csv\.path: .*south\.csv has a header but no rows"):
        Csv(path=tmp_path / "{client}.csv", target="y").load()


# What kind of file


def test_a_file_without_a_header_takes_its_columns_from_the_plan(csv) -> None:
    dataset = csv("1;0\n2;1\n", target="y", columns=("a", "y"), separator=";").load()
    assert (dataset.rows.x.tolist(), dataset.rows.y.tolist()) == ([[1], [2]], [0, 1])


def test_more_columns_in_a_file_than_the_plan_names_are_refused(csv) -> None:
    with pytest.raises(DataError, match=r"expected a CSV table, .* is none"):
        csv("1,5,0\n2,6,1\n", target="y", columns=("a", "y")).load()


def test_a_zipped_table_is_the_table(tmp_path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,y\n1,0\n2,1\n"))
    assert Csv(path=tmp_path / "t.csv.gz", target="y").load().rows.x.tolist() == [[1], [2]]


def test_a_zipped_table_that_is_cut_short_is_refused(tmp_path) -> None:
    whole = gzip.compress("\n".join(["a,y", *(f"{n},{n % 2}" for n in range(5000))]).encode())
    for name, content in {"cut.csv.gz": whole[: len(whole) // 2], "plain.csv.gz": b"a,y\n1,0\n2,1\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"data\.csv\.path: expected a CSV table, .*{name} is none \("):
            Csv(path=tmp_path / name, target="y").load()


def test_a_parquet_table_is_read_as_a_csv_table_is(csv, tmp_path) -> None:
    source = csv(TABLE, client="site")
    pd.read_csv(source.path).to_parquet(tmp_path / "table.parquet")
    ours, theirs = source.load(), Parquet(path=tmp_path / "table.parquet", target="outcome", client="site").load()
    np.testing.assert_array_equal(ours.rows.x, theirs.rows.x)
    np.testing.assert_array_equal(ours.rows.y, theirs.rows.y)
    assert (ours.keys.tolist(), ours.labels) == (theirs.keys.tolist(), theirs.labels)


def test_a_parquet_table_may_have_whole_numbers_with_gaps(tmp_path) -> None:
    frame = pd.DataFrame({"a": pd.array([1, None, 3], "Int64"), "y": pd.array([4, 5, 4], "Int64")})
    frame.to_parquet(tmp_path / "t.parquet")
    dataset = Parquet(path=tmp_path / "t.parquet", target="y", missing=9).load()
    assert (dataset.rows.x.tolist(), dataset.labels, dataset.rows.y.tolist()) == (
        [[1], [9], [3]],
        ("4", "5"),
        [0, 1, 0],
    )


def test_a_file_that_is_no_parquet_or_cut_short_is_refused(tmp_path) -> None:
    pd.DataFrame({"a": range(100), "y": [0, 1] * 50}).to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for name, content in {"cut": whole[:-20], "text": b"a,y\n1,0\n", "empty": b""}.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        said = rf"^data\.parquet\.path: expected a Parquet table, .*{name}\.parquet is none \("
        with pytest.raises(DataError, match=said) as told:
            Parquet(path=path, target="y").load()
        assert "\n" not in str(told.value)


# Which columns, and as what


def test_dropped_columns_are_no_features(csv) -> None:
    dataset = csv(TABLE, drop=("site", "pulse")).load()
    assert dataset.rows.x.tolist() == [[50], [61], [33]]


@pytest.mark.parametrize("field", ["drop", "categorical"])
def test_a_misspelt_column_is_told_with_its_field(csv, field) -> None:
    with pytest.raises(DataError, match=rf"data\.csv\.{field}: .* has no column 'sit'; did you mean 'site'\?"):
        csv(TABLE, **{field: {"sit": "one_hot"} if field == "categorical" else ("sit",)}).load()


@pytest.mark.parametrize("column", ["outcome", "site"])
def test_what_is_no_feature_is_not_categorical(csv, column) -> None:
    with pytest.raises(DataError, match=rf"categorical: '{column}' is the target, the client or dropped; leave it out"):
        csv(TABLE, client="site", categorical={column: "one_hot"}).load()
    with pytest.raises(DataError, match="categorical: 'site' is not among the features"):
        csv(TABLE, features=("age",), categorical={"site": "one_hot"}).load()


LEVELS = "ward,code,age,y\nb,3,1,0\na,1,2,1\nc,2,3,0\na,3,4,1\n"


@pytest.mark.parametrize(("how", "drop_first"), [("one_hot", False), ("dummy", True)])
def test_levels_become_the_columns_that_pandas_makes(csv, how, drop_first) -> None:
    frame = pd.DataFrame({"ward": list("baca"), "code": [3, 1, 2, 3], "age": [1, 2, 3, 4]})
    parts = [pd.get_dummies(frame[name], drop_first=drop_first) for name in ("ward", "code")]
    expected = np.hstack([*(part.to_numpy(float) for part in parts), frame[["age"]]])
    dataset = csv(LEVELS, target="y", categorical={"code": how, "ward": how}).load()
    np.testing.assert_array_equal(dataset.rows.x, expected)


def test_ordinal_levels_are_their_places(csv) -> None:
    dataset = csv(LEVELS, target="y", categorical={"ward": "ordinal", "code": "ordinal"}).load()
    assert dataset.rows.x.tolist() == [[1, 2, 1], [0, 0, 2], [2, 1, 3], [0, 2, 4]]


def test_levels_are_those_of_all_clients(tmp_path) -> None:
    write(tmp_path, one="ward,y\n1,0\n2,1\n", two="ward,y\nx,0\n2,1\n")
    dataset = Csv(path=tmp_path / "{client}.csv", target="y", categorical={"ward": "one_hot"}).load()
    assert dataset.rows.x.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_a_number_makes_two_classes_of_a_target(csv) -> None:
    dataset = csv("a,y\n1,0\n2,3\n3,1\n", target="y", target_above=0).load()
    assert (dataset.labels, dataset.rows.y.tolist()) == (("at most 0", "above 0"), [0, 1, 1])


@pytest.mark.parametrize(("bound", "word"), [(-1, "every"), (3, "no")])
def test_a_number_that_leaves_one_class_is_refused(csv, bound, word) -> None:
    with pytest.raises(DataError, match=rf"data\.csv\.target_above: {word} y is above {bound}, and a classifier"):
        csv("a,y\n1,0\n2,3\n3,1\n", target="y", target_above=bound).load()


# Missing values

GAPS = "a,ward,site,y\n1,x,n,0\n?,x,n,1\n3,,n,1\n4,x,s,0\n5,x,s,1\n"


def test_rows_with_gaps_are_dropped_before_levels_are_counted(csv) -> None:
    gaps = GAPS.replace("?,x", "?,z")
    dataset = csv(gaps, target="y", client="site", categorical={"ward": "one_hot"}, marks=("?",), missing="drop").load()
    assert dataset.rows.x.tolist() == [[1, 1], [4, 1], [5, 1]]
    assert dataset.keys.tolist() == ["n", "s", "s"]


def test_a_refused_gap_is_told_with_its_client(csv) -> None:
    with pytest.raises(DataError, match=r"2 rows of .* have no value in a, ward, of client 'n'; fill or drop them"):
        csv(GAPS, target="y", client="site", categorical={"ward": "dummy"}, marks=("?",)).load()


def test_a_client_that_loses_all_rows_is_named(csv) -> None:
    with pytest.raises(
        DataError, match=r"data\.csv\.missing: drop leaves no row of client 'n'; drop columns that lack"
    ):
        csv("a,site,y\n,n,0\n3,s,1\n4,s,0\n", target="y", client="site", missing="drop").load()
    with pytest.raises(DataError, match=r"data\.csv\.missing: drop leaves no row of .*table\.csv; drop columns that"):
        csv("a,y\n,0\n,1\n", target="y", missing="drop").load()


def test_a_number_fills_numbers_and_nothing_else(csv) -> None:
    assert csv("a,y\n1,0\n,1\n", target="y", missing=-1).load().rows.x.tolist() == [[1], [-1]]
    with pytest.raises(DataError, match=r"have no value in ward, of client 'n'; .*only numbers among the features"):
        csv(GAPS, target="y", client="site", categorical={"ward": "dummy"}, marks=("?",), missing=-1).load()


@pytest.mark.parametrize("by", ["mean", "median"])
def test_what_the_training_rows_will_fill_is_left_open(csv, by) -> None:
    dataset = csv("a,b,y\n1,5,0\n,6,1\n", target="y", missing=by).load()
    assert dataset.rows.x.tolist() == [[1, 5], [0, 6]]
    assert (dataset.blanks.where.tolist(), dataset.blanks.by) == ([[False, False], [True, False]], by)


@pytest.mark.parametrize("missing", ["refuse", "drop"])
@pytest.mark.parametrize("name", ["NA", "nan", "None", "null"])
def test_a_client_may_be_called_as_a_missing_value_is(csv, missing, name) -> None:
    found = csv(f"a,site,y\n1,{name},0\n2,s,1\n", target="y", client="site", missing=missing).load()
    assert found.keys.tolist() == [name, "s"]


def test_a_mark_names_no_client(csv) -> None:
    with pytest.raises(DataError, match=r"1 rows of .* have no value in site"):
        csv("a,site,y\n1,?,0\n2,s,1\n", target="y", client="site", marks=("?",)).load()


@pytest.mark.parametrize("header", ["a,y,y", 'a,"y",y', "\ufeffa,y,y"])
def test_a_header_that_names_a_column_twice_is_refused(csv, header) -> None:
    with pytest.raises(DataError, match=r"data\.csv\.path: .*table\.csv has two columns 'y'; rename one of them"):
        csv(f"{header}\n1,0,0\n2,1,1\n", target="y").load()


def test_columns_without_a_name_are_no_columns_of_one_name(csv) -> None:
    assert csv("a,,,y\n1,2,3,0\n2,3,4,1\n", target="y").load().rows.x.tolist() == [[1, 2, 3], [2, 3, 4]]


@pytest.mark.parametrize("missing", ["refuse", 0])
def test_a_row_that_is_nobodys_is_refused(csv, missing) -> None:
    with pytest.raises(DataError, match=r"1 rows of .* have no value in site"):
        csv("a,site,y\n1,,0\n2,s,1\n", target="y", client="site", missing=missing).load()


# Rows set apart


def sites(rows: dict[str, list[int]]) -> str:
    lines = [f"{number},{site},{y}" for site, ys in rows.items() for number, y in enumerate(ys)]
    return "\n".join(["a,site,y", *lines])


def test_rows_are_set_apart_as_scikit_learn_draws_them_for_each_client(csv) -> None:
    ys = {"n": [0, 1, 1] * 9, "s": [0, 0] + [1] * 20}
    dataset = csv(sites(ys), target="y", client="site", split={"test": 0.34, "seed": 43}).load()
    for site, strata in (("n", ys["n"]), ("s", None)):  # two rows of a class are too few
        _, test = train_test_split(range(len(ys[site])), test_size=0.34, random_state=43, stratify=strata)
        np.testing.assert_array_equal(np.flatnonzero(dataset.reserved[dataset.keys == site]), sorted(test))


def test_a_table_that_is_nobodys_is_split_as_one(csv) -> None:
    table = "a,y\n" + "\n".join(f"{n},{n % 2}" for n in range(30))
    dataset = csv(table, target="y", split={"test": 0.2, "seed": 1, "stratify": "always"}).load()
    assert dataset.reserved.sum() == 6
    assert dataset.rows.y[dataset.reserved].sum() == 3


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_split_may_go_by_no_class(csv, task) -> None:
    table = sites({"n": [0, 1, 1] * 9})
    _, test = train_test_split(range(27), test_size=0.5, random_state=3)
    split = {"test": 0.5, "seed": 3, "stratify": "never"}
    dataset = csv(table, target="y", client="site", task=task, split=split).load()
    np.testing.assert_array_equal(np.flatnonzero(dataset.reserved), sorted(test))


def test_a_client_of_one_class_can_be_split(csv) -> None:
    table = sites({"n": [0, 1] * 6, "s": [1] * 10})
    for stratify in ("where_possible", "always"):
        split = {"test": 0.3, "seed": 0, "stratify": stratify}
        dataset = csv(table, target="y", client="site", split=split).load()
        assert [int(dataset.reserved[dataset.keys == site].sum()) for site in "ns"] == [4, 3]


def test_a_client_with_one_row_of_a_class_is_named_where_each_must_be_split(csv) -> None:
    split = {"test": 0.3, "seed": 0, "stratify": "always"}
    expected = r"data\.csv\.split: client 's' has 1 row of class number 0, .*; use where_possible"
    with pytest.raises(DataError, match=expected):
        csv(sites({"n": [0, 1] * 6, "s": [1, 0, 1]}), target="y", client="site", split=split).load()


def test_a_client_with_too_few_rows_to_split_is_named(csv) -> None:
    with pytest.raises(DataError, match=r"data\.csv\.split: the 1 rows of client 's' cannot be split \("):
        csv(sites({"n": [0, 1] * 6, "s": [1]}), target="y", client="site", split={"test": 0.3, "seed": 0}).load()


def test_features_are_called_like_their_columns_and_levels(csv) -> None:
    coded = {"b": "one_hot", "c": "dummy", "d": "ordinal"}
    dataset = csv("a,b,c,d,y\n1,u,7,x,0\n2,v,9,z,1\n", target="y", categorical=coded).load()
    assert dataset.features == ("a", "b=u", "b=v", "c=9", "d")
