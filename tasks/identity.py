"""What decides a training's bits: the plan, the code and the packages. And what its clients' data look like."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.plan import NOT_DECISIVE, Plan
from federated.federation import Federation
from tasks.signing import Signer
from tasks.tracking import flatten

_PROJECT = Path(__file__).parent.parent
_ROOMS = ("configs", "federated", "flows", "models", "tasks")
_PACKAGES = ("keras", "numpy", "scikit-learn", "tensorflow")
_SHORT = 16

Identity = dict[str, Any]
"""``plan``, ``code`` (file → the beginning of its SHA-256), ``packages``, ``python``; a training's has ``data`` and
``rows`` too."""


def identify(plan: Plan) -> Identity:
    """The identity of what would compute ``plan`` now."""
    return {
        "plan": plan.model_dump(mode="json"),
        "code": dict(_code(plan)),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
    }


def differences(before: Identity, now: Identity) -> list[str]:
    """One line for everything that is not as it was, such as ``plan.rounds: 5, now 10``."""
    before, now = _decisive(before), _decisive(now)
    old, new = flatten(before), flatten(now)
    lines = [
        f"{name}: {old.get(name, 'absent')}, now {new.get(name, 'absent')}"
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    ]
    return lines or (["an option has another type"] if before != now else [])


def _decisive(identity: Identity) -> Identity:
    """Without what a plan says beside the training, such as its description."""
    plan = identity.get("plan")
    if not isinstance(plan, Mapping):
        return identity
    return {**identity, "plan": {name: value for name, value in plan.items() if name not in NOT_DECISIVE}}


def fingerprints(federation: Federation) -> dict[str, dict[str, Any]]:
    """Each client's data by schema and counts; never a row."""
    schema = {"inputs": list(federation.inputs), "labels": federation.labels and list(federation.labels)}
    return {
        name: {"train_rows": len(client.train), "test_rows": len(client.test), **schema}
        for name, client in federation.clients.items()
    }


def identify_training(plan: Plan, federation: Federation, signer: Signer) -> Identity:
    """The identity of a training on these data: ``data`` by schema and counts, ``rows`` by digests."""
    return identify(plan) | {"data": fingerprints(federation), "rows": rows_of(federation, signer)}


def rows_of(federation: Federation, signer: Signer) -> dict[str, str]:
    """A digest of each client's rows that changes when they do, and tells nothing to whoever lacks the signing key."""
    return {name: signer.blind(digest) for name, digest in federation.digests.items()}


def digest_of_code(identity: Identity) -> str:
    """One SHA-256 for all of the code."""
    lines = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(identity["code"].items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _code(plan: Plan) -> Iterator[tuple[str, str]]:
    files = [path for room in _ROOMS for path in sorted((_PROJECT / room).rglob("*.py"))]
    for path in files:
        yield str(path.relative_to(_PROJECT)), _sha256(path)
    for target in sorted(set(_targets(plan.model_dump(mode="json")))):
        module = target.partition(":")[0]
        found = None
        with contextlib.suppress(ImportError, ValueError):  # a text called target that is no code
            found = importlib.util.find_spec(module)
        if found is not None and found.origin is not None and Path(found.origin).is_file():
            yield module, _sha256(Path(found.origin))


def _targets(fields: Any) -> Iterator[str]:
    """The plan's own code: every ``target`` in it."""
    items = fields.items() if isinstance(fields, Mapping) else enumerate(fields) if isinstance(fields, list) else ()
    for name, value in items:
        if name == "target" and isinstance(value, str) and ":" in value:
            yield value
        else:
            yield from _targets(value)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_SHORT]
