"""The files of a table: which are meant, whose they are, and how a broken one is told. pandas comes with the first."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from federated.errors import DataError
from federated.variables import location

if TYPE_CHECKING:
    import pandas as pd

CLIENT = "{client}"
"""What stands in a path for the name of the client whose rows the file holds."""

_WILD = re.compile(r"(\{client\}|\*)")


class TableFile(NamedTuple):
    """A file with rows, of one client where its path says so."""

    path: Path
    client: str | None


def table_files(field: str, paths: Sequence[Path]) -> list[TableFile]:
    """The files that the paths mean, in the order of the paths, those of a pattern by name.

    ``*`` is any text within a name, ``{client}`` too, which is then the client's.

    Raises:
        DataError: no file fits a pattern.
        PlanError: the environment lacks a name in a path.
    """
    return [found for path in paths for found in _matching(field, location(field, path), path)]


def _matching(field: str, path: Path, written: Path) -> Iterator[TableFile]:
    parts = _WILD.split(str(path))
    if len(parts) == 1:
        yield TableFile(path, None)
        return
    found = sorted(glob("".join("*" if _WILD.fullmatch(part) else escape(part) for part in parts)))  # noqa: PTH207 - it may be absolute
    fitting = re.compile(_expression(parts))
    matches = [match for match in map(fitting.fullmatch, found) if match is not None]
    if not matches:
        raise DataError(f"{field}: no file fits {written}")
    for match in matches:
        yield TableFile(Path(match[0]), match.groupdict().get("client"))


def _expression(parts: list[str]) -> str:
    """The pattern as a regular expression; where the client stands twice, it is the same."""
    text = "".join("[^/]*" if part == "*" else part if part == CLIENT else re.escape(part) for part in parts)
    return text.replace(CLIENT, "(?P<client>[^/]+)", 1).replace(CLIENT, "(?P=client)")


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
        raise DataError(f"{field}: cannot read {path}, a package is missing ({_reason(error)})") from error
    except OSError as error:
        if error.strerror:
            raise DataError(f"{field}: cannot read {path} ({error.strerror})") from error
        raise DataError(f"{field}: {path} is no {expected} ({_reason(error)})") from error
    except (ValueError, EOFError, zlib.error, pd.errors.ParserWarning) as error:  # parsing errors are ValueErrors
        raise DataError(f"{field}: {path} is no {expected} ({_reason(error)})") from error
    if table.empty:
        raise DataError(f"{field}: {path} has a header but no rows")
    return table


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
