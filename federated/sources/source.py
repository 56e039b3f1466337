"""What a source of rows is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from federated.component import Component
from federated.data import Dataset


class Source(Component, ABC):
    """A data set, named in a plan."""

    @abstractmethod
    def load(self) -> Dataset:
        """Reads the rows; the same rows in the same order each time.

        Raises:
            DataError: the data are absent or unusable.
        """
