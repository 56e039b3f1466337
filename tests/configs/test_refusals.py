"""What a wrong plan is told: one line a fault, at the field's path, with what to do."""

from pathlib import Path

import pytest

from configs.loading import load_plan, shipped
from federated.errors import PlanError

WORK_BY_TIME = "{kind: time_budget, seconds: 1, steps_per_second: 5, clients: {client-99: 2}}"


def refusal(plan: str, *overrides: str) -> str:
    with pytest.raises(PlanError) as raised:
        load_plan(plan, overrides)
    return str(raised.value)


UNKNOWN_KINDS = [
    (
        "data.kind=digit",
        "data",
        "'digits', 'breast_cancer', 'iris', 'wine', 'diabetes', 'linnerud', 'line', 'csv', 'parquet', 'npz', 'idx', "
        "'images', 'windows', 'ratings', 'text', 'custom', 'keras'",
    ),
    (
        "partition.kind=dirichelt",
        "partition",
        "'natural', 'shares', 'iid', 'power_law', 'dirichlet', 'shards', 'labels', 'features'",
    ),
    ("scaling.kind=minmax", "scaling", "'as_is', 'divide', 'given', 'standardize'"),
    (
        "model.kind=svm",
        "model",
        "'linear', 'logistic', 'mlp', 'cnn', 'resnet', 'lstm', 'gru', 'recommender', 'saved', 'custom'",
    ),
    (
        "algorithm.select.kind=some",
        "algorithm.select",
        "'all', 'uniform', 'poisson', 'by_size', 'round_robin', 'power_of_choice', 'available', 'stratified', 'custom'",
    ),
    (
        "algorithm.rule.kind=average",
        "algorithm.rule",
        "'mean', 'weighted_mean', 'fixed_mean', 'fednova', 'median', 'trimmed_mean', 'krum', 'multi_krum', 'bulyan', "
        "'geometric_median', 'centered_clip', 'fltrust', 'norm_bounded_mean', 'qfedavg', 'custom'",
    ),
    ("algorithm.server.kind=adamw", "algorithm.server", "'sgd', 'momentum', 'adagrad', 'adam', 'yogi'"),
    (
        "algorithm.transforms.0.kind=cilp",
        "algorithm.transforms.0",
        "'clip', 'clip_layers', 'clip_elements', 'top_k', 'random_k', 'quantise', 'rotate', 'sign', "
        "'central_gaussian', 'adaptive_gaussian', 'local_gaussian', 'distributed_skellam', 'correlated_gaussian'",
    ),
    (
        "algorithm.local.optimizer.kind=sdg",
        "algorithm.local.optimizer",
        "'sgd', 'rmsprop', 'adam', 'adamw', 'adamax', 'nadam', 'lamb', 'lion', "
        "'adagrad', 'adadelta', 'adafactor', 'ftrl', 'muon', 'custom'",
    ),
]


@pytest.mark.parametrize(("override", "path", "legal"), UNKNOWN_KINDS)
def test_an_unknown_kind_lists_the_legal_ones(override, path, legal):
    given = override.partition("=")[2]
    expected = f"{path}: unknown kind {given!r}; expected one of {legal}"
    assert refusal("quickstart", override) == expected


@pytest.mark.parametrize(
    ("override", "path", "meant"),
    [
        ("roundz=3", "roundz", "rounds"),
        ("algorithm.lcoal.epochs=3", "algorithm.lcoal", "local"),
        ("algorithm.local.epoch=3", "algorithm.local.epoch", "epochs"),
        ("holdout.tset=0.1", "holdout.tset", "test"),
        ("stop.patienc=1", "stop.patienc", "patience"),
        ("algorithm.server.learning_rat=1", "algorithm.server.sgd.learning_rat", "learning_rate"),
        ("model.hiden=[3]", "model.mlp.hiden", "hidden"),
        ("partition.alhpa=1", "partition.dirichlet.alhpa", "alpha"),
        ("algorithm.select.cohrt=2", "algorithm.select.uniform.cohrt", "cohort"),
        ("algorithm.transforms.0.nrm=1", "algorithm.transforms.0.clip.nrm", "norm"),
        (
            "algorithm.local.optimizer.momentun=1",
            "algorithm.local.optimizer.sgd.momentun",
            "momentum",
        ),
    ],
)
def test_a_misspelt_field_is_told_the_one_that_was_meant(override, path, meant):
    assert refusal("quickstart", override) == f"{path}: unknown field; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("holdout.xyz=1", "holdout.xyz: unknown field; expected one of test, validation, client_test, root"),
        (
            "algorithm.server.xyz=1",
            "algorithm.server.sgd.xyz: unknown field; expected one of kind, learning_rate, schedule",
        ),
        (
            "algorithm.select.xyz=1",
            "algorithm.select.uniform.xyz: unknown field; expected one of kind, cohort",
        ),
    ],
)
def test_a_field_that_is_like_no_other_is_told_them_all(override, message):
    assert refusal("quickstart", override) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=Foo Bar", "name: string should match pattern '^[a-z0-9][a-z0-9-]*$', got 'Foo Bar'"),
        ("name=", "name: input should be a valid string, got None"),
        ("rounds=0", "rounds: input should be greater than or equal to 1, got 0"),
        ("rounds=", "rounds: input should be a valid integer, got None"),
        (
            "rounds=many",
            "rounds: input should be a valid integer, unable to parse string as an integer, got 'many'",
        ),
        ("algorithm.seed=-1", "algorithm.seed: input should be greater than or equal to 0, got -1"),
        ("model.hidden.0=0", "model.mlp.hidden.0: input should be greater than or equal to 1, got 0"),
        (
            "algorithm.transforms.0.norm=-1",
            "algorithm.transforms.0.clip.norm: input should be greater than 0, got -1",
        ),
        (
            "algorithm.local.optimizer.learning_rate=.nan",
            "algorithm.local.optimizer.sgd.learning_rate: input should be a finite number, got nan",
        ),
        (
            "algorithm.local.optimizer.learning_rate=.inf",
            "algorithm.local.optimizer.sgd.learning_rate: input should be a finite number, got inf",
        ),
        ("stop.metric=acc", "stop.metric: input should be 'accuracy', 'loss' or 'mae', got 'acc'"),
        ("data={}", "data: expected a mapping with a kind"),
        ("loss=auto", "loss: expected a mapping with a kind, such as {kind: auto}, got 'auto'"),
        ("algorithm.select=3", "algorithm.select: expected a mapping with fields, got 3"),
        (
            "cards={client-00: {a: null}}",
            "cards.client-00.a: input should be a valid string, got None\n"
            "cards.client-00.a: input should be a valid number, got None",
        ),
        (
            "data={kind: custom, target: my-code}",
            r"data.custom.target: string should match pattern '^\w+(\.\w+)*:\w+$', got 'my-code'",
        ),
        ("data.kind=csv", "data.csv.path: is required\ndata.csv.target: is required"),
        ("partition={kind: iid}", "partition.iid.clients: is required"),
        ("holdout.test=0.95", "holdout: test + validation + root must be below 1, got 0.95 + 0.1 + 0.0"),
        ("holdout.test=1.5", "holdout.test: input should be less than 1, got 1.5"),
        ("holdout.client_test=givne", "holdout.client_test: input should be 'given', got 'givne'"),
        (
            "data={kind: csv, path: t.csv, target: y, missing: meen}",
            "data.csv.missing: input should be 'refuse', 'drop', 'mean' or 'median', got 'meen'",
        ),
        (
            "data={kind: csv, path: '{client}.csv', target: y, client: site}",
            "data.csv: whose a row is, is said by {client} in every path, or by a column called client, not by both",
        ),
        (
            "data={kind: csv, path: t.csv, target: y, target_above: 1, task: regression}",
            "data.csv: target_above makes classes; leave task: classification, or leave it out",
        ),
        (
            "data={kind: csv, path: t.csv, target: y, task: regression, split: {test: 0.3, seed: 1, stratify: always}}",
            "data.csv: split.stratify: always goes by classes, and a regression has none; use never",
        ),
        (
            "stop={metric: accuracy, at_most: 1}",
            "stop: larger is better for accuracy: use at_least, not at_most",
        ),
        (
            "stop={metric: loss, at_least: 1}",
            "stop: smaller is better for loss: use at_most, not at_least",
        ),
        (
            "partition={kind: shares, shares: [1, -1]}",
            "partition.shares.shares: every share must be positive, got -1.0",
        ),
    ],
)
def test_a_wrong_value_is_located_at_its_field(override, message):
    assert refusal("quickstart", override) == message


def test_every_fault_has_a_line():
    message = refusal("quickstart", "rounds=0", "quorum=0", "roundz=3")
    assert [line.partition(":")[0] for line in message.splitlines()] == ["rounds", "quorum", "roundz"]


def test_a_quorum_above_the_cohort_is_refused():
    assert refusal("quickstart", "quorum=11") == (
        "quorum: 11 updates are needed, but a cohort has 10 clients; lower quorum or raise the cohort"
    )


def test_a_quorum_above_all_clients_is_refused():
    assert refusal("breast-cancer", "quorum=9").startswith("quorum: 9 updates are needed, but a cohort has 8")


def test_a_cohort_above_the_clients_is_refused():
    assert refusal("quickstart", "partition.clients=5") == (
        "algorithm.select.uniform.cohort: 10 clients a round, but there are 5; lower it or add clients"
    )


def test_a_quorum_and_a_cohort_that_just_fit_are_taken():
    plan = load_plan("quickstart", ["partition.clients=10", "quorum=10"])
    assert plan.quorum == plan.algorithm.select.cohort_size(10) == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["algorithm.rule={kind: krum, byzantine: 2}"],
            "algorithm.rule.krum: as set it needs at least 7 updates a round, but quorum is 5; raise quorum to 7, or "
            "change the rule",
        ),
        (
            ["algorithm.rule={kind: bulyan, byzantine: 2}", "quorum=10"],
            "algorithm.rule.bulyan: as set it needs at least 11 updates a round, but a cohort has 10 clients; raise "
            "the cohort, or change the rule",
        ),
        (
            ["algorithm.rule={kind: custom, target: 'federated.rules:Krum', options: {byzantine: 2}}"],
            "algorithm.rule.custom: as set it needs at least 7 updates a round, but quorum is 5; raise quorum to 7, or "
            "change the rule",
        ),
    ],
)
def test_a_rule_that_rounds_could_starve_is_refused(overrides, message):
    assert refusal("quickstart", *overrides) == message


def test_a_rule_that_just_gets_what_it_needs_is_taken():
    plan = load_plan("quickstart", ["algorithm.rule={kind: krum, byzantine: 3}", "quorum=9"])
    assert plan.algorithm.rule.least == plan.quorum == 9


def test_weights_for_a_client_that_there_is_not_are_refused():
    plan = load_plan("linear-regression", ["algorithm.rule={kind: weighted_mean, weights: {client-99: 2}}"])
    with pytest.raises(PlanError, match=r"^algorithm\.rule\.weighted_mean: there is no client client-99; there are "):
        plan.federation()


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["quorum=6"], "quorum: 6 updates are needed, but a cohort has 5 clients"),
        (["algorithm.select={kind: uniform, cohort: 6}"], "algorithm.select.uniform.cohort: 6 clients a round"),
    ],
)
def test_clients_that_only_the_data_know_are_counted_when_they_are_loaded(overrides, start):
    plan = load_plan("linear-regression", overrides)
    with pytest.raises(PlanError) as raised:
        plan.federation()
    assert str(raised.value).startswith(start)


@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        ("linear-regression", "accuracy", "stop.metric: regression has no accuracy"),
        ("breast-cancer", "mae", "stop.metric: classification has no mae"),
    ],
)
def test_a_plan_cannot_stop_at_a_metric_that_its_data_do_not_have(name, metric, message):
    plan = load_plan(name, [f"stop.metric={metric}"])
    with pytest.raises(PlanError) as raised:
        plan.federation()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retention={kind: best, metric: accuracy}", "retention.metric: regression has no accuracy"),
        (
            "promotion.gates=[{kind: schema}, {kind: at_least, metric: accuracy, value: 0.5}]",
            "promotion.gates.1.metric: regression has no accuracy",
        ),
    ],
)
def test_neither_can_it_keep_or_promote_by_one(override, message):
    with pytest.raises(PlanError) as raised:
        load_plan("linear-regression", [override]).federation()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("linear-regression", "loss"),
        ("linear-regression", "mae"),
        ("breast-cancer", "loss"),
        ("breast-cancer", "accuracy"),
    ],
)
def test_a_plan_may_stop_at_a_metric_that_its_data_have(name, metric):
    plan = load_plan(name, ["stop={}", f"stop.metric={metric}"])
    assert plan.federation().clients


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("quickstart", "linear", "model.linear: the target has classes; use logistic or mlp"),
        ("linear-regression", "logistic", "model.logistic: the target has no classes; use linear or mlp"),
    ],
)
def test_a_model_for_the_other_kind_of_target_is_refused(name, model, message):
    plan = load_plan(name, [f"model={{kind: {model}}}"])
    with pytest.raises(PlanError) as raised:
        plan.federation()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a mapping of fields, got NoneType"),
        ("- a\n- b\n", "expected a mapping of fields, got list"),
        ("just words\n", "expected a mapping of fields, got str"),
        ("name: [\n", "cannot be read as YAML: while parsing a flow node"),
        ("\tname: x\n", "cannot be read as YAML: while scanning for the next token"),
        ("name: !!python/object:os.system x\n", "cannot be read as YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_holds_no_fields_is_refused(text, complaint, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert refusal(str(path)).startswith(f"{path}: {complaint}")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(str(path)).startswith(f"{path}: cannot be read as YAML: 'utf-8' codec")


def test_an_empty_mapping_is_told_what_it_needs(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("{}", encoding="utf-8")
    assert refusal(str(path)).splitlines() == [
        "name: is required",
        "data: is required",
        "model: is required",
        "rounds: is required",
    ]


@pytest.mark.parametrize("stop", ["{metric: accuracy, at_least: 0.9}", "{at_most: 0.1}", "{patience: 3, minutes: 5}"])
def test_a_stop_that_looks_at_evaluated_rounds_is_refused_where_none_is(stop):
    assert refusal("quickstart", "evaluate_every=0", f"stop={stop}") == (
        "stop: at_least, at_most and patience look at evaluated rounds, and evaluate_every: 0 evaluates none; "
        "raise evaluate_every, or stop by minutes alone"
    )
    load_plan("quickstart", ["evaluate_every=0", "stop={minutes: 5}"])
    load_plan("quickstart", ["evaluate_every=5", f"stop={stop}"])


@pytest.mark.parametrize("stop", ["{metric: accuracy, at_least: 0.9}", "{at_most: 0.1}", "{patience: 3, minutes: 5}"])
def test_a_stop_that_looks_at_validation_rows_is_refused_where_there_are_none(stop):
    assert refusal("quickstart", "holdout.validation=0", f"stop={stop}") == (
        "stop: at_least, at_most and patience look at the server's validation rows, and holdout.validation: 0 leaves "
        "none; hold some out, or stop by minutes alone"
    )
    load_plan("quickstart", ["holdout.validation=0", "stop={minutes: 5}"])
    load_plan("quickstart", ["holdout.validation=0", "stop=null"])


def test_a_retention_of_the_best_is_refused_where_no_validation_rows_tell_which_is():
    assert refusal("quickstart", "holdout.validation=0", "stop=null", "retention={kind: best}") == (
        "retention.best: goes by the server's validation rows, and holdout.validation: 0 leaves none; "
        "hold some out, or use another policy"
    )
    load_plan("quickstart", ["holdout.validation=0", "stop=null", "retention={kind: promoted}"])


@pytest.mark.parametrize(
    ("client", "hint"),
    [("Client-07", "did you mean 'client-07'?"), ("ward", "there are client-00, client-01, client-02, client-03, ")],
)
def test_a_card_of_a_client_that_is_not_there_is_refused(client, hint):
    plan = load_plan("quickstart", [f"cards={{client-01: {{beds: 80}}, {client}: {{beds: 3}}}}"])
    with pytest.raises(PlanError) as raised:
        plan.federation()
    assert str(raised.value).startswith(f"cards: there is no client {client!r}; {hint}")


def test_a_card_says_what_the_plan_says_of_a_client():
    plan = load_plan("quickstart", ["cards={client-01: {beds: 80, region: north}}"])
    clients = plan.federation().clients
    assert clients["client-01"].card == {"beds": 80.0, "region": "north"}
    assert {name for name, client in clients.items() if client.card} == {"client-01"}


@pytest.mark.parametrize(("field", "least"), [("evaluate_every", 0), ("commit_every", 1)])
def test_a_cadence_that_is_none_is_refused(field, least):
    expected = f"{field}: input should be greater than or equal to {least}, got {least - 1}"
    assert refusal("quickstart", f"{field}={least - 1}") == expected


def test_a_plan_that_is_not_there_is_told_the_one_that_was_meant():
    assert refusal("quickstar") == "there is no plan 'quickstar'; did you mean 'quickstart'?"


def test_a_plan_that_is_like_no_other_is_told_them_all(tmp_path: Path):
    missing = str(tmp_path / "7")
    assert refusal(missing) == f"there is no plan {missing!r}; shipped plans: {', '.join(shipped())}"


@pytest.mark.parametrize("work", ["{kind: per_client, epochs: {client-99: 2}}", WORK_BY_TIME], ids=["epochs", "speed"])
def test_work_for_a_client_that_is_not_there_is_refused(work):
    plan = load_plan("quickstart", [f"algorithm.local.work={work}"])
    with pytest.raises(PlanError, match=r"there is no client client-99; there are client-00, client-01, .* …$"):
        plan.federation()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{kind: gru, vocabulary: 9}", "model.gru: tokens are numbers from 0 to 8, but client client-00 has"),
        ("{kind: lstm, vocabulary: 99}", "model.lstm: tokens are numbers from 0 to 98, but client client-00 has"),
    ],
    ids=["too large", "scaled"],
)
def test_tokens_that_are_not_in_the_vocabulary_are_refused_with_whose_they_are(model, message, monkeypatch):
    scaling = "divide" if "99" in model else "as_is"
    changes = [f"model={model}", "scaling={kind: divide, by: 16}" if scaling == "divide" else "scaling={kind: as_is}"]
    plan = load_plan("quickstart", [*changes, "data={kind: custom, target: 'tests.configs.tokens:load'}"])
    with pytest.raises(PlanError, match=message):
        plan.federation()


NO_WEIGHTS = ", ".join(f"client-{number:02}: 0" for number in range(20))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["algorithm.select={kind: power_of_choice, cohort: 5, candidates: 31}"],
            "algorithm.select.power_of_choice.candidates: 31 clients score the model each round, but there are 20; ",
        ),
        (
            [f"algorithm.rule={{kind: weighted_mean, weights: {{{NO_WEIGHTS}}}}}"],
            "algorithm.rule.weighted_mean: every client weighs 0; give one of them a weight",
        ),
        (
            [
                "algorithm.select={kind: uniform, cohort: 2}",
                "algorithm.rule={kind: weighted_mean, weights: {client-00: 0, client-01: 0}}",
                "quorum=1",
            ],
            "algorithm.rule.weighted_mean: 2 clients weigh 0, and a cohort of 2 may be of these; raise the cohort",
        ),
        (
            ["simulation=true", "attacks=[{kind: sign_flip, share: 0.2, rounds: {first: 50}}]"],
            "attacks.0.sign_flip.rounds: first is 50, but the last round is 30; nobody would ever attack",
        ),
    ],
)
def test_what_does_not_fit_the_clients_is_refused_before_anything_trains(overrides: list[str], said: str) -> None:
    with pytest.raises(PlanError) as raised:
        load_plan("quickstart", overrides).federation()
    assert str(raised.value).startswith(said)
