"""Every member of every family can be named in a plan, and the plan's JSON schema describes it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from configs.loading import load_plan
from configs.plan import Plan

SCHEMA = Plan.model_json_schema()

OPTIMIZERS = [
    *("sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "lamb", "lion"),
    *("adagrad", "adadelta", "adafactor", "ftrl", "muon"),
]

CORRELATED = {"kind": "correlated_gaussian", "seeded": True}

NAMED: dict[str, list[dict[str, Any]]] = {
    "data": [
        {"kind": "digits"},
        {"kind": "breast_cancer"},
        {"kind": "line"},
        {"kind": "iris"},
        {"kind": "wine"},
        {"kind": "diabetes"},
        {"kind": "linnerud", "target": "waist"},
        {"kind": "csv", "path": "table.csv", "target": "label"},
        {"kind": "parquet", "path": "table.parquet", "target": "label"},
        {"kind": "npz", "path": "arrays.npz", "x": "images", "y": "labels", "shape": [28, 28, 1]},
        {"kind": "idx", "path": "data/fashion-mnist"},
        {"kind": "images", "path": "pictures", "size": [32, 32], "colour": "grey", "client": "folder"},
        {"kind": "windows", "path": "speeds.csv", "past": 12, "horizon": 3},
        {"kind": "ratings", "path": "u.data", "user": 0, "item": 1, "rating": 2, "separator": "\t"},
        {"kind": "text", "path": "play.txt", "past": 80},
        {"kind": "keras", "name": "fashion_mnist"},
        {"kind": "custom", "target": "my.code:load"},
    ],
    "partition": [
        {"kind": "natural"},
        {"kind": "shares", "shares": [0.4, 0.6]},
        {"kind": "iid", "clients": 3},
        {"kind": "power_law", "clients": 3, "exponent": 1.5},
        {"kind": "dirichlet", "clients": 3, "alpha": 1.0},
        {"kind": "shards", "clients": 3, "shards_each": 2},
        {"kind": "labels", "clients": 3, "labels_each": 4},
        {"kind": "features", "clients": 3, "alpha": 0.5},
    ],
    "scaling": [
        {"kind": "as_is"},
        {"kind": "divide", "by": 16},
        {"kind": "given", "mean": [8], "std": [4]},
        {"kind": "standardize"},
    ],
    "model": [
        {"kind": "linear"},
        {"kind": "logistic"},
        {"kind": "mlp", "hidden": []},
        {"kind": "cnn", "filters": [8, 16], "hidden": 32},
        {"kind": "resnet", "widths": [8, 16], "blocks": 2, "groups": 4},
        {"kind": "lstm", "units": 8},
        {"kind": "gru", "units": 8, "vocabulary": 90, "embedding": 8},
        {"kind": "recommender", "users": 943, "items": 1682, "dimensions": 8},
        {"kind": "saved", "path": "mine.keras"},
        {"kind": "custom", "target": "my.code:build", "options": {"width": 3}},
    ],
    "loss": [
        {"kind": "auto"},
        {"kind": "mean_squared_error"},
        {"kind": "binary_crossentropy"},
        {"kind": "categorical_crossentropy"},
        {"kind": "custom", "target": "my.code:loss", "options": {"delta": 1.0}},
    ],
    "start": [{"kind": "fresh"}, {"kind": "champion"}, {"kind": "version", "version": 3}],
    "promotion.gates.0": [
        {"kind": "at_least", "metric": "accuracy", "value": 0.9},
        {"kind": "at_most", "metric": "loss", "value": 0.5},
        {"kind": "not_worse", "metric": "accuracy", "by": 0.02},
        {"kind": "worst_client", "metric": "accuracy", "by": 0.1},
        {"kind": "epsilon", "at_most": 8.0, "unit": "client", "delta": 1e-05},
        {"kind": "latency", "milliseconds": 5.0},
        {"kind": "size", "megabytes": 10.0},
        {"kind": "schema"},
    ],
    "retention": [
        {"kind": "all"},
        {"kind": "every", "rounds": 5},
        {"kind": "best"},
        {"kind": "promoted"},
    ],
    "algorithm.select": [
        {"kind": "all"},
        {"kind": "uniform", "cohort": 2},
        {"kind": "poisson", "rate": 0.5},
        {"kind": "by_size", "cohort": 2},
        {"kind": "round_robin", "cohort": 2},
        {"kind": "power_of_choice", "cohort": 2, "candidates": 4},
        {"kind": "available", "cohort": 2, "over": 1.3, "presence": {"probability": 0.5, "cycle": 24, "at": [1, 2]}},
        {"kind": "stratified", "cohort": 2, "tag": "region"},
        {"kind": "custom", "target": "federated.selectors:All"},
    ],
    "algorithm.local.optimizer": [
        *[{"kind": kind, "learning_rate": 0.5} for kind in OPTIMIZERS],
        {"kind": "custom", "target": "my.code:Optimizer"},
    ],
    "algorithm.local.schedule": [
        {"kind": "constant", "warmup": 3},
        {"kind": "exponential", "decay": 0.9, "every": 2},
        {"kind": "cosine", "rounds": 10, "end": 0.1},
        {"kind": "steps", "at": [5, 8], "factor_each": 0.5},
    ],
    "algorithm.local.work": [
        {"kind": "same"},
        {"kind": "partial", "stragglers": 0.3},
        {"kind": "per_client", "epochs": {"client-1": 2.5}},
        {"kind": "time_budget", "seconds": 3, "steps_per_second": 2.0, "clients": {"client-1": 0.5}},
    ],
    "algorithm.correction": [
        {"kind": "none"},
        {"kind": "fedprox", "mu": 0.1},
        {"kind": "scaffold"},
        {"kind": "feddyn", "alpha": 0.1},
    ],
    "algorithm.transforms.0": [
        {"kind": "clip", "norm": 1.0},
        {"kind": "clip_layers", "norm": 1.0},
        {"kind": "clip_elements", "threshold": 0.1},
        {"kind": "top_k", "share": 0.01},
        {"kind": "random_k", "share": 0.1},
        {"kind": "quantise", "bits": 4},
        {"kind": "rotate", "bits": 2},
        {"kind": "sign"},
        {"kind": "central_gaussian", "norm": 1.0, "noise_multiplier": 2.0},
        {"kind": "adaptive_gaussian", "norm": 0.1, "noise_multiplier": 0.5, "quantile": 0.4},
        {"kind": "local_gaussian", "norm": 1.0, "noise_multiplier": 2.0},
        {"kind": "distributed_skellam", "norm": 1.0, "noise_multiplier": 2.0, "least": 5},
        {**CORRELATED, "norm": 1.0, "noise_multiplier": 2.0, "rounds": 60, "participations": 30},
    ],
    "algorithm.rule": [
        {"kind": "mean"},
        {"kind": "weighted_mean"},
        {"kind": "fixed_mean", "expected": 10.0, "cap": 50},
        {"kind": "fednova"},
        {"kind": "weighted_mean", "by": "quality"},
        {"kind": "weighted_mean", "weights": {"client-1": 2.0}},
        {"kind": "median"},
        {"kind": "trimmed_mean", "trim": 0.1},
        {"kind": "krum", "byzantine": 1},
        {"kind": "multi_krum", "byzantine": 1, "keep": 3},
        {"kind": "bulyan", "byzantine": 1},
        {"kind": "geometric_median", "smoothing": 1e-3, "iterations": 5, "tolerance": 1e-3},
        {"kind": "centered_clip", "radius": 1.0, "iterations": 2},
        {"kind": "fltrust"},
        {"kind": "norm_bounded_mean", "bound": 1.0},
        {"kind": "qfedavg", "q": 1.0, "lipschitz": 10.0},
        {"kind": "custom", "target": "federated.rules:Mean"},
    ],
    "algorithm.server": [
        {"kind": "sgd", "learning_rate": 0.5},
        {"kind": "momentum", "momentum": 0.5, "nesterov": True},
        {"kind": "adagrad", "schedule": {"kind": "constant", "warmup": 3}},
        {"kind": "adam", "beta_1": 0.5, "beta_2": 0.9},
        {"kind": "yogi", "tau": 0.01},
    ],
    "attacks.0": [
        {"kind": "sign_flip", "share": 0.2, "scale": 4.0},
        {"kind": "gaussian", "count": 4, "deviation": 0.1},
        {"kind": "label_flip", "clients": ["client-03"], "to": "next"},
        {"kind": "alie", "count": 4, "deviations": 1.5},
        {"kind": "inner_product", "count": 4, "factor": 0.5},
        {"kind": "backdoor", "count": 4, "target": 3, "size": 3, "value": 1.0, "poisoned": 0.3, "scale": 5.0},
        {"kind": "free_rider", "count": 4, "rounds": {"first": 3, "last": 9}},
    ],
}
"""Each family by its path in a plan, with the least that names each member."""

NOISES = ("central_gaussian", "adaptive_gaussian", "local_gaussian", "distributed_skellam")
PRIVATE = [
    "baselines=false",
    "privacy={population: people, delta: 1.0e-5, budget: null}",
    "algorithm.select={kind: all}",
    "algorithm.rule={kind: fixed_mean, expected: 20}",
]
FITTING = {
    "algorithm.select": ["partition={kind: natural}"],
    "partition": ["algorithm.select={kind: all}"],
    "algorithm.correction": ["algorithm.transforms=[]"],
    "algorithm.rule": ["quorum=7"],
    "algorithm.rule.fltrust": ["holdout.root=0.05"],
    **{f"algorithm.transforms.0.{kind}": PRIVATE for kind in NOISES},
    "algorithm.transforms.0.correlated_gaussian": [*PRIVATE, "simulation=true"],
    "promotion.gates.0": ["promotion.gates=[{kind: schema}]"],
    "attacks.0": ["simulation=true", "attacks=[{kind: sign_flip, count: 1}]"],
}
"""What the rest of the quickstart must be for every member to fit."""


def node(path: str) -> dict[str, Any]:
    """The schema's description of the field at a path."""
    found = SCHEMA
    for part in path.split("."):
        found = described(found)
        found = found["items"] if part.isdigit() else found["properties"][part]
    return found


def described(found: dict[str, Any]) -> dict[str, Any]:
    """What a node refers to, or itself."""
    references = [option["$ref"] for option in [found, *found.get("anyOf", [])] if "$ref" in option]
    if "discriminator" in found or not references:
        return found
    return SCHEMA["$defs"][references[0].rpartition("/")[2]]


def kinds(path: str) -> set[str]:
    """What the schema allows as ``kind`` there."""
    family = node(path)
    if "discriminator" in family:
        return set(family["discriminator"]["mapping"])
    return {described(family)["properties"]["kind"]["const"]}


def families(found: dict[str, Any], path: str = "") -> Iterator[str]:
    """The path of every union told apart by ``kind``."""
    for name, field in found.get("properties", {}).items():
        here = f"{path}.{name}".strip(".")
        if "discriminator" in field:
            yield here
        elif "discriminator" in field.get("items", {}):
            yield f"{here}.0"
        elif described(field) is not field:
            yield from families(described(field), here)


def values(found: Any, path: str) -> Any:
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


def test_the_table_above_has_every_family_and_every_kind():
    assert set(families(SCHEMA)) <= set(NAMED)
    named = {path: {member["kind"] for member in members} for path, members in NAMED.items()}
    assert named == {path: kinds(path) for path in NAMED}


@pytest.mark.parametrize(
    ("path", "member"),
    [
        pytest.param(path, member, id=f"{path}.{member['kind']}")
        for path, members in NAMED.items()
        for member in members
    ],
)
def test_every_kind_can_be_named(path, member):
    override = f"{path}={yaml.safe_dump(member, default_flow_style=True)}"
    fitting = FITTING.get(path, []) + FITTING.get(f"{path}.{member['kind']}", [])
    plan = load_plan("quickstart", ["quorum=1", *fitting, override])
    found = values(plan, path).model_dump(mode="json")
    assert member.items() <= found.items()
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan


def test_every_property_has_a_title():
    """Its own, or that of what it refers to: a form shows nothing else."""
    owners = {"Plan": SCHEMA, **SCHEMA["$defs"]}
    titles = {
        f"{owner}.{name}": field.get("title") or described(field).get("title")
        for owner, definition in owners.items()
        for name, field in definition.get("properties", {}).items()
    }
    assert {"Plan.data", "Plan.holdout", "Clip.norm"} < titles.keys()
    assert [path for path, title in titles.items() if not title] == []


def test_the_schema_refuses_what_it_does_not_know():
    closed = {name: found.get("additionalProperties") for name, found in SCHEMA["$defs"].items()}
    assert set(closed.values()) == {False}
    assert SCHEMA["additionalProperties"] is False


def required(model: Any, seen: set[Any]) -> Iterator[str]:
    """Fields of a plan's part, and of all parts in it, that have no default."""
    if isinstance(model, type) and issubclass(model, BaseModel) and model not in seen:
        seen.add(model)
        yield from (name for name, field in model.model_fields.items() if field.is_required() and name != "kind")
        for field in model.model_fields.values():
            yield from required(field.annotation, seen)
    for part in get_args(model):
        yield from required(part, seen)


def test_every_field_that_has_to_be_given_is_in_the_documents() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = "".join((docs / name).read_text(encoding="utf-8") for name in ("plans.md", "privacy.md", "life.md"))
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`[^`\n]+`|```.*?```", text, re.DOTALL))))
    assert set(required(Plan, set())) - named == set()
