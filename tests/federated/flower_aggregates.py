"""What Flower makes of given updates: ``python flower_aggregates.py INPUTS RESULTS``, with Flower's interpreter.

It calls Flower's own functions and nothing of this project. Updates go in as models of two layers, as Flower has them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAdagrad, FedAdam, FedAvgM, FedYogi
from flwr.server.strategy.aggregate import (
    aggregate,
    aggregate_bulyan,
    aggregate_krum,
    aggregate_median,
    aggregate_qffl,
    aggregate_trimmed_avg,
)
from flwr.supercore.differential_privacy import compute_adaptive_noise_params, compute_clip_model_update, compute_stdv

CUT = 6  # entries in the first layer


def layers(vector: Any) -> list[Any]:
    return [vector[:CUT].reshape(2, -1), vector[CUT:]]


def flat(model: list[Any]) -> Any:
    return np.concatenate([np.ravel(layer) for layer in model])


def rules(case: dict[str, Any]) -> dict[str, Any]:
    """Each function's aggregate of one cohort."""
    examples, byzantine = [int(n) for n in case["examples"]], int(case["byzantine"])
    weighted = list(zip(map(layers, case["rows"]), examples, strict=True))
    alike = [(model, 1) for model, _ in weighted]
    deltas, scales = [layers(row) for row in case["qffl_deltas"]], [float(h) for h in case["qffl_scales"]]
    found = {
        "weighted_mean": aggregate(weighted),
        "mean": aggregate(alike),
        "median": aggregate_median(weighted),
        "trimmed_mean": aggregate_trimmed_avg(weighted, float(case["trim"])),
        "krum": aggregate_krum(weighted, byzantine, 0),
        "multi_krum": aggregate_krum(alike, byzantine, int(case["keep"])),
        "bulyan": aggregate_bulyan(list(weighted), byzantine, aggregate_krum, to_keep=0),
        "qfedavg": aggregate_qffl(layers(np.zeros(case["rows"].shape[1])), deltas, scales),
    }
    return {name: flat(model) for name, model in found.items()}


def private(case: dict[str, Any]) -> dict[str, Any]:
    """Every client's update after clipping, and the deviations of the noise on a mean of 100 times as many."""
    norm, multiplier, expected = float(case["norm"]), float(case["multiplier"]), 100 * len(case["rows"])
    start = layers(np.zeros(case["rows"].shape[1], np.float32))
    clipped = [layers(row.copy()) for row in case["rows"]]
    for model in clipped:
        compute_clip_model_update(model, start, norm)
    _, beside_count = compute_adaptive_noise_params(multiplier, expected, None)
    deviations = [compute_stdv(given, norm, expected) for given in (multiplier, beside_count)]
    return {"clip": np.array([flat(model) for model in clipped]), "deviations": np.array(deviations)}


def course(strategy: Any, params: Any, deltas: Any, before_round: Any) -> Any:
    """The model after every round, in each of which one client is ``delta`` away from the model before it."""
    models = []
    for place, delta in enumerate(deltas):
        before_round(strategy, place + 1)
        trained = ndarrays_to_parameters(layers(params + delta))
        fitted = FitRes(status=Status(Code.OK, ""), parameters=trained, num_examples=1, metrics={})
        stepped, _ = strategy.aggregate_fit(place + 1, [(None, fitted)], [])
        params = flat(parameters_to_ndarrays(stepped))
        models.append(params)
    return np.array(models)


def from_tau(strategy: Any, turn: int) -> None:
    """v as the paper starts it."""
    if turn == 1:
        strategy.v_t = [np.full_like(layer, strategy.tau**2) for layer in strategy.current_weights]


def from_tau_uncorrected(strategy: Any, turn: int) -> None:
    """And a rate that Flower's correction turns into 0.1."""
    from_tau(strategy, turn)
    strategy.eta = 0.1 * (1 - strategy.beta_1 ** (turn + 1)) / np.sqrt(1 - strategy.beta_2 ** (turn + 1))


def as_it_is(strategy: Any, turn: int) -> None:
    """Flower's own way."""


def servers(params: Any, deltas: Any) -> dict[str, Any]:
    """Each strategy's models."""
    start = ndarrays_to_parameters(layers(params))
    adaptive = {"initial_parameters": start, "eta": 0.1, "tau": 1e-2}
    moments = {"beta_1": 0.9, "beta_2": 0.99}
    momentum = FedAvgM(initial_parameters=start, server_learning_rate=0.5, server_momentum=0.9)
    return {
        "momentum": course(momentum, params, deltas, as_it_is),
        "adagrad": course(FedAdagrad(**adaptive), params, deltas, from_tau),
        "yogi": course(FedYogi(**adaptive, **moments), params, deltas, from_tau),
        "adam": course(FedAdam(**adaptive, **moments), params, deltas, from_tau_uncorrected),
        "adagrad as it is": course(FedAdagrad(**adaptive), params, deltas, as_it_is),
        "yogi as it is": course(FedYogi(**adaptive, **moments), params, deltas, as_it_is),
        "adam as it is": course(FedAdam(**adaptive, **moments), params, deltas, as_it_is),
    }


def main() -> None:
    """Reads the inputs and writes the results, by case and name."""
    given, found = np.load(sys.argv[1]), {}
    cases = sorted({name.partition("/")[0] for name in given if name.startswith("case")})
    for case in cases:
        fields = {name.partition("/")[2]: given[name] for name in given if name.startswith(f"{case}/")}
        found |= {f"{case}/{name}": result for name, result in (rules(fields) | private(fields)).items()}
    found |= servers(given["params"], given["deltas"])
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
