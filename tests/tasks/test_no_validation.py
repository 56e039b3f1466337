"""Where no rows are the server's to steer by: what is measured, and what is drawn."""

from __future__ import annotations

from matplotlib.figure import Figure

from configs.loading import load_plan
from federated.division import Holdout
from federated.federation import federate
from federated.partitions import Iid
from federated.scaling import AsIs
from federated.sources import Line
from roundhouse.display import line
from tasks.figures import metrics_by_round
from tasks.png import png
from tasks.round_tasks import evaluate_model
from tasks.training import At, Contribution, RoundReport, Training
from tests.fakes import FakeEngine


def training() -> Training:
    federation = federate(Line(clients=3).load(), Iid(clients=3), Holdout(validation=0), AsIs(), 0)
    return Training(load_plan("linear-regression", ["holdout.validation=0", "stop=null"]), federation, FakeEngine())


def test_a_round_is_measured_on_clients_test_rows_alone() -> None:
    of = training()
    evaluated = evaluate_model.fn(of, At("line", 1), of.engine.init(0)).value
    assert {name.partition("_")[0] for name in evaluated.metrics} == {"client"}
    assert evaluated.per_client.keys() == of.federation.clients.keys()
    assert len(evaluated.spread) == 5


def test_the_figure_of_rounds_shows_the_clients_median(monkeypatch) -> None:
    drawn = list[Figure]()
    monkeypatch.setattr("tasks.figures.png", lambda figure: (drawn.append(figure), png(figure))[1])
    metrics = [{"client_loss_median": 3.0 - n, "client_mae_median": 1.0, "train_loss": 2.0} for n in range(3)]
    reports = [RoundReport(n + 1, (), (), found, (0.0,) * 5, {}) for n, found in enumerate(metrics)]
    assert metrics_by_round(reports, "mae").startswith(b"\x89PNG")
    (figure,) = drawn
    lines = {line.get_label(): list(line.get_ydata()) for axes in figure.axes for line in axes.get_lines()}
    assert lines["clients' own test rows, median"] == [1.0] * 3
    loss = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert loss == {"clients' own test rows, median": [3.0, 2.0, 1.0], "local training": [2.0] * 3}


def test_a_rounds_line_has_the_clients_medians_where_nothing_else_was_measured() -> None:
    clients = {"client_loss_median": 0.25, "client_mae_median": 0.5, "client_mae_worst": 0.75, "seconds_round": 0.1}
    sent = (Contribution("a", "0" * 64, 1.0),)
    without, with_rows = (RoundReport(1, sent, (), found, (), {}) for found in (clients, {**clients, "loss": 1.5}))
    assert str(without) == "round 1: 1 clients, median loss 0.2500, median mae 0.5000, 0.10 s"
    assert str(with_rows) == "round 1: 1 clients, loss 1.5000, 0.10 s"
    assert "median loss 0.2500  median mae 0.5000  soon" in line(load_plan("quickstart"), without, "soon")
    assert "clients  loss 1.5000  soon" in line(load_plan("quickstart"), with_rows, "soon")
