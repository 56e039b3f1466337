"""A training that dies: ``python -m tests.chaos.victim POINT NUMBER … -- train PLAN …``.

``NUMBER`` is a round; or, where a point knows no round, the how-many-th time, or tenths of a second. There may be
several points. The product has no hooks for this: modules are changed as they are imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType

from tests.chaos.fuse import Fuse, note
from tests.chaos.points import POINTS, SELECT
from tests.chaos.wraps import Wrap, notes_the_round, writes_the_round_down

Change = Callable[[ModuleType], None]

_MEASURED = "tensorflow"


class Changing(importlib.abc.MetaPathFinder):
    """Changes modules once they are imported, and notes how long the slowest one takes."""

    def __init__(self, changes: Mapping[str, Sequence[Change]]) -> None:
        self._changes = changes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MEASURED and fullname not in self._changes:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(self._execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec

    def _execute(self, execute: Change, module: ModuleType) -> None:
        began = time.monotonic()
        execute(module)
        if module.__name__ == _MEASURED:
            note(imported=_MEASURED, seconds=time.monotonic() - began)
        for change in self._changes.get(module.__name__, ()):
            change(module)


def arm(fuses: Sequence[Fuse]) -> None:
    """Lays them, before anything of the product is imported."""
    changes: dict[str, list[Change]] = {}
    for place, wrap, fuse in _wraps(fuses):
        module, _, name = place.partition(":")
        changes.setdefault(module, []).append(partial(_wrap, name=name, wrap=wrap, fuse=fuse))
    sys.meta_path.insert(0, Changing(changes))


def _wraps(fuses: Sequence[Fuse]) -> Iterator[tuple[str, Wrap, Fuse]]:
    yield SELECT, writes_the_round_down, fuses[0]
    for fuse in fuses:
        point = POINTS[fuse.point]
        if fuse.point == "startup":
            fuse.light()
        if point.where:
            yield point.where, point.wrap, fuse
        if point.round_of:
            yield point.round_of, notes_the_round, fuse


def _wrap(module: ModuleType, name: str, wrap: Wrap, fuse: Fuse) -> None:
    owner, _, attribute = name.rpartition(".")
    holder = getattr(module, owner) if owner else module
    setattr(holder, attribute, wrap(getattr(holder, attribute), fuse))


def main() -> None:
    """Arms, then runs the command."""
    if "--" not in sys.argv:
        sys.exit(__doc__)
    at = sys.argv.index("--")
    points, numbers = sys.argv[1:at:2], sys.argv[2:at:2]
    arm([Fuse(point, int(number)) for point, number in zip(points, numbers, strict=True)])
    sys.argv = ["roundhouse", *sys.argv[at + 1 :]]
    from roundhouse.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
