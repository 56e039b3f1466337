"""Files in any store, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from federated.errors import InputError, TrackingError
from tasks.store import DamagedError, Store

CONTENTS = [b"", b"x", b"\x00\xff\n", bytes(range(256)) * 4096]


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind, with nothing in it."""
    return str(tmp_path / "checkpoints") if request.param == "local" else f"memory://{tmp_path.name}"


def overwrite(url: str, name: str, content: bytes) -> None:
    """Changes a file behind the store's back."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/records/{name}", content)


def files_below(folder: Path) -> list[str]:
    """Every file, hidden ones too."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", CONTENTS, ids=["empty", "a byte", "binary", "a megabyte"])
def test_what_is_read_is_what_was_written(url: str, content: bytes) -> None:
    name = Store(url).write("states", "000001", ".safetensors", content)
    assert Store(url).read("states", name) == content


def test_a_name_has_the_digest_of_its_content(url: str) -> None:
    name = Store(url).write("records", "000007", ".json", b"said")
    assert name == f"000007-{hashlib.sha256(b'said').hexdigest()}.json"


def test_the_same_content_again_is_the_same_file(url: str) -> None:
    store = Store(url)
    assert store.write("records", "000001", ".json", b"said") == store.write("records", "000001", ".json", b"said")
    assert len(store.names("records")) == 1


def test_another_content_does_not_replace_a_file(url: str) -> None:
    store = Store(url)
    names = [store.write("records", "000001", ".json", content) for content in (b"first", b"second")]
    assert [store.read("records", name) for name in names] == [b"first", b"second"]


def test_names_are_sorted_and_a_folder_that_does_not_exist_has_none(url: str) -> None:
    store = Store(url)
    assert store.names("records") == []
    names = [store.write("records", f"{number:06d}", ".json", b"") for number in (10, 2, 0)]
    assert store.names("records") == names[::-1]
    assert store.names("states") == []


def test_a_listing_has_what_another_process_wrote_since(url: str) -> None:
    reader, writer = Store(url), Store(url)
    names = [writer.write("records", "000000", ".json", b"")]
    assert reader.names("records") == names
    names.append(writer.write("records", "000001", ".json", b""))
    assert reader.names("records") == names


def test_a_store_that_remembers_listings_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listings: dict[str, list[Any]] = {}
    really_list = MemoryFileSystem.ls

    def remembering(fs: MemoryFileSystem, path: str, detail: bool = True) -> list[Any]:
        return listings.setdefault(path, really_list(fs, path, detail))

    monkeypatch.setattr(MemoryFileSystem, "ls", remembering)
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda *_: listings.clear())
    store = Store(f"memory://{tmp_path.name}")
    for count in (1, 2):
        store.write("records", f"{count:06d}", ".json", b"")
        assert len(store.names("records")) == count


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    for folder in ("with a blank", "[1]*?", "Zürich#50%", "trailing/"):
        store = Store(f"{tmp_path}/{folder}")
        name = store.write("records", "000000", ".json", b"said")
        assert store.names("records") == [name]
        assert store.read("records", name) == b"said"


CONTENT = b"a" * 1000 + b"b" * 1000


@pytest.mark.parametrize(
    "damaged",
    [b"", CONTENT[:1000], CONTENT[:-1], CONTENT + b"b", CONTENT[:-1] + b"c", bytes(len(CONTENT))],
    ids=["empty", "half", "a byte less", "a byte more", "another byte", "zeros"],
)
def test_a_torn_or_changed_file_is_seen_when_it_is_read(url: str, damaged: bytes) -> None:
    store = Store(url)
    name = store.write("records", "000001", ".json", CONTENT)
    overwrite(url, name, damaged)
    with pytest.raises(DamagedError, match=rf"records/{name} is damaged: its SHA-256 is not the one in its name"):
        store.read("records", name)


def test_a_missing_file_is_damage_too(url: str) -> None:
    store = Store(url)
    name = store.write("records", "000001", ".json", CONTENT)
    store.delete("records", name)
    with pytest.raises(DamagedError, match=rf"records/{name} is missing"):
        store.read("records", name)


def test_deleting_leaves_the_others_and_does_not_mind_what_is_gone(url: str) -> None:
    store = Store(url)
    first, second = (store.write("records", stem, ".json", b"") for stem in ("000001", "000002"))
    store.delete("records", first)
    store.delete("records", first)
    assert store.names("records") == [second]


def test_a_listing_hides_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = store.write("records", "000001", ".json", CONTENT)
    (tmp_path / "records" / f".{name}.4711").write_bytes(CONTENT[:7])
    assert store.names("records") == [name]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Store(str(tmp_path)).write("records", "000001", ".json", CONTENT)
    assert files_below(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[list[str], int, int]] = []

    def look(descriptor: int) -> None:
        about = os.fstat(descriptor)
        found.append((Store(str(tmp_path)).names("records"), about.st_size, about.st_ino))

    monkeypatch.setattr(os, "fsync", look)
    name = Store(str(tmp_path)).write("records", "000001", ".json", CONTENT)
    assert found[0] == ([], len(CONTENT), (tmp_path / "records" / name).stat().st_ino)


def test_a_name_is_on_the_disk_before_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[list[str], int]] = []

    def look(descriptor: int) -> None:
        found.append((Store(str(tmp_path)).names("records"), os.fstat(descriptor).st_ino))

    monkeypatch.setattr(os, "fsync", look)
    name = Store(str(tmp_path)).write("records", "000001", ".json", CONTENT)
    assert found[-1] == ([name], (tmp_path / "records").stat().st_ino)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store(str(tmp_path))
    before = store.write("records", "000001", ".json", CONTENT)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrackingError) as refusal:
        store.write("records", "000002", ".json", CONTENT)
    path = f"{tmp_path}/records/000002-{hashlib.sha256(CONTENT).hexdigest()}.json"
    reason = "[Errno 28] No space left on device"
    assert str(refusal.value) == f"{path}: cannot be written: {reason}; check the store and its space"
    assert files_below(tmp_path) == [before]
    assert store.read("records", before) == CONTENT


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder in which nothing can be made, for root neither: the test runs as nobody."""
    folder = Path(tempfile.mkdtemp())
    (folder / "records").mkdir()
    (folder / "records").chmod(0o555)
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("into", ["records", "states"])
def test_a_read_only_folder_is_one_line(read_only: Path, into: str) -> None:
    with pytest.raises(TrackingError, match=rf"{into}/000001-\w+\.json: cannot be written: .*Permission denied") as no:
        Store(str(read_only)).write(into, "000001", ".json", CONTENT)
    assert "\n" not in str(no.value)
    assert files_below(read_only) == []


def test_a_file_where_a_folder_must_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    with pytest.raises(TrackingError, match=r"cannot be written: .*; check the store and its space"):
        Store(f"{tmp_path}/checkpoints").write("records", "000001", ".json", CONTENT)


ACTS: dict[str, tuple[str, Callable[[Store], Any]]] = {
    "written": ("pipe_file", lambda store: store.write("records", "000001", ".json", CONTENT)),
    "read": ("cat_file", lambda store: store.read("records", "000001")),
    "listed": ("ls", lambda store: store.names("records")),
}


def refusing(monkeypatch: pytest.MonkeyPatch, method: str, said: str) -> Store:
    """A remote store that answers one request with an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(MemoryFileSystem, method, refuse)
    return Store("memory://remote")


@pytest.mark.parametrize("verb", ACTS)
def test_whatever_a_remote_store_raises_says_where_and_what(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, act = ACTS[verb]
    store = refusing(monkeypatch, method, "503 slow down")
    with pytest.raises(TrackingError, match=rf"^/remote/records.*: cannot be {verb}: 503 slow down; check the store"):
        act(store)


def test_a_store_that_will_not_delete_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    store = refusing(monkeypatch, "rm_file", "503 slow down")
    name = store.write("records", "000001", ".json", CONTENT)
    with pytest.raises(TrackingError, match="503 slow down"):
        store.delete("records", name)


@pytest.mark.parametrize("verb", ACTS)
def test_a_page_of_html_from_a_store_is_one_short_line(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, act = ACTS[verb]
    store = refusing(monkeypatch, method, "502 bad gateway\n<html>" + "\n<p>" * 1000)
    with pytest.raises(TrackingError) as refusal:
        act(store)
    assert "502 bad gateway" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_kind_of_store_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"ROUNDHOUSE_CHECKPOINTS: floppy://a/b: Protocol not known: floppy"):
        Store("floppy://a/b")


def test_a_store_whose_package_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"class": "not_installed.FileSystem", "err": "Install not-installed to access it"}
    monkeypatch.setitem(known_implementations, "absent", absent)
    with pytest.raises(InputError, match=r"ROUNDHOUSE_CHECKPOINTS: absent://a/b: Install not-installed to access it"):
        Store("absent://a/b")


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_bucket_without_its_package_says_so() -> None:
    with pytest.raises(InputError, match=r"ROUNDHOUSE_CHECKPOINTS: s3://bucket/folder: Install s3fs"):
        Store("s3://bucket/folder")


def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(InputError, match=r"floppy://host/folder") as refusal:
        Store("floppy://user:secret@host/folder")
    assert "secret" not in str(refusal.value)


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TrackingError, match="refused"):
        Store(f"ftp://127.0.0.1:{port}/folder")
