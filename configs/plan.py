"""The plan: one frozen description of a training."""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from typing import Annotated

from pydantic import Field, model_validator

from configs.privacy import Privacy, check_counted, objections, too_often
from configs.retention import AnyRetention, KeepAll, KeepBest
from configs.starts import AnyStart, Fresh
from federated.algorithm import Algorithm
from federated.attacks import Adversary, AnyAttack
from federated.component import Component
from federated.division import Holdout
from federated.drift import DriftLimits
from federated.errors import PlanError
from federated.federation import Federation, federate
from federated.partitions import AnyPartition, Natural
from federated.promotion import Promotion
from federated.scaling import AnyScaling, AsIs
from federated.stopping import Stop
from models.architecture import Asked, AskedDevice, Precision
from models.keras_datasets import AnyData
from models.losses import AnyLoss, Auto
from models.specs import AnyModel

NOT_DECISIVE = {
    "name", "description", "baselines", "commit_every", "keep_checkpoints", "promotion", "retention", "drift"
}  # fmt: skip
"""Fields of a plan that do not change what is trained."""

_OF_SIMULATIONS = {"simulation", "attacks"}

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]


class Plan(Component):
    """What to train, on whose data, how, and when to stop.

    ``name`` is also the MLflow experiment's and the registered model's name. ``cards`` says of clients what the data do
    not, in words and numbers, by client and fact. ``quorum`` is how many usable updates a
    round needs. ``baselines`` also trains each client alone and one model on the pooled rows, for comparison.
    ``start`` is what round 1 starts from. ``promotion`` says what a model must show to become the champion, and
    ``retention`` which versions keep their weights; ``drift`` says when new data ask for a training.
    ``loss`` is what training minimises.
    ``compilation`` is how local training is compiled; ``auto`` goes by the model's layers and size.
    ``evaluate_every`` so many rounds the global model is evaluated, and at the end; 0 is only at the end.
    ``commit_every`` so many rounds are one task and one version; each has its own record and numbers.
    ``device`` is what trains, ``replicas`` how many of them train one client together, and ``precision`` what layers
    compute in meanwhile.
    ``keep_checkpoints`` is how many checkpoints can be gone back to, should the latest be damaged.
    ``privacy`` is what a training with noise pays into, and how much it may.
    ``simulation`` says that no real parties take part; only then some of them may make ``attacks``.
    """

    name: Name
    description: str = ""
    data: AnyData
    partition: AnyPartition = Natural()
    cards: dict[str, dict[str, str | float]] = Field(default_factory=dict)
    holdout: Holdout = Holdout()
    scaling: AnyScaling = AsIs()
    model: AnyModel
    compilation: Asked = "auto"
    loss: AnyLoss = Auto()
    device: AskedDevice = "auto"
    replicas: int = Field(default=1, ge=1)
    precision: Precision = "float32"
    start: AnyStart = Fresh()
    rounds: int = Field(ge=1)
    stop: Stop | None = None
    privacy: Privacy | None = None
    quorum: int = Field(default=1, ge=1)
    evaluate_every: int = Field(default=1, ge=0)
    baselines: bool = False
    commit_every: int = Field(default=1, ge=1)
    keep_checkpoints: int = Field(default=3, ge=1)
    promotion: Promotion = Promotion()
    retention: AnyRetention = KeepAll()
    drift: DriftLimits = DriftLimits()
    algorithm: Algorithm = Algorithm()
    simulation: bool = False
    attacks: tuple[AnyAttack, ...] = ()

    @model_validator(mode="after")
    def _fit_the_clients(self) -> Plan:
        if self.partition.known_clients is not None:
            self.check_clients(self.partition.known_clients)
        return self

    @model_validator(mode="after")
    def _enough_for_the_rule(self) -> Plan:
        rule = self.algorithm.rule
        if rule.needs_root and not self.holdout.root:
            raise PlanError(
                f"algorithm.rule.{rule.kind}: it goes by rows that the server trains on; set holdout.root to a share, "
                "for example 0.05"
            )
        if self.holdout.root and not rule.needs_root:
            raise PlanError(
                f"holdout.root: the rule {rule.kind} does not train on the server's rows; leave it out, or use fltrust"
            )
        if self.needed < rule.least:
            raise PlanError(
                f"algorithm.rule.{rule.kind}: as set it needs at least {rule.least} updates a round, but quorum is "
                f"{self.quorum}; raise quorum to {rule.least}, or change the rule"
            )
        return self

    @model_validator(mode="after")
    def _measure_what_ends_it(self) -> Plan:
        if self.evaluate_every == 0 and self.stop is not None and self.stop.measures:
            raise PlanError(
                "stop: at_least, at_most and patience look at evaluated rounds, and evaluate_every: 0 evaluates none; "
                "raise evaluate_every, or stop by minutes alone"
            )
        return self

    @model_validator(mode="after")
    def _count_the_noise(self) -> Plan:
        if found := objections(self):
            raise PlanError(found[0])
        return self

    @model_validator(mode="after")
    def _attack_in_simulations_only(self) -> Plan:
        if self.attacks and not self.simulation:
            raise PlanError("attacks: are for simulations; set simulation: true, or leave them out")
        return self

    @model_validator(mode="after")
    def _hold_out_what_steers(self) -> Plan:
        if self.holdout.validation > 0:
            return self
        if self.stop is not None and self.stop.measures:
            raise PlanError(
                "stop: at_least, at_most and patience look at the server's validation rows, and holdout.validation: 0 "
                "leaves none; hold some out, or stop by minutes alone"
            )
        if isinstance(self.retention, KeepBest):
            raise PlanError(
                "retention.best: goes by the server's validation rows, and holdout.validation: 0 leaves none; "
                "hold some out, or use another policy"
            )
        return self

    @property
    def needed(self) -> int:
        """How many updates a round needs: none where the server's noise hides how many there are."""
        return 0 if self.algorithm.noised_by == "server" else max(self.quorum, self.algorithm.survivors)

    def evaluates(self, round: int) -> bool:
        """Whether the global model is evaluated after this round."""
        return self.evaluate_every > 0 and round % self.evaluate_every == 0

    def check_clients(self, clients: int) -> None:
        """What the rule needs ≤ quorum ≤ cohort ≤ clients.

        Raises:
            PlanError: it is not so.
        """
        cohort = self.algorithm.select.cohort_size(clients)
        if cohort > clients:
            raise PlanError(
                f"algorithm.select.{self.algorithm.select.kind}.cohort: {cohort} clients a round, "
                f"but there are {clients}; lower it or add clients"
            )
        rule = self.algorithm.rule
        if rule.least > cohort:
            raise PlanError(
                f"algorithm.rule.{rule.kind}: as set it needs at least {rule.least} updates a round, but a cohort "
                f"has {cohort} clients; raise the cohort, or change the rule"
            )
        if self.algorithm.survivors > cohort:
            raise PlanError(
                f"algorithm.transforms: the noise of at least {self.algorithm.survivors} clients is claimed, but a "
                f"cohort has {cohort}; lower least, or raise the cohort"
            )
        if self.needed > cohort:
            raise PlanError(
                f"quorum: {self.quorum} updates are needed, but a cohort has {cohort} clients; "
                "lower quorum or raise the cohort"
            )
        if objection := too_often(self, clients):
            raise PlanError(objection)

    def federation(self) -> Federation:
        """The parties and their data, loaded and divided.

        Raises:
            DataError: the data are absent or unusable.
            PlanError: the plan does not fit them.
        """
        dataset = self.data.load()
        federation = federate(dataset, self.partition, self.holdout, self.scaling, self.algorithm.seed)
        self.check_clients(len(federation.clients))
        self._check_names(federation)
        self._check_cards(federation)
        federation = federation.with_cards(self.cards)
        self._check_what_cards_say(federation)
        self._check_metrics(federation)
        check_counted(self, dataset, federation)
        self._check_attacks(federation)
        self.model.check(federation.inputs, federation.classes)
        self.loss.check(federation.classes)
        self._check_rows(federation)
        return federation

    def adversary(self, federation: Federation) -> Adversary:
        """Who of the parties attacks, when and how."""
        return Adversary(self.attacks, self.algorithm.seed, federation.clients, federation.classes)

    def digest(self) -> str:
        """SHA-256 of everything that decides the result.

        A plan that simulates nothing has the digest that it had before plans could; so has one without noise.
        """
        undecisive = NOT_DECISIVE if self.simulation else NOT_DECISIVE | _OF_SIMULATIONS
        if self.privacy is None:
            undecisive = undecisive | {"privacy"}
        fields = self.model_dump(mode="json", exclude=undecisive)
        if self.algorithm.local.dp_sgd is None:
            del fields["algorithm"]["local"]["dp_sgd"]
        decisive = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(decisive.encode()).hexdigest()

    def _check_rows(self, federation: Federation) -> None:
        for name, client in federation.clients.items():
            for part in (client.train, client.test):
                self.model.check_rows(part.x, f"client {name}")
        for rows in (federation.validation, federation.test):
            self.model.check_rows(rows.x, "the server")

    def _check_names(self, federation: Federation) -> None:
        algorithm, known = self.algorithm, list(federation.clients)
        for path, part in (
            ("select", algorithm.select),
            ("local.work", algorithm.local.work),
            ("rule", algorithm.rule),
        ):
            unknown = sorted(part.named - set(known))
            if unknown:
                raise PlanError(
                    f"algorithm.{path}.{part.kind}: there is no client {unknown[0]}; there are {_listed(known)}"
                )

    def _check_attacks(self, federation: Federation) -> None:
        names, inputs, classes = list(federation.clients), federation.inputs, federation.classes
        for place, attack in enumerate(self.attacks):
            if objection := attack.objection(names, inputs, classes):
                raise PlanError(f"attacks.{place}.{attack.kind}: {objection}")
            if attack.rounds.first > self.rounds:
                raise PlanError(
                    f"attacks.{place}.{attack.kind}.rounds: first is {attack.rounds.first}, but the last round is "
                    f"{self.rounds}; nobody would ever attack"
                )

    def _check_cards(self, federation: Federation) -> None:
        for name in sorted(self.cards.keys() - federation.clients.keys()):
            known = list(federation.clients)
            close = get_close_matches(name, known)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {_listed(known)}"
            raise PlanError(f"cards: there is no client {name!r}; {hint}")

    def _check_what_cards_say(self, federation: Federation) -> None:
        self.algorithm.select.check({name: client.card for name, client in federation.clients.items()})
        rule, clients = self.algorithm.rule, federation.clients.items()
        weights = [rule.weigh(name, client.card, len(client.train)) for name, client in clients]
        if not any(weights):
            raise PlanError(f"algorithm.rule.{rule.kind}: every client weighs 0; give one of them a weight")
        nothing, cohort = weights.count(0.0), self.algorithm.select.cohort_size(len(clients))
        if nothing >= cohort:
            raise PlanError(
                f"algorithm.rule.{rule.kind}: {nothing} clients weigh 0, and a cohort of {cohort} may be of these; "
                "raise the cohort, or give them a weight"
            )

    def _check_metrics(self, federation: Federation) -> None:
        absent, kind = ("accuracy", "regression") if federation.labels is None else ("mae", "classification")
        gates = {f"promotion.gates.{place}": gate for place, gate in enumerate(self.promotion.gates)}
        for field, part in {"stop": self.stop, "retention": self.retention, **gates}.items():
            if getattr(part, "metric", None) == absent:
                raise PlanError(f"{field}.metric: {kind} has no {absent}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
