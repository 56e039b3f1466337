"""Pictures that a command leaves where the user wants them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from federated.errors import InputError


def png_path(text: str) -> Path:
    """Where the picture goes.

    Raises:
        InputError: the name is not that of a PNG.
    """
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise InputError(f"--picture: expected a file that ends in .png, got {text!r}")
    return path


def save(picture: bytes, path: Path) -> Path:
    """Writes a picture, whole or not at all; gives its absolute path.

    Raises:
        InputError: it cannot be written.
    """
    written = path.with_name(f"{path.name}.part")
    try:
        written.write_bytes(picture)
        written.replace(path)
    except OSError as error:
        raise InputError(f"--picture: cannot write {path} ({error.strerror}); choose another file") from error
    finally:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)
    return path.absolute()
