"""The data sets that Keras knows by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.component import ByKind
from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources import AnySource, Source

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


LABELS: dict[str, tuple[str, ...] | None] = {
    "mnist": _numbered(10),
    "fashion_mnist": _FASHION,
    "cifar10": _CIFAR10,
    "cifar100": _numbered(100),
    "imdb": ("negative", "positive"),
    "reuters": _numbered(46),
    "california_housing": None,
    "boston_housing": None,
}
"""What the classes of each set are called; None: a price is regressed."""

SEQUENCES = ("imdb", "reuters")
"""Sets whose examples are texts of words' numbers, of many lengths."""


class _Loaded(NamedTuple):
    x: Any
    y: NDArray[Any]


class KerasDataset(Source):
    """A data set of ``keras.datasets``; its test rows are reserved.

    Keras fetches it when a plan's data are first read, into ``~/.keras/datasets`` or ``$KERAS_HOME/datasets``, and
    reads it from there afterwards. Pixels are 0 … 255 (``scaling: {kind: divide, by: 255}``), and grey images get a
    channel. Texts, which ``imdb`` and ``reuters`` have, keep their ``words`` most frequent words and their last
    ``length`` words, with zeros before shorter ones, for ``model: {kind: gru, vocabulary: …}`` of as many words.
    """

    kind: Literal["keras"] = "keras"
    name: Literal[
        "mnist", "fashion_mnist", "cifar10", "cifar100", "imdb", "reuters", "california_housing", "boston_housing"
    ]
    words: int | None = Field(default=None, ge=4, description="for imdb and reuters")
    length: int | None = Field(default=None, ge=1, description="for imdb and reuters")

    @model_validator(mode="after")
    def _texts_have_a_length(self) -> Self:
        texts = self.name in SEQUENCES
        if texts and (self.words is None or self.length is None):
            raise ValueError(f"{self.name} has texts: words and length are needed, for example 10000 and 200")
        if not texts and (self.words is not None or self.length is not None):
            raise ValueError(f"words and length are for texts, which {self.name} has not; leave them out")
        return self

    def load(self) -> Dataset:
        train, test = self._parts()
        x = np.concatenate([self._features(train.x), self._features(test.x)])
        y = np.concatenate([train.y, test.y]).reshape(-1)
        labels = LABELS[self.name]
        rows = Split(x, y.astype(np.float32 if labels is None else np.int32))
        reserved = np.arange(len(y)) >= len(train.y)
        return Dataset(rows, labels, f"data.keras {self.name}", reserved=reserved)

    def _parts(self) -> tuple[_Loaded, _Loaded]:
        import keras

        asked = {} if self.words is None else {"num_words": self.words}
        try:
            train, test = getattr(keras.datasets, self.name).load_data(**asked)
        except Exception as error:  # Keras raises bare ones where it cannot fetch, and NumPy's where a file is damaged
            reason = " ".join(str(error).split())
            raise DataError(
                f"data.keras.name: Keras cannot load {self.name} ({type(error).__name__}: {reason}); "
                "where there is a network, delete what is damaged in ~/.keras/datasets (or $KERAS_HOME/datasets) "
                "and try again; elsewhere bring that folder"
            ) from error
        return _Loaded(*train), _Loaded(*test)

    def _features(self, x: Any) -> NDArray[np.float32]:
        if self.length is not None:
            return _padded(x, self.length)
        grey = x.ndim == 3
        return np.asarray(x[..., None] if grey else x, np.float32)


def _padded(texts: Any, length: int) -> NDArray[np.float32]:
    """The last words of each text behind as many zeros as it takes, shape (texts, length)."""
    padded = np.zeros((len(texts), length), np.float32)
    for row, text in zip(padded, texts, strict=True):
        last = text[-length:]
        row[length - len(last) :] = last
    return padded


AnyData = Annotated[AnySource | KerasDataset, Field(discriminator="kind"), ByKind()]
"""Every source that a plan can name: those of the method, and Keras'."""
