"""The plans that come with the project."""

from pathlib import Path

import pytest

from configs.loading import SHIPPED, load_plan, shipped
from configs.plan import Plan
from federated.errors import PlanError

PAPERS = [name for name in shipped() if name.startswith("papers/")]
RUNNABLE = [name for name in shipped() if name not in ("csv-template", *PAPERS)]  # the template names no table


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_plan_is_called_as_its_file(name):
    assert load_plan(name).name == name.rpartition("/")[2]


@pytest.mark.parametrize("name", shipped())
def test_a_plan_survives_a_trip_through_json(name):
    plan = load_plan(name)
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_shipped_plan_finds_its_data(name):
    plan = load_plan(name)
    federation = plan.federation()
    assert plan.quorum <= plan.algorithm.select.cohort_size(len(federation.clients))
    assert plan.model.parameters(federation.inputs, federation.classes) > 0


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_plan_says_which_variable_leads_to_its_data(name, monkeypatch):
    monkeypatch.delenv("ROUNDHOUSE_DATA", raising=False)
    with pytest.raises(PlanError, match=r"^data\.\w+\.path: the environment has no ROUNDHOUSE_DATA; set it"):
        load_plan(name).federation()


def test_every_plan_in_the_folder_is_shipped():
    files = {str(path.relative_to(SHIPPED)) for path in SHIPPED.rglob("*") if path.suffix in (".yaml", ".yml")}
    assert files == {f"{name}.yaml" for name in shipped()}
    assert {"quickstart", "papers/fed-heart"} <= shipped().keys()


def test_a_plan_is_also_found_by_its_path(tmp_path: Path):
    copy = tmp_path / "mine.yaml"
    copy.write_text(shipped()["quickstart"].read_text(encoding="utf-8"), encoding="utf-8")
    assert load_plan(str(copy)) == load_plan("quickstart")


def test_a_shipped_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch):
    (tmp_path / "quickstart").write_text("name: other", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_plan("quickstart").name == "quickstart"
