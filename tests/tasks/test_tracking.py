"""How a training is written down, and what happens when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.loading import load_plan
from federated.errors import TrackingError
from tasks.tracking import connect, flatten, open_run, storing
from tasks.versions import _listed


def test_nested_fields_become_dotted_names() -> None:
    fields = {"a": {"b": 1, "c": [2, 3]}, "d": [{"e": None}], "f": {}}
    assert flatten(fields) == {"a.b": "1", "a.c": "[2, 3]", "d.0.e": "None", "f": "{}"}


def test_a_run_whose_plan_cannot_be_stored_ends_as_failed(home: Path) -> None:
    (home / "artifacts").touch()  # a file where a folder must be
    with pytest.raises(TrackingError, match=r"could not store plan/plan\.yaml: .*Not a directory"):
        open_run(load_plan("quickstart"), "flow")
    client = connect()
    (run,) = client.search_runs([client.get_experiment_by_name("quickstart").experiment_id])
    assert run.info.status == "FAILED"


@pytest.mark.usefixtures("home")
def test_a_deleted_experiment_is_not_brought_back_behind_the_users_back() -> None:
    client = connect()
    client.delete_experiment(client.create_experiment("quickstart"))
    with pytest.raises(TrackingError, match="'quickstart' is deleted; restore it"):
        open_run(load_plan("quickstart"), "flow")


@pytest.mark.usefixtures("home")
def test_option_names_that_mlflow_refuses_are_written_with_underscores() -> None:
    model = "model={kind: custom, target: 'tests.flows.own_code:build', options: {'site(s)': 3}}"
    run = open_run(load_plan("quickstart", [model]), "flow")
    assert connect().get_run(run.run_id).data.params["model.options.site_s_"] == "3"


def test_whatever_goes_wrong_is_one_line_that_says_where(home: Path) -> None:
    with pytest.raises(TrackingError) as refusal, storing("it"):
        raise RuntimeError("first line\nsecond line")
    assert str(refusal.value) == f"MLflow could not store it: first line; check sqlite:///{home}/mlflow.db and its disk"


def test_a_cohort_is_cut_between_names_and_counts_the_rest() -> None:
    names = [f"client-{number:04}" for number in range(1000)]
    text = _listed(names)
    shown, _, rest = text.partition(" and ")
    assert set(shown.split(",")) < set(names)
    assert len(shown.split(",")) + int(rest.split()[0]) == 1000
    assert _listed(names[:3]) == "client-0000,client-0001,client-0002"
