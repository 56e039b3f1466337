"""Sources that read users' files: laws over all of them, and how their faults are told."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources import Csv, Idx, Images, Npz, Parquet, Ratings, Source, Text, Windows
from federated.sources.reading import content, hint, table
from federated.sources.table_files import TableFile, table_files
from tests.federated.families import SOURCES, SOURCES_WITHOUT_A_FILE
from tests.federated.idx_files import packed_idx


def csv_file(folder: Path) -> Source:
    (folder / "t.csv").write_text("a,y\n1,no\n2,yes\n")
    return Csv(path=folder / "t.csv", target="y")


def parquet_file(folder: Path) -> Source:
    pd.DataFrame({"a": [1, 2], "y": ["no", "yes"]}).to_parquet(folder / "t.parquet")
    return Parquet(path=folder / "t.parquet", target="y")


def npz_file(folder: Path) -> Source:
    np.savez(folder / "a.npz", x=np.eye(3), y=np.array([0, 1, 1]))
    return Npz(path=folder / "a.npz")


def idx_files(folder: Path) -> Source:
    (folder / "images").write_bytes(packed_idx(np.arange(8, dtype=np.uint8).reshape(2, 2, 2)))
    (folder / "labels").write_bytes(packed_idx(np.array([3, 7], np.uint8)))
    return Idx(path=folder, images="images", labels="labels", test_images=None, test_labels=None)


def picture_files(folder: Path) -> Source:
    for name in ("cat", "dog"):
        (folder / name).mkdir(exist_ok=True)
        Image.new("RGB", (3, 2), "red").save(folder / name / "1.png")
    return Images(path=folder, size=(2, 3))


def series_file(folder: Path) -> Source:
    (folder / "s.csv").write_text("north,south\n" + "".join(f"{k},{k * k}\n" for k in range(20)))
    return Windows(path=folder / "s.csv", past=2)


def ratings_file(folder: Path) -> Source:
    (folder / "r.csv").write_text("user,item,rating\n7,3,5\n7,4,1\n9,3,2.5\n")
    return Ratings(path=folder / "r.csv")


def play_file(folder: Path) -> Source:
    (folder / "p.txt").write_text("ANN:\nabcabcabcabc\n\nBOB:\ncabcabcabcabc\n")
    return Text(path=folder / "p.txt", past=2)


WRITERS = {
    Csv: csv_file,
    Parquet: parquet_file,
    Npz: npz_file,
    Idx: idx_files,
    Images: picture_files,
    Windows: series_file,
    Ratings: ratings_file,
    Text: play_file,
}
each_kind = pytest.mark.parametrize("write", WRITERS.values(), ids=[source.__name__ for source in WRITERS])


def test_every_source_that_reads_files_is_in_the_table() -> None:
    assert set(WRITERS) == {type(source) for source in SOURCES} - {type(source) for source in SOURCES_WITHOUT_A_FILE}


@each_kind
def test_a_source_of_files_yields_the_same_rows_each_time(write: Callable[[Path], Source], tmp_path) -> None:
    source = write(tmp_path)
    first, again = source.load(), source.load()
    assert first.rows.sha256 == again.rows.sha256
    assert first.labels == again.labels
    np.testing.assert_array_equal(first.keys, again.keys)


@each_kind
def test_a_source_of_files_yields_what_models_take(write: Callable[[Path], Source], tmp_path) -> None:
    dataset = write(tmp_path).load()
    assert dataset.rows.x.dtype == np.float32
    assert dataset.rows.x.ndim >= 2
    assert dataset.rows.y.dtype == (np.float32 if dataset.labels is None else np.int32)


@each_kind
def test_a_source_of_files_says_which_it_read(write: Callable[[Path], Source], tmp_path) -> None:
    source = write(tmp_path)
    origin = source.load().origin
    assert origin.startswith(f"data.{source.kind} ")
    assert str(tmp_path) in origin


@each_kind
def test_what_is_not_there_is_named_with_its_field(write: Callable[[Path], Source], tmp_path) -> None:
    absent = write(tmp_path).model_copy(update={"path": tmp_path / "nowhere" / "absent.bin"})
    with pytest.raises(DataError, match=rf"data\.{absent.kind}\.\w+: .*nowhere"):
        absent.load()


SINGLE = [Npz(path="p"), Windows(path="p", past=2), Ratings(path="p"), Text(path="p")]


@pytest.mark.parametrize("source", SINGLE, ids=lambda source: source.kind)
@pytest.mark.parametrize(
    "held", [b"", b"\x89PNG\r\n\x1a\n\x00\x00\xff", b"\xff\xfe"], ids=["empty", "picture", "bytes"]
)
def test_a_file_of_another_format_is_named_with_what_was_expected(source, held, tmp_path) -> None:
    path = tmp_path / "wrong.dat"
    path.write_bytes(held)
    with pytest.raises(DataError, match=rf"data\.{source.kind}\.path: .*wrong\.dat") as raised:
        source.model_copy(update={"path": path}).load()
    assert "expected" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("source", SINGLE, ids=lambda source: source.kind)
@pytest.mark.parametrize("keep", [5, 40, -9], ids=["in the header", "in the middle", "at the end"])
def test_a_truncated_gzip_file_is_named(source, keep, tmp_path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(200))[:keep])
    with pytest.raises(DataError, match=rf"data\.{source.kind}\.path: expected a whole gzip file, .*cut\.gz is trunc"):
        source.model_copy(update={"path": path}).load()


def test_a_damaged_gzip_file_is_named(tmp_path) -> None:
    whole = bytearray(gzip.compress(b"some text" * 50))
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(whole)
    with pytest.raises(
        DataError, match=r"data\.x\.path: expected a whole gzip file, .*damaged\.gz is truncated or dam"
    ):
        content("data.x.path", path)


def test_gzip_is_told_by_content_not_by_name(tmp_path) -> None:
    path = tmp_path / "plain.csv"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert content("data.x", path) == b"a,b\n1,2\n"
    assert table("data.x", path)["b"].tolist() == [2]


def test_a_file_with_a_name_close_by_is_suggested(tmp_path) -> None:
    (tmp_path / "train-images").touch()
    with pytest.raises(DataError, match=r"data\.x: there is no file .*train-image; did you mean 'train-images'\?"):
        content("data.x", tmp_path / "train-image")


def test_a_folder_is_no_file(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.x: cannot read .*directory"):
        content("data.x", tmp_path)


def test_a_pattern_stands_for_its_files_in_order(tmp_path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).touch()
    a, b, c = (TableFile(tmp_path / name, None) for name in ("a.csv", "b.csv", "c.txt"))
    assert table_files("data.x", [tmp_path / "*.csv"]) == [a, b]
    assert table_files("data.x", [c.path, a.path]) == [c, a]
    with pytest.raises(DataError, match=r"data\.x: no file fits .*\*\.parquet"):
        table_files("data.x", [tmp_path / "*.parquet"])


def test_a_separator_of_several_characters_is_taken_as_written(tmp_path) -> None:
    path = tmp_path / "r.dat"
    path.write_text("1||2\n3||4\n")
    assert table("data.x", path, "||", None).to_numpy().tolist() == [[1, 2], [3, 4]]


def test_a_table_without_rows_or_with_ragged_ones_is_refused(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    with pytest.raises(DataError, match=r"data\.x: .*t\.csv has a header but no rows"):
        table("data.x", path)
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match=r"data\.x: expected a table, .*t\.csv is none"):
        table("data.x", path)


def test_names_like_no_other_are_answered_with_the_first_ten() -> None:
    assert hint("sped", ["speed", "weight"]) == "did you mean 'speed'?"
    assert hint("zz", "abc") == "it has a, b, c"
    assert hint("zz", [str(name) for name in range(11)]) == "it has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 …"


def test_as_many_marks_of_reserved_rows_as_rows() -> None:
    rows = Split(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    with pytest.raises(DataError, match=r"data\.x: 2 rows but 3 marks of reserved rows"):
        Dataset(rows, None, "data.x", reserved=np.zeros(3, np.bool_))


def test_a_path_may_begin_at_the_users_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert content("data.x", Path("~/t.csv")) == b"a\n1\n"
    assert table_files("data.x", [Path("~/*.csv")]) == [TableFile(tmp_path / "t.csv", None)]
    monkeypatch.setenv("MY_TABLES", str(tmp_path))
    assert content("data.x", Path("${MY_TABLES}/t.csv")) == b"a\n1\n"
