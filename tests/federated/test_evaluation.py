"""From scores of single examples to numbers about a model and about its clients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from federated.evaluation import ClientTests, columns, distribution, evaluate, means
from tests.fakes import FakeEngine, line_client, line_split


def test_scores_are_averaged_in_float64() -> None:
    assert means({"loss": np.array([2**25, 1, 1, 1], np.float32)}) == {"loss": 8388608.75}


def test_a_model_is_measured_by_the_mean_over_the_rows() -> None:
    data = line_split(20)
    metrics = evaluate(FakeEngine(), np.array([2.0, 1.0], np.float32), data)
    errors = 2.0 * data.x[:, 0].astype(float) + 1.0 - data.y
    assert metrics["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)


def test_no_rows_give_no_numbers() -> None:
    nothing = line_split(20).take(np.array([], np.int64))
    assert evaluate(FakeEngine(), np.array([2.0, 1.0], np.float32), nothing) == {}


def test_scoring_all_clients_at_once_equals_scoring_each() -> None:
    engine, params = FakeEngine(), np.array([1.0, 0.0], np.float32)
    clients = [line_client(name, seed=seed, slope=seed) for seed, name in enumerate("cab")]
    clients.append(replace(line_client("one row"), test=line_split(3).take(np.array([0]))))
    together = ClientTests(clients).evaluate(engine, params)
    assert list(together) == ["c", "a", "b", "one row"]
    for client in clients:
        assert together[client.name] == pytest.approx(evaluate(engine, params, client.test))
    assert len({metrics["loss"] for metrics in together.values()}) == 4


def test_clients_are_counted_from_the_bad_end() -> None:
    values = np.arange(1, 12) ** 2 / 10
    by_client = {f"client-{n}": {"loss": value, "mae": 2 * value, "accuracy": value} for n, value in enumerate(values)}
    summary = distribution(columns(by_client))
    assert summary == {
        "client_loss_worst": pytest.approx(12.1),
        "client_loss_p10": pytest.approx(10.0),
        "client_loss_median": pytest.approx(3.6),
        "client_mae_worst": pytest.approx(24.2),
        "client_mae_p10": pytest.approx(20.0),
        "client_mae_median": pytest.approx(7.2),
        "client_accuracy_worst": pytest.approx(0.1),
        "client_accuracy_p10": pytest.approx(0.4),
        "client_accuracy_median": pytest.approx(3.6),
    }


def test_one_client_is_the_worst_and_the_median() -> None:
    assert set(distribution(columns({"a": {"loss": 0.5}})).values()) == {0.5}


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_a_client_without_a_number_shows_in_the_worst(metric) -> None:
    summary = distribution(columns({"a": {metric: 0.5}, "b": {metric: float("nan")}}))
    assert np.isnan(summary[f"client_{metric}_worst"])
