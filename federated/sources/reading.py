"""Users' files, and what is told of one that cannot be read. pandas is imported when a table is read, not before."""

from __future__ import annotations

import gzip
import io
import re
import warnings
import zlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from federated.errors import DataError
from federated.variables import location

if TYPE_CHECKING:
    import pandas as pd

_GZIP = b"\x1f\x8b"
_TOLD = 10
"""So many names are told where none is close."""


def hint(name: str, known: Iterable[str]) -> str:
    """Which of the ``known`` names was meant, or what there is."""
    names = list(known)
    close = get_close_matches(name, names)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"it has {', '.join(names[:_TOLD]) or 'nothing'}" + (" …" if len(names) > _TOLD else "")


def content(field: str, path: Path) -> bytes:
    """What the file holds, unpacked where its first bytes say that it is gzip.

    Raises:
        DataError: there is no such file, or it cannot be read or unpacked.
    """
    raw = _raw(field, location(field, path))
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{field}: expected a whole gzip file, {path} is truncated or damaged ({reason(error)}); fetch it again"
        ) from error


def first_line(field: str, path: Path) -> str:
    """The first line that is not blank; empty where there is none, or it is no UTF-8.

    Raises:
        DataError: as ``content``.
    """
    line = next((line for line in io.BytesIO(content(field, path)) if line.strip()), b"")
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        return ""


def read(field: str, path: Path, expected: str, reader: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """The table in a file, by a reader of pandas; ``expected`` says what the file should be.

    Raises:
        DataError: there is no such file, it is no such table, it is cut short, or it has no rows.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = reader(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{field}: there is no file {path}; name your own table, for example --set data.path=table.csv"
        ) from error
    except ImportError as error:
        raise DataError(f"{field}: cannot read {path}, a package is missing ({reason(error)})") from error
    except OSError as error:
        if error.strerror:
            raise DataError(f"{field}: cannot read {path} ({error.strerror})") from error
        raise DataError(f"{field}: expected a {expected}, {path} is none ({reason(error)})") from error
    except (ValueError, EOFError, zlib.error, pd.errors.ParserWarning) as error:  # parsing errors are ValueErrors
        raise DataError(f"{field}: expected a {expected}, {path} is none ({reason(error)})") from error
    if table.empty:
        raise DataError(f"{field}: {path} has a header but no rows")
    return table


def table(
    field: str,
    path: Path,
    separator: str = ",",
    header: Literal["infer"] | None = "infer",
    text: tuple[int | str, ...] = (),
) -> pd.DataFrame:
    """The table in a file. Without a header its columns are called by their positions, from 0.

    The columns in ``text`` are taken as they are written, and then no word of the table is taken for a missing value.

    Raises:
        DataError: the file is no table, or has no rows.
    """
    import pandas as pd

    engine: Literal["c", "python"] = "c" if len(separator) == 1 else "python"
    written: dict[Any, type] = dict.fromkeys(text, str)
    how: dict[str, Any] = {"sep": separator if engine == "c" else re.escape(separator), "engine": engine}

    def parsed(path: Path) -> pd.DataFrame:
        found: pd.DataFrame = pd.read_csv(
            io.BytesIO(content(field, path)),
            header=header,
            index_col=False,
            dtype=written,
            keep_default_na=not text,
            **how,
        )
        return found

    found = read(field, path, "table", parsed)
    if header is not None:
        check_header(field, path, io.BytesIO(content(field, path)), **how)
    return found


def check_header(field: str, path: Path, held: Path | io.BytesIO, **how: Any) -> None:
    """Refuses a header that names a column twice: pandas would call the second ``y.1``, and it pass for a feature.

    Raises:
        DataError: with the name.
    """
    import pandas as pd

    (header,) = pd.read_csv(held, header=None, nrows=1, dtype=str, keep_default_na=False, **how).to_numpy().tolist()
    twice = next((name for name in header if name.strip() and header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{field}: {path} has two columns {twice!r}; rename one of them, or leave it out")


def require_column(field: str, path: Path, column: int | str, found: pd.DataFrame) -> None:
    """Refuses a column that the table of a file has not.

    Raises:
        DataError: with the column that was meant, or those that there are.
    """
    if column not in found.columns:
        names = [str(name) for name in found.columns]
        raise DataError(f"{field}: {path} has no column {column!r}; {hint(str(column), names)}")


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _raw(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        beside = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, beside)
        raise DataError(
            f"{field}: there is no file {path}; " + (f"did you mean {close[0]!r}?" if close else "name your own")
        ) from error
    except OSError as error:
        raise DataError(f"{field}: cannot read {path} ({error.strerror})") from error
