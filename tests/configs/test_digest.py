"""A plan's digest: the same for the same result, another for anything that may change it."""

import hashlib
import json
import subprocess
import sys

import pytest

from configs.loading import load_plan, shipped
from configs.plan import Plan

NOT_DECISIVE = {
    "name": "name=another",
    "description": "description=other words",
    "baselines": "baselines=false",
    "commit_every": "commit_every=10",
    "keep_checkpoints": "keep_checkpoints=4",
    "promotion": "promotion.approval=true",
    "retention": "retention={kind: every, rounds: 5}",
    "drift": "drift.psi=0.5",
}

DECISIVE = {
    "data": ["data={kind: breast_cancer}", "data={kind: line}", "data={kind: line, seed: 1}"],
    "partition": ["partition.alpha=0.6", "partition.clients=21", "partition={kind: natural}"],
    "cards": ["cards={client-00: {region: north}}", "cards={client-00: {beds: 80}}"],
    "holdout": ["holdout.test=0.3", "holdout.validation=0.2", "holdout.client_test=0.3"],
    "scaling": ["scaling.by=17", "scaling={kind: as_is}"],
    "model": ["model.hidden=[65]", "model.hidden=[64, 64]", "model={kind: logistic}"],
    "compilation": ["compilation=graph", "compilation=xla"],
    "loss": ["loss={kind: custom, target: my.code:loss}", "loss={kind: categorical_crossentropy}"],
    "device": ["device=cpu", "device=gpu"],
    "replicas": ["replicas=2"],
    "precision": ["precision=mixed_bfloat16", "precision=mixed_float16"],
    "start": ["start={kind: champion}", "start={kind: version, version: 3}", "start={kind: version, version: 4}"],
    "rounds": ["rounds=31"],
    "stop": ["stop.patience=3", "stop.minutes=5", "stop={metric: accuracy, at_least: 0.9}"],
    "quorum": ["quorum=6"],
    "evaluate_every": ["evaluate_every=0", "evaluate_every=2"],
    "simulation": ["simulation=true"],
    "attacks": [],
    "privacy": [],
    "algorithm": [
        "algorithm.seed=8",
        "algorithm.select.cohort=11",
        "algorithm.select={kind: all}",
        "algorithm.local.epochs=3",
        "algorithm.local={steps: 3}",
        "algorithm.local.batch_size=null",
        "algorithm.local.clip_examples=1.5",
        "algorithm.local.schedule={kind: exponential, decay: 0.9}",
        "algorithm.local.work={kind: partial}",
        "algorithm.correction={kind: fedprox, mu: 0.1}",
        "algorithm.local.optimizer.learning_rate=0.2",
        "algorithm.local.optimizer={kind: adam, learning_rate: 0.1}",
        "algorithm.transforms=[]",
        "algorithm.transforms.0.norm=11",
        "algorithm.rule={kind: mean}",
        "algorithm.server.learning_rate=0.5",
    ],
}

ATTACKED = {
    kind: ["simulation=true", f"attacks=[{{kind: {kind}, {rest}}}]"]
    for kind, rest in {
        "sign_flip": "count: 4",
        "alie": "count: 4",
        "free_rider": "count: 4, rounds: {last: 3}",
    }.items()
}
"""An attack takes two changes."""

CHANGES = [change for changes in DECISIVE.values() for change in changes]


def digest(*overrides: str) -> str:
    return load_plan("quickstart", overrides).digest()


def test_the_tables_above_have_every_field():
    assert NOT_DECISIVE.keys() | DECISIVE.keys() == Plan.model_fields.keys()
    parts = {change.split(".")[1].split("=")[0] for change in DECISIVE["algorithm"]}
    assert parts == Plan.model_fields["algorithm"].annotation.model_fields.keys()


@pytest.mark.parametrize("override", NOT_DECISIVE.values(), ids=NOT_DECISIVE)
def test_what_cannot_change_the_result_does_not_change_the_digest(override):
    assert load_plan("quickstart", [override]) != load_plan("quickstart")
    assert digest(override) == digest()


def test_every_change_gives_a_digest_of_its_own():
    digests = {change: digest(change) for change in ["rounds=30", *CHANGES]}
    assert len(set(digests.values())) == 1 + len(CHANGES)


def test_every_attack_gives_a_digest_of_its_own():
    digests = {digest(*changes) for changes in (["rounds=30"], ["simulation=true"], *ATTACKED.values())}
    assert len(digests) == 2 + len(ATTACKED)


def test_a_plan_that_simulates_nothing_has_the_digest_of_before_there_were_simulations():
    plan = load_plan("quickstart")
    fields = plan.model_dump(mode="json", exclude={*NOT_DECISIVE, "simulation", "attacks", "privacy"})
    assert fields["algorithm"]["local"].pop("dp_sgd") is None
    assert plan.digest() == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def test_every_way_to_be_private_gives_a_digest_of_its_own():
    private = ["baselines=false", "stop=null", "simulation=true", "privacy={population: a, delta: 0.001, budget: 3}"]
    dp_sgd = "algorithm.local.dp_sgd={norm: 1, noise_multiplier: 2}"
    changes = [[], ["privacy.budget=4"], ["privacy.population=b"], ["algorithm.local.dp_sgd.noise_multiplier=3"]]
    digests = {digest(*private, dp_sgd, *change) for change in changes}
    assert len(digests | {digest("simulation=true", "stop=null")}) == 1 + len(changes)


def test_the_shipped_plans_have_digests_of_their_own():
    digests = {load_plan(name).digest() for name in shipped()}
    assert len(digests) == len(shipped())
    assert all(len(found) == 64 for found in digests)


def test_how_a_value_is_written_does_not_change_the_digest():
    assert digest("algorithm.local.optimizer.learning_rate=1") == digest("algorithm.local.optimizer.learning_rate=1.0")
    assert digest("algorithm.server={kind: sgd}") == digest("algorithm.server={learning_rate: 1, kind: sgd}")
    assert digest("data={kind: line}") == digest("data={seed: 0, clients: 5, kind: line}")


def test_the_order_of_options_does_not_change_the_digest():
    first = load_plan("quickstart", ["model={kind: custom, target: 'a:b', options: {a: 1, b: 2}}"])
    second = load_plan("quickstart", ["model={kind: custom, target: 'a:b', options: {b: 2, a: 1}}"])
    assert first == second
    assert first.digest() == second.digest()


def test_a_digest_survives_a_trip_through_json():
    plan = load_plan("csv-template")
    assert Plan.model_validate_json(plan.model_dump_json()).digest() == plan.digest()


def test_another_process_gives_the_same_digest():
    program = "from configs.loading import load_plan; print(load_plan('quickstart').digest())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == digest()
