"""Folders of pictures. Pillow is imported when they are read, not before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources.reading import reason
from federated.sources.source import Source
from federated.variables import location

if TYPE_CHECKING:
    from PIL import Image

_MODES = {"grey": ("L", 1), "rgb": ("RGB", 3)}
"""Pillow's name of each, and its channels."""


class _Found(NamedTuple):
    """A picture, by the folders that it lies in."""

    client: str
    label: str
    path: Path


class Images(Source):
    """Pictures in folders, one folder a class: ``path/cat/1.png``; with ``client: folder`` ``path/anna/cat/1.png``.

    Examples are (height, width, channels) with values 0 … 255 (``scaling: {kind: divide, by: 255}``), resized to
    ``size`` by bilinear interpolation where they are larger or smaller, turned as a camera noted. Any format that
    Pillow reads, with 8 bits a channel. Classes and files come sorted by name; what begins with a dot is passed over.
    """

    kind: Literal["images"] = "images"
    path: Path
    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(description="height and width")
    colour: Literal["grey", "rgb"] = "rgb"
    client: Literal["folder"] | None = Field(default=None, description="folder: folders above the classes are clients")

    def load(self) -> Dataset:
        found = self._found()
        labels = sorted({one.label for one in found})
        x = np.empty((len(found), *self.size, _MODES[self.colour][1]), np.float32)
        for place, one in enumerate(found):
            x[place] = self._pixels(one.path)
        y = np.searchsorted(labels, [one.label for one in found]).astype(np.int32)
        keys = None if self.client is None else np.array([one.client for one in found], np.str_)
        return Dataset(Split(x, y), tuple(labels), f"data.images {self.path}", keys)

    def _found(self) -> list[_Found]:
        root = location("data.images.path", self.path)
        clients = [root] if self.client is None else _folders(root)
        found = [
            _Found(client.name, folder.name, path)
            for client in clients
            for folder in _folders(client)
            for path in _listed(folder)
        ]
        if not found:
            wanted = "class" if self.client is None else "client, and in it one a class"
            raise DataError(f"data.images.path: expected one folder a {wanted}, with pictures; {self.path} has none")
        deeper = next((one.path for one in found if one.path.is_dir()), None)
        if deeper is not None:
            hint = "; where each client has a folder, set client: folder" if self.client is None else ""
            raise DataError(f"data.images.path: expected pictures, {deeper} is a folder{hint}")
        return found

    def _pixels(self, path: Path) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened)
                self._check_depth(path, picture)
                return self._fitted(picture.convert(_MODES[self.colour][0]))
        except DataError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(
                f"data.images.path: expected a picture, cannot read {path} ({reason(error)}); mend it or take it away"
            ) from error

    def _check_depth(self, path: Path, picture: Image.Image) -> None:
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"data.images.path: expected 8 bits a channel, {path} has more; convert it")

    def _fitted(self, picture: Image.Image) -> NDArray[np.uint8]:
        from PIL import Image

        height, width = self.size
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(height, width, -1)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"data.images.path: cannot read the folder {folder} ({error.strerror})") from error


def _folders(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.is_dir()]
