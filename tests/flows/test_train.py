"""The main flow, on a real Prefect API and a real MLflow."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs.loading import load_plan
from configs.plan import Plan
from federated.data import concatenate
from federated.errors import StageError
from federated.evaluation import evaluate
from federated.loop import one_round
from federated.rounds import Memories, initial_state
from federated.updates import digest
from flows.train import train
from tasks.engines import engine_of
from tasks.replaying import replay
from tasks.signing import trusted_keys
from tasks.summary import Summary
from tasks.training import RoundReport
from tasks.watching import Unwatched, watched_by

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

SMALL = ("rounds=3", "baselines=false", "partition.clients=6", "algorithm.select.cohort=4", "quorum=2")


ATTACKED = (
    "simulation=true",
    "attacks=[{kind: backdoor, count: 2, size: 2, scale: 3}, {kind: alie, count: 2}, {kind: gaussian, count: 1, "
    "deviation: 0.05, rounds: {first: 2}}]",
)


def small_plan(*overrides: str) -> Plan:
    """Digits over six clients, three rounds."""
    return load_plan("quickstart", [*SMALL, *overrides])


def client() -> Any:
    """MLflow as the flow left it."""
    from tasks.tracking import connect

    return connect()


def run_of(summary: Summary) -> Any:
    """The MLflow run of a training."""
    return client().get_run(summary.run_id)


def only_run(status: str) -> Any:
    """The one run there is, which must have this status."""
    found = client()
    experiments = [experiment.experiment_id for experiment in found.search_experiments()]
    (run,) = found.search_runs(experiments)
    assert run.info.status == status
    return run


def versions_of(name: str) -> list[Any]:
    """All versions, oldest first."""
    return sorted(client().search_model_versions(f"name='{name}'"), key=lambda found: int(found.version))


def plain_loop(plan: Plan) -> str:
    """The method without Prefect or MLflow: the digest of its weights."""
    federation = plan.federation()
    engine = engine_of(plan, federation)
    state, memories = initial_state(plan.algorithm, engine, len(federation.clients)), Memories()
    adversary = plan.adversary(federation)
    for _ in range(plan.rounds):
        state, learnt, *_ = one_round(
            plan.algorithm, engine, state, federation.clients, memories, plan.needed, federation.root, adversary
        )
        memories |= learnt
    return digest(state.params)


BY_WAY_OF_TRAINING = {
    "vectorized": ["1", "2", "3"],
    "graph": ["1", "2", "3", "model={kind: cnn, filters: [2, 4], hidden: 8}"],
    "xla": ["2", "compilation=xla"],
    "scaffold": ["3", "algorithm.correction={kind: scaffold}", "algorithm.local.work={kind: partial}"],
    "feddyn": [
        "2",
        "algorithm.transforms=[]",
        "algorithm.correction={kind: feddyn}",
        "algorithm.local.schedule={kind: exponential, decay: 0.9}",
    ],
    "fednova": ["3", "algorithm.rule={kind: fednova}", "algorithm.local.work={kind: partial}", "commit_every=2"],
    "attacked": ["1", "3", *ATTACKED],
}
"""Numbers of workers, and changes to the plan."""


@pytest.mark.parametrize("way", BY_WAY_OF_TRAINING)
def test_the_flow_equals_the_plain_loop_bit_for_bit(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [word for word in BY_WAY_OF_TRAINING[way] if word.isdecimal()]
    plan = small_plan("algorithm.transforms.0.norm=0.3", *BY_WAY_OF_TRAINING[way][len(workers) :])
    expected = plain_loop(plan)
    for count in workers:
        monkeypatch.setenv("ROUNDHOUSE_WORKERS", count)
        assert train(plan).weights_sha256 == expected


def test_the_same_plan_and_seed_give_the_same_weights_twice_and_another_seed_others() -> None:
    first, second, other = train(small_plan()), train(small_plan()), train(small_plan("algorithm.seed=8"))
    assert first.weights_sha256 == second.weights_sha256 != other.weights_sha256
    assert first.metrics == second.metrics


def test_every_round_is_a_registered_version_with_its_lineage() -> None:
    summary = train(small_plan())
    versions = versions_of("quickstart")
    assert [found.tags["round"] for found in versions] == ["1", "2", "3"]
    assert [found.tags.get("parent_version") for found in versions] == [None, "1", "2"]
    last = versions[-1]
    assert (last.run_id, last.version) == (summary.run_id, int(summary.model_version))
    assert last.tags["run_id"] == summary.run_id
    assert last.tags["weights_sha256"] == summary.weights_sha256
    assert last.tags["plan_sha256"] == small_plan().digest()
    names = small_plan().federation().clients
    assert set(last.tags["cohort"].split(",")) <= set(names)
    assert last.tags["cohort_size"] == "4"
    assert len({found.tags["weights_sha256"] for found in versions}) == 3


def test_a_second_training_adds_versions_and_latest_moves() -> None:
    train(small_plan("rounds=1"))
    summary = train(small_plan("rounds=1"))
    assert summary.model_version == "2"
    assert str(client().get_model_version_by_alias("quickstart", "latest").version) == "2"


def test_a_version_loads_back_with_the_flows_weights_and_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow

    plan = small_plan()
    summary = train(plan)
    federation, raw = plan.federation(), plan.data.load().rows.x
    loaded = mlflow.pyfunc.load_model("models:/quickstart@latest")
    probabilities = loaded.predict(raw)
    capsys.readouterr()  # Keras' progress bar

    from models.keras_engine import KerasEngine
    from models.layout import Layout
    from models.served_model import ServedModel

    core = next(layer for layer in loaded.get_raw_model().layers if layer.weights)
    params = Layout(core).read(core)
    assert digest(params) == summary.weights_sha256
    served = ServedModel(plan.model, federation.inputs, federation.classes, federation.scaling)
    np.testing.assert_allclose(probabilities, served.predict(params, raw), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    engine = KerasEngine(plan.model, federation.inputs, federation.classes)
    assert evaluate(engine, params, federation.test)["accuracy"] == summary.metrics["test_accuracy"]
    signature = loaded.metadata.signature
    assert signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
    assert signature.outputs.inputs[0].shape == (-1, 10)


def test_the_input_example_is_nobodys_row_and_can_be_scored(capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow
    from mlflow.models import Model

    train(small_plan("rounds=1"))
    path = mlflow.artifacts.download_artifacts("models:/quickstart@latest")
    example = Model.load(path).load_input_example(path)
    assert mlflow.pyfunc.load_model(path).predict(example).shape == (2, 10)
    capsys.readouterr()
    rows = small_plan().data.load().rows.x
    assert not any((rows == row).all(axis=(1, 2, 3)).any() for row in example)


def test_a_version_asks_for_pinned_packages() -> None:
    import mlflow

    train(small_plan("rounds=1"))
    path = Path(mlflow.artifacts.download_artifacts("models:/quickstart@latest"))
    requirements = (path / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} == {"keras", "mlflow", "numpy", "tensorflow"}
    assert all("==" in line for line in requirements)


def commit_of_this_checkout() -> str | None:
    """None where the project came as an archive."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    shown = subprocess.run(command, capture_output=True, text=True)
    return shown.stdout.strip() if shown.returncode == 0 else None


def test_the_run_holds_the_plan_the_numbers_of_every_round_and_the_figures() -> None:
    summary = train(small_plan("baselines=true"))
    run = run_of(summary)
    assert run.info.status == "FINISHED"
    assert run.data.params["algorithm.local.optimizer.learning_rate"] == "0.1"
    assert run.data.params["algorithm.transforms.0.kind"] == "clip"
    assert run.data.tags["stop_reason"] == "rounds"
    assert run.data.tags["compilation"] == "vectorized"
    assert run.data.tags["device"] in ("cpu", "gpu")
    assert len(run.data.tags["prefect.flow_run_id"]) == 36
    assert run.data.tags.get("mlflow.source.git.commit") == commit_of_this_checkout()
    by_round = (
        "loss", "accuracy", "train_loss", "client_accuracy_worst", "client_accuracy_p10", "client_accuracy_median",
        "seconds_train", "seconds_aggregate", "seconds_round", "bytes_up", "bytes_down", "cohort", "left_out",
    )  # fmt: skip
    for name in by_round:
        steps = [point.step for point in client().get_metric_history(summary.run_id, name)]
        assert steps == [1, 2, 3], name
    assert run.data.metrics["bytes_up"] == 4 * 4 * 4810
    for name in ("test_accuracy", "pooled_test_accuracy", "alone_test_accuracy_median"):
        assert 0 <= run.data.metrics[name] <= 1
    figures = {found.path for found in client().list_artifacts(summary.run_id, "figures")}
    assert figures == {f"figures/{name}.png" for name in ("metrics-by-round", "clients-by-round", "who-holds-what")}


def test_a_simulation_says_so_and_counts_attackers_and_what_their_backdoor_achieves() -> None:
    summary = train(small_plan(*ATTACKED))
    run = run_of(summary)
    assert run.data.tags["simulation"] == "true"
    for name in ("attackers", "backdoor_success"):
        assert [point.step for point in client().get_metric_history(summary.run_id, name)] == [1, 2, 3], name
    assert 1 <= run.data.metrics["attackers"] <= 4
    assert 0 <= run.data.metrics["test_backdoor_success"] <= 1
    assert run.data.metrics["test_backdoor_success"] == summary.metrics["test_backdoor_success"]
    assert run.data.params["attacks.0.kind"] == "backdoor"
    assert replay("quickstart/3", trusted_keys()).agrees


def test_a_training_that_simulates_nothing_says_nothing_of_attacks() -> None:
    run = run_of(train(small_plan("rounds=1")))
    assert "simulation" not in run.data.tags
    assert not {"attackers", "backdoor_success", "test_backdoor_success"} & run.data.metrics.keys()


def test_the_plan_in_the_run_is_the_plan_that_ran() -> None:
    import mlflow

    plan = small_plan("rounds=1")
    summary = train(plan)
    path = mlflow.artifacts.download_artifacts(run_id=summary.run_id, artifact_path="plan/plan.yaml")
    assert Plan.model_validate(yaml.safe_load(Path(path).read_text())) == plan


def test_the_summary_sets_the_federated_model_beside_the_baselines() -> None:
    summary = train(small_plan("baselines=true"))
    assert set(summary.per_client) == set(small_plan().federation().clients)
    for numbers in summary.per_client.values():
        assert {"train_rows", "own_accuracy", "alone_test_accuracy", "alone_own_accuracy"} <= set(numbers)
    assert summary.metrics["pooled_test_accuracy"] > summary.metrics["alone_test_accuracy_median"]


def test_prefect_shows_the_round_as_tasks_named_by_plan_and_round() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    state = train(small_plan("rounds=2"), return_state=True)
    flow_run_id = state.state_details.flow_run_id
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as api:
        assert api.read_flow_run(flow_run_id).name == "quickstart"
        names = set(_wait_for_names(api, chosen, "register_model quickstart round 2"))
    for number in (1, 2):
        for task in ("select_clients", "clip_updates", "aggregate_updates", "evaluate_model", "register_model"):
            assert f"{task} quickstart round {number}" in names
        assert f"train_clients quickstart round {number} shard 0" in names


def _wait_for_names(api: Any, chosen: Any, last: str) -> list[str]:
    """Names of task runs, once the recorder has written the last of them."""
    import time

    for _ in range(100):
        names = [found.name for found in api.read_task_runs(flow_run_filter=chosen, limit=200)]
        if last in names:
            return names
        time.sleep(0.1)
    return names


def test_prefect_keeps_a_summary_and_a_bar_that_ends_at_100() -> None:
    from prefect.artifacts import Artifact

    summary = train(small_plan())
    text = Artifact.get("quickstart-summary")
    assert text is not None
    assert f"| MLflow run | {summary.run_id} |" in text.data
    assert sum(line.startswith(("| 1 |", "| 2 |", "| 3 |")) for line in text.data.splitlines()) == 3
    bar = Artifact.get("quickstart-progress")
    assert bar is not None
    assert bar.data == 100


@pytest.mark.parametrize(
    ("stop", "reason", "most"),
    [
        ("{metric: accuracy, at_least: 0.3}", "target", 39),
        ("{metric: loss, patience: 1, min_delta: 10}", "patience", 3),
        ("{minutes: 1.0e-4}", "minutes", 1),
    ],
)
def test_a_training_says_why_it_stopped(stop: str, reason: str, most: int) -> None:
    summary = train(small_plan("rounds=40", f"stop={stop}"))
    assert (summary.stop_reason, run_of(summary).data.tags["stop_reason"]) == (reason, reason)
    assert summary.rounds <= most
    assert len(versions_of("quickstart")) == summary.rounds


def test_the_federated_line_is_the_pooled_least_squares_line() -> None:
    import mlflow

    plan = load_plan("linear-regression")
    summary = train(plan)
    pooled = concatenate([party.train for party in plan.federation().clients.values()])
    expected = np.polyfit(pooled.x[:, 0], pooled.y, 1)
    model = mlflow.keras.load_model("models:/linear-regression@latest")
    np.testing.assert_allclose([weight.item() for weight in model.get_weights()], expected, atol=1e-2)
    figures = {found.path for found in client().list_artifacts(summary.run_id, "figures")}
    assert "figures/fitted-line.png" in figures


@pytest.mark.parametrize("name", ["quickstart", "breast-cancer", "linear-regression", "csv-template"])
def test_every_shipped_plan_trains(name: str, tmp_path: Path) -> None:
    overrides = ["rounds=2"]
    if name == "csv-template":
        overrides.append(f"data.path={write_table(tmp_path)}")
    summary = train(load_plan(name, overrides))
    assert summary.rounds == 2
    assert np.isfinite(list(summary.metrics.values())).all()


def write_table(folder: Path) -> Path:
    """A table of three sites with two features that tell the label."""
    rng = np.random.default_rng(0)
    lines = ["site,height,weight,label"]
    for row in range(120):
        label = row % 2
        height, weight = rng.normal(label, 0.5), rng.normal(-label, 0.5)
        lines.append(f"{'abc'[row % 3]},{height:.3f},{weight:.3f},{'sick' if label else 'well'}")
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    return path


def test_a_client_with_nan_is_left_out_by_name_and_the_others_go_on() -> None:
    plan = small_plan("algorithm.rule={kind: mean}", "algorithm.select={kind: all}", "rounds=2")
    reports = list[RoundReport]()

    class Listener(Unwatched):
        def round_done(self, report: RoundReport) -> None:
            reports.append(report)

    poisoned = plan.model_copy(
        update={"data": load_plan("quickstart", [POISONED]).data, "partition": load_plan("csv-template").partition}
    )
    with watched_by(Listener()):
        train(poisoned)
    assert [report.left_out for report in reports] == [("poisoned",), ("poisoned",)]
    assert all(report.metrics["left_out"] == 1 for report in reports)


POISONED = "data={kind: custom, target: 'tests.flows.own_code:poisoned_digits'}"


def test_a_client_whose_training_breaks_off_is_named_with_round_and_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.keras_engine import KerasEngine

    plan = small_plan("algorithm.select={kind: all}", "algorithm.local.steps=null")
    unlucky, really = plan.federation().clients["client-3"], KerasEngine._task

    def breaks(engine: Any, data: Any, *rest: Any) -> Any:
        if len(data) == len(unlucky.train):
            raise MemoryError("no room for its rows")
        return really(engine, data, *rest)

    monkeypatch.setattr(KerasEngine, "_task", breaks)
    state = train(plan, return_state=True)
    assert state.is_failed()
    with pytest.raises(StageError, match=r"^round 1, client client-\d, local training: no room for its rows$"):
        state.result()
    only_run("FAILED")


@pytest.mark.parametrize(("stage", "function"), [("aggregation", "server_half"), ("evaluation", "evaluate")])
def test_an_error_in_a_stage_names_round_and_stage(stage: str, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> Any:
        raise IndexError("index 7 is out of bounds")

    monkeypatch.setattr(f"tasks.round_tasks.{function}", breaks)
    with pytest.raises(StageError, match=f"^round 1, {stage}: index 7 is out of bounds$"):
        train(small_plan("rounds=1"))


def test_too_few_usable_updates_fail_the_round_and_the_run_with_the_reason() -> None:
    plan = small_plan("algorithm.local.optimizer.learning_rate=1.0e+30")
    state = train(plan, return_state=True)
    assert state.is_failed()
    with pytest.raises(Exception, match=r"round 1: 0 usable updates, quorum is 2; NaN or infinity from client-0"):
        state.result()
    only_run("FAILED")
    assert versions_of("quickstart") == []


class Interrupter(Unwatched):
    """Presses Ctrl-C when round 2 is done."""

    def round_done(self, report: RoundReport) -> None:
        if report.round == 2:
            raise KeyboardInterrupt


def test_ctrl_c_ends_as_cancelled_and_killed_with_the_versions_intact() -> None:
    import mlflow

    with watched_by(Interrupter()):
        state = train(small_plan(), return_state=True)
    assert state.is_cancelled()
    only_run("KILLED")
    assert [found.tags["round"] for found in versions_of("quickstart")] == ["1", "2"]
    assert mlflow.keras.load_model("models:/quickstart@latest") is not None


def test_your_own_data_model_and_rule_come_in_by_name() -> None:
    plan = Plan.model_validate(yaml.safe_load((Path(__file__).parent / "own_code.yaml").read_text()))
    summary = train(plan)
    assert (summary.rounds, summary.plan) == (2, "own-code")
    assert summary.metrics["test_accuracy"] > 0.5


def test_a_plan_can_be_given_by_name_with_overrides_as_deployments_do() -> None:
    summary = train("quickstart", [*SMALL, "rounds=1"])
    assert summary.rounds == 1
    assert summary.weights_sha256 == train(small_plan("rounds=1")).weights_sha256


def test_mlflow_away_is_one_line_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Exception, match=r"MLflow cannot be reached at http://127.0.0.1:9/health .*MLFLOW_TRACKING_URI"):
        train(small_plan())
