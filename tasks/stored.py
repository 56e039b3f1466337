"""Versions as MLflow holds them, for whoever reads them back. No model file is loaded here."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load

from configs.retention import Kept
from federated.component import Metrics, Vector
from federated.errors import InputError
from tasks.signing import Trusted, read_signed
from tasks.store import sha256
from tasks.tracking import connect, storing
from tasks.versions import RECORD, SEAL, STATE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

_NOTHING_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

_URI = re.compile(r"(?:models:/)?(?P<name>[a-z0-9][a-z0-9-]*)(?:/(?P<version>\d+)|@(?P<alias>[A-Za-z][\w-]*))?")


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version and its files, which are gone when it is closed.

    ``places`` is where MLflow loads it from, and where its logged model says that it is: one place.
    """

    name: str
    version: str
    run_id: str
    model_id: str
    tags: dict[str, str]
    folder: Path
    places: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def files(self) -> dict[str, str]:
        """Every file's SHA-256, by its path."""
        return {
            path.relative_to(self.folder).as_posix(): sha256(path.read_bytes())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def signed(self, path: str) -> bytes:
        """A signed file; empty where it is missing."""
        file = self.folder / path
        return file.read_bytes() if file.is_file() else b""

    def record(self, trusted: Trusted) -> dict[str, Any]:
        """What its round recorded.

        Raises:
            ForgedError: it was changed, exchanged, or signed by another key.
        """
        return read_signed(self.signed(RECORD), "record", trusted)

    def seal(self, trusted: Trusted) -> dict[str, Any]:
        """What was sealed when it was registered.

        Raises:
            ForgedError: it was changed, exchanged, or signed by another key.
        """
        return read_signed(self.signed(SEAL), "seal", trusted)

    @property
    def has_weights(self) -> bool:
        """Whether retention has left them."""
        return (self.folder / STATE).is_file()

    @property
    def params(self) -> Vector:
        """Its weights, shape (parameters,)."""
        return load((self.folder / STATE).read_bytes())["state.params"]


class Library:
    """The versions that MLflow holds.

    Raises:
        TrackingError: MLflow cannot be reached.
    """

    def __init__(self) -> None:
        with storing("MLflow", verb="reach"):
            self.client: MlflowClient = connect()

    def resolve(self, uri: str) -> tuple[str, str]:
        """Name and version of ``name``, ``name/7`` or ``name@alias``, with or without ``models:/`` before it.

        Raises:
            InputError: there is no such version.
        """
        parts = _URI.fullmatch(uri)
        if parts is None:
            raise InputError(f"{uri!r}: expected NAME, NAME/7 or NAME@champion")
        version = parts["version"] or self.alias(parts["name"], parts["alias"] or "latest")
        if version is None:
            raise InputError(f"{uri}: there is none; roundhouse models lists what there is")
        return parts["name"], version

    def alias(self, name: str, alias: str) -> str | None:
        """The version that an alias stands for; None where it stands for none.

        Raises:
            TrackingError: MLflow cannot be read.
        """
        from mlflow.exceptions import MlflowException

        with storing(f"{name}@{alias}", verb="find"):
            try:
                return str(self.client.get_model_version_by_alias(name, alias).version)
            except MlflowException as error:
                if error.error_code not in _NOTHING_THERE:
                    raise
                return None

    @contextlib.contextmanager
    def open(self, uri: str, files: str = "") -> Iterator[StoredVersion]:
        """A version and its files, or those below the path ``files`` only.

        Raises:
            InputError: there is no such version.
            TrackingError: it cannot be read.
        """
        name, number = self.resolve(uri)
        found = self._version(uri, name, number)
        model_id = str(found.source).rpartition("/")[2]
        with tempfile.TemporaryDirectory(prefix="roundhouse-") as folder:
            with storing(f"{name} version {number}", verb="read"):
                repository = self._files(name, number)
                places = {str(repository.artifact_uri), str(self.client.get_logged_model(model_id).artifact_location)}
                if repository.list_artifacts(files or None):
                    repository.download_artifacts(files, folder)
            yield StoredVersion(
                name, number, str(found.run_id), model_id, dict(found.tags), Path(folder), frozenset(places)
            )

    def of_run(self, name: str, run_id: str) -> dict[int, str]:
        """The versions of a training, by round.

        Raises:
            TrackingError: they cannot be listed.
        """
        return self._by_round(name, f"run_id = '{run_id}'")

    def of_training(self, name: str, run_key: str) -> dict[int, str]:
        """The versions of the training with this run key, by round.

        Raises:
            TrackingError: they cannot be listed.
        """
        return self._by_round(name, f"tags.run_key = '{run_key}'")

    def _by_round(self, name: str, where: str) -> dict[int, str]:
        with storing(f"versions of {name}", verb="list"):
            found = self._search(f"name = '{name}' and {where}")
            rounds = [(int(version.version), version.tags.get("round", "")) for version in found]
        # Of two that claim a round, the first to be registered has it.
        return {int(number): str(version) for version, number in sorted(rounds, reverse=True) if number.isdecimal()}

    def last_of_training(self, name: str, run_key: str) -> str:
        """The last version that a training registered.

        Raises:
            InputError: it registered none.
            TrackingError: MLflow cannot be read.
        """
        with storing(f"versions of {name}", verb="list"):
            found = [
                int(version.version) for version in self._search(f"name = '{name}' and tags.run_key = '{run_key}'")
            ]
        if not found:
            raise InputError(f"{name}: the training with the run key {run_key!r} registered no version")
        return str(max(found))

    def versions(self, name: str) -> Iterator[tuple[Kept, dict[str, str]]]:
        """Every version that a training registered, with its tags.

        Raises:
            TrackingError: they cannot be listed.
        """
        metrics: dict[str, dict[int, Metrics]] = {}
        with storing(f"versions of {name}", verb="list"):
            for found in self._search(f"name = '{name}'"):
                run_id, tags = str(found.run_id), dict(found.tags)
                if tags.get("round", "").isdecimal():
                    by_round = metrics.setdefault(run_id, self._metrics_of(run_id) if run_id not in metrics else {})
                    number = int(tags["round"])
                    yield Kept(str(found.version), run_id, number, by_round.get(number, {})), tags

    def aliased(self, name: str) -> set[str]:
        """Versions that have an alias.

        Raises:
            TrackingError: MLflow cannot be read.
        """
        with storing(f"aliases of {name}", verb="list"):
            return {str(version) for version in self.client.get_registered_model(name).aliases.values()}

    def delete_files(self, name: str, version: str, paths: Sequence[str]) -> None:
        """Removes files of a version, where they are.

        Raises:
            TrackingError: the artifact store refused.
        """
        with storing(f"what is left of {name} version {version}"):
            repository = self._files(name, version)
            for path in paths:
                if _holds(repository, path):
                    repository.delete_artifacts(path)

    def has_files(self, name: str, version: str, paths: Sequence[str]) -> bool:
        """Whether a version has all of these files.

        Raises:
            TrackingError: the artifact store cannot be read.
        """
        with storing(f"files of {name} version {version}", verb="list"):
            repository = self._files(name, version)
            return all(_holds(repository, path) for path in paths)

    def _version(self, uri: str, name: str, number: str) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        with storing(f"{name} version {number}", verb="find"):
            try:
                return self.client.get_model_version(name, number)
            except MlflowException as error:
                if error.error_code not in _NOTHING_THERE:
                    raise
                raise InputError(f"{uri}: there is none; roundhouse models lists what there is") from error

    def _files(self, name: str, version: str) -> ArtifactRepository:
        """The place that MLflow itself loads a version from."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        location = self.client.get_model_version_download_uri(name, version)
        return get_artifact_repository(location, tracking_uri=str(self.client.tracking_uri))

    def _metrics_of(self, run_id: str) -> dict[int, Metrics]:
        """The numbers of each round of a training."""
        by_round: dict[int, Metrics] = {}
        for name in self.client.get_run(run_id).data.metrics:
            for point in self.client.get_metric_history(run_id, name):
                by_round.setdefault(point.step, {})[name] = point.value
        return by_round

    def _search(self, where: str) -> Iterator[ModelVersion]:
        token: str | None = None
        while token != "":
            page = self.client.search_model_versions(where, max_results=1000, page_token=token)
            yield from page
            token = page.token or ""

    def version_file(self, name: str, version: str, path: str) -> bytes:
        """A file of a version; empty where it has none.

        Raises:
            TrackingError: it cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="roundhouse-") as folder, storing(path, verb="read"):
            repository = self._files(name, version)
            if not _holds(repository, path):
                return b""
            return Path(repository.download_artifacts(path, folder)).read_bytes()

    def run_file(self, run_id: str, path: str) -> bytes:
        """An artifact of a training's run; empty where it has none.

        Raises:
            TrackingError: it cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="roundhouse-") as folder, storing(path, verb="read"):
            if all(found.path != path for found in self.client.list_artifacts(run_id, path.rpartition("/")[0] or None)):
                return b""
            return Path(self.client.download_artifacts(run_id, path, folder)).read_bytes()


def _holds(repository: ArtifactRepository, path: str) -> bool:
    return any(found.path == path for found in repository.list_artifacts(path.rpartition("/")[0] or None))
