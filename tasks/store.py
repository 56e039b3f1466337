"""A folder of files in any fsspec store, each named by its digest: a torn or changed one is seen when it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from configs import environment
from federated.errors import InputError, TrackingError

_MOST_AT_ONCE = 16


class DamagedError(Exception):
    """A file is not what its name says."""


class Store:
    """Files below ``url``, such as ``/data/checkpoints``, ``s3://bucket/folder`` or ``memory://name``.

    A file is there whole or not at all: locally it is renamed into place, and object stores work so.

    Raises:
        InputError: there is no such kind of store, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = environment.without_secrets(url)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"ROUNDHOUSE_CHECKPOINTS: {self.url}: {error}") from error
        except OSError as error:  # those that connect at once, such as ftp
            raise TrackingError(f"{self.url}: cannot be reached: {_reason(error)}; check the store") from error

    def write(self, folder: str, stem: str, ending: str, content: bytes, digest: str = "") -> str:
        """Writes a file and gives its name: ``stem``, the content's SHA-256, ``ending``.

        ``digest`` is that SHA-256, where it is known.

        Raises:
            TrackingError: the store refused.
        """
        name = f"{stem}-{digest or sha256(content)}{ending}"
        path = f"{self._root}/{folder}/{name}"
        try:
            self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                _write_whole(Path(path), content)
            else:
                self._fs.pipe_file(path, content)
        except Exception as error:
            reason = _reason(error)
            raise TrackingError(f"{path}: cannot be written: {reason}; check the store and its space") from error
        return name

    def write_all(self, folder: str, ending: str, contents: Mapping[str, bytes]) -> list[str]:
        """Writes files as ``write`` does, by their stems: side by side, but none is there before those ahead of it.

        Raises:
            TrackingError: the store refused.
        """
        named = {f"{stem}-{sha256(content)}{ending}": content for stem, content in contents.items()}
        where = f"{self._root}/{folder}"
        try:
            self._fs.makedirs(where, exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                _write_all_whole(Path(where), named)
            else:
                for name, content in named.items():
                    self._fs.pipe_file(f"{where}/{name}", content)
        except Exception as error:
            reason = _reason(error)
            raise TrackingError(f"{where}: cannot be written: {reason}; check the store and its space") from error
        return list(named)

    def read(self, folder: str, name: str) -> bytes:
        """The content of a file.

        Raises:
            DamagedError: it is gone, or not what its name says.
            TrackingError: the store cannot be reached.
        """
        path = f"{self._root}/{folder}/{name}"
        try:
            content = bytes(self._fs.cat_file(path))
        except FileNotFoundError as error:
            raise DamagedError(f"{path} is missing") from error
        except Exception as error:
            raise TrackingError(f"{path}: cannot be read: {_reason(error)}; check the store") from error
        if sha256(content) not in name:
            raise DamagedError(f"{path} is damaged: its SHA-256 is not the one in its name")
        return content

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none where it does not exist.

        Raises:
            TrackingError: the store cannot be reached.
        """
        path = f"{self._root}/{folder}"
        try:
            self._fs.invalidate_cache()
            found: list[Any] = self._fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise TrackingError(f"{path}: cannot be listed: {_reason(error)}; check the store") from error
        names = (str(entry).rstrip("/").rpartition("/")[2] for entry in found)
        return sorted(name for name in names if name and not name.startswith("."))

    def delete(self, folder: str, name: str) -> None:
        """Removes a file, where there is one.

        Raises:
            TrackingError: the store refused.
        """
        path = f"{self._root}/{folder}/{name}"
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return
        except Exception as error:
            raise TrackingError(f"{path}: cannot be removed: {_reason(error)}; check the store") from error


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _reason(error: Exception) -> str:
    """Its first line, and no more of that than a person reads."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _write_whole(path: Path, content: bytes) -> None:
    temporary = _temporary(path)
    try:
        _write_through(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _keep_names(path.parent)


def _write_all_whole(folder: Path, named: Mapping[str, bytes]) -> None:
    """A disk takes many small files that come at once in hardly more time than one."""
    temporaries = {folder / name: _temporary(folder / name) for name in named}
    try:
        with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
            list(threads.map(_write_through, temporaries.values(), named.values()))
        for path, temporary in temporaries.items():
            temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
    _keep_names(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _keep_names(folder: Path) -> None:
    """A new name is on the disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
