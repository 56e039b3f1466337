"""What FLamby's authors got on Fed-Heart-Disease, from their repository.

``flamby/results/results_benchmark_fed_heart_disease/heart_seed42.csv`` to ``heart_seed46.csv`` of owkin/FLamby, as of
the commits f553c7ac and a422b61c: accuracy times test rows, for ``client_test_0`` to ``client_test_3``. Local is each
centre's own model on its own rows. Their pooled test is scaled by other numbers than the centres', and is not here.
"""

from __future__ import annotations

CENTRES = ("cleveland", "hungarian", "switzerland", "va")
TEST_ROWS = {"cleveland": 104, "hungarian": 89, "switzerland": 16, "va": 45}

_FEDAVG = ((79, 62, 11, 28), (75, 66, 12, 30), (77, 67, 8, 26), (76, 60, 12, 28), (73, 65, 9, 32))
_FEDYOGI = ((79, 68, 12, 28), (76, 65, 12, 30), (80, 67, 12, 33), (79, 66, 12, 31), (81, 69, 11, 30))
_RIGHT = {
    "FedAvg": _FEDAVG,
    "FedProx": _FEDAVG,
    "SCAFFOLD": ((78, 62, 11, 28), (75, 66, 12, 30), (77, 67, 8, 26), (75, 60, 12, 28), (73, 65, 9, 32)),
    "FedAdam": ((79, 67, 12, 28), (75, 65, 12, 29), (79, 66, 12, 33), (79, 65, 12, 31), (79, 69, 11, 29)),
    "FedYogi": _FEDYOGI,
    "FedAdagrad": _FEDYOGI,
    "pooled": ((83, 68, 12, 29), (81, 68, 12, 29), (82, 68, 12, 29), (81, 68, 12, 29), (80, 68, 12, 29)),
    "local": ((76, 67, 13, 34), (78, 66, 13, 31), (76, 67, 10, 30), (78, 66, 13, 29), (80, 66, 9, 34)),
}  # by method, of seeds 42 to 46, by centre

RIGHT = {method: [dict(zip(CENTRES, seed, strict=True)) for seed in seeds] for method, seeds in _RIGHT.items()}
"""Test rows that a model is right about, by centre, for each seed."""
