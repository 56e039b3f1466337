"""Rounds of Flower's simulation engine, in its own environment: ``python -m benchmarks.flower_round MODEL ROUNDS``.

The same Keras model, clients, batches and cohort; a simulated client a core, as Flower recommends. Says when each
round is over; the first, in which its workers start, is one too many.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0")

from benchmarks.workload import BATCH, CLIENTS, COHORT, client_rows, keras_model

MODEL, ROUNDS = sys.argv[1], int(sys.argv[2])


def main() -> None:
    """Runs the simulation."""
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import Context, ndarrays_to_parameters
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    class Client(NumPyClient):
        """One compiled model a client, as Flower's TensorFlow quickstart has it."""

        def __init__(self, client: int) -> None:
            self.model, self.rows = keras_model(MODEL), client_rows(client)

        def fit(self, parameters: Any, config: Any) -> Any:
            self.model.set_weights(parameters)
            self.model.fit(*self.rows, batch_size=BATCH, epochs=1, verbose=0)
            return self.model.get_weights(), len(self.rows[0]), {}

    class Timed(FedAvg):
        """Says when each round's aggregate is there."""

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            if failures:
                raise RuntimeError(f"round {server_round}: {failures[0]}")
            aggregate = super().aggregate_fit(server_round, results, failures)
            print("round", server_round, flush=True)
            return aggregate

    def client_fn(context: Context) -> Any:
        return Client(int(context.node_config["partition-id"])).to_client()

    def server_fn(context: Context) -> ServerAppComponents:
        strategy = Timed(
            fraction_fit=COHORT / CLIENTS,
            fraction_evaluate=0.0,
            min_fit_clients=COHORT,
            min_available_clients=CLIENTS,
            initial_parameters=ndarrays_to_parameters(keras_model(MODEL).get_weights()),
        )
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=ROUNDS + 1))

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(ServerApp(server_fn=server_fn), ClientApp(client_fn=client_fn), CLIENTS, backend_config=resources)


if __name__ == "__main__":
    main()
