"""The parties with their scaled data, and what the server holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from federated.data import Card, Client, Dataset, Rows, Split, by_key
from federated.division import Holdout, divide, keeps_to_clients
from federated.filling import filled
from federated.partitions import Partition
from federated.scaling import Affine, AsIs, Scaling


@dataclass(frozen=True, slots=True, eq=False)
class Federation:
    """The parties and their scaled data; ``labels`` is None for regression.

    ``scaling`` is what the served model repeats. ``own`` is what a client's rows were scaled by, where that is not
    ``scaling``. ``validation`` may have no rows. ``root`` is what the
    server trains on, for a rule that goes by it.

    ``digests`` has a SHA-256 of the rows that came, by the client whose they are, or of all rows where nobody's name is
    on them. Whoever has a row can find it in them: they are not for others' eyes.

    ``features`` are the features' names, where they have any, and ``remarks`` the source's. ``natural`` says that every
    client has rows of its own key in the data, and no others.
    """

    clients: dict[str, Client]
    validation: Split
    test: Split
    labels: tuple[str, ...] | None
    scaling: Affine
    digests: dict[str, str] = field(default_factory=dict)
    own: Mapping[str, Affine] = field(default_factory=dict)
    root: Split | None = None
    features: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    natural: bool = False

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.test.x.shape[1:]

    @property
    def classes(self) -> int | None:
        """How many classes there are; None for regression."""
        return None if self.labels is None else len(self.labels)

    def as_came(self, client: str, rows: Split) -> Split:
        """Some of the client's rows with features as they came, up to rounding."""
        return self.own.get(client, self.scaling).invert(rows)

    def with_cards(self, cards: Mapping[str, Card]) -> Federation:
        """The same parties, of whom more is known."""
        clients = {
            name: replace(client, card={**client.card, **cards.get(name, {})}) for name, client in self.clients.items()
        }
        return replace(self, clients=clients)


def federate(dataset: Dataset, partition: Partition, holdout: Holdout, scaling: Scaling, seed: int) -> Federation:
    """The parties with their data: blanks filled, and scaled, by what the training rows say.

    Raises:
        DataError: the data cannot be divided like that.
    """
    division = divide(dataset, partition, holdout, seed)
    rows = filled(dataset, division.train)
    train = {name: rows.take(part.train) for name, part in division.clients.items()}
    common, own = scaling.fit(list(train.values())), scaling.fit_each(train)
    keeps = keeps_to_clients(dataset.keys, {name: part.train for name, part in division.clients.items()})
    clients = {}
    for name, part in division.clients.items():
        affine, card = own.get(name, common), dataset.cards.get(name, {}) if keeps else {}
        clients[name] = Client(name, affine.apply(train[name]), affine.apply(rows.take(part.test)), card)
    theirs = own if keeps else {}
    root = _served(dataset, rows, division.root, common, theirs) if len(division.root) else None
    return Federation(
        clients=clients,
        validation=_served(dataset, rows, division.validation, common, theirs),
        test=_served(dataset, rows, division.test, common, theirs),
        labels=dataset.labels,
        scaling=AsIs().fit(list(train.values())) if own else common,
        digests=_digests(dataset),
        own=own,
        root=root,
        features=dataset.features,
        remarks=dataset.remarks,
        natural=keeps,
    )


def _served(dataset: Dataset, rows: Split, places: Rows, common: Affine, own: Mapping[str, Affine]) -> Split:
    """The server's rows, each scaled by its client's numbers where it has such, by those of all elsewhere."""
    taken = rows.take(places)
    scaled = common.apply(taken)
    if dataset.keys is not None and own:
        for name, theirs in by_key(dataset.keys[places], dataset.keys).items():
            if name in own:
                scaled.x[theirs] = own[name].apply(taken.take(theirs)).x
    return scaled


def _digests(dataset: Dataset) -> dict[str, str]:
    keys = np.full(len(dataset.rows), "") if dataset.keys is None else dataset.keys
    return {key: dataset.rows.take(places).sha256 for key, places in by_key(keys, keys).items()}
