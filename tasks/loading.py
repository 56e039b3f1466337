"""From a plan to a training: the data and the engine."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.plan import Plan
from tasks.engines import engine_of, prepare
from tasks.signing import signer
from tasks.training import Sealed, Training


@task(task_run_name="load_data {plan.name}", cache_policy=NO_CACHE, persist_result=False)
def load_training(plan: Plan) -> Sealed[Training]:
    """Loads and divides the data, and builds the model. TensorFlow is imported here.

    Raises:
        InputError: the plan and the data do not fit, or the key that signs cannot be read.
    """
    prepare()
    federation = plan.federation()
    return Sealed(Training(plan, federation, engine_of(plan, federation), signer().derived("noise")))
