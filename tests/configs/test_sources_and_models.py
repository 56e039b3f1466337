"""What a source yields is what the model that is meant for it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from configs.loading import load_plan
from tests.federated.idx_files import packed_idx

REST = ["partition={kind: natural}", "algorithm.select={kind: all}", "promotion={}", "quorum=1", "stop={}"]


def ratings(folder: Path) -> dict[str, Any]:
    rows = [f"{user},{item},{(user + item) % 5 + 1}" for user in (7, 8, 9) for item in range(40)]
    (folder / "r.csv").write_text("\n".join(["user,item,rating", *rows]))
    return {"kind": "ratings", "path": str(folder / "r.csv")}


def speeds(folder: Path) -> dict[str, Any]:
    rows = [f"{np.sin(k):.4f},{np.cos(k):.4f}" for k in range(80)]
    (folder / "s.csv").write_text("\n".join(["north,south", *rows]))
    return {"kind": "windows", "path": str(folder / "s.csv"), "past": 5, "test_share": 0}


def play(folder: Path) -> dict[str, Any]:
    (folder / "p.txt").write_text("ANN:\n" + "abcde " * 20 + "\n\nBOB:\n" + "edcba " * 20)
    return {"kind": "text", "path": str(folder / "p.txt"), "past": 5, "test_share": 0}


def digits(folder: Path) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (90, 6, 5), dtype=np.uint8)
    (folder / "x").write_bytes(packed_idx(images))
    (folder / "y").write_bytes(packed_idx(np.arange(90, dtype=np.uint8) % 3))
    names = {"images": "x", "labels": "y", "test_images": None, "test_labels": None}
    return {"kind": "idx", "path": str(folder), **names}


def pictures(folder: Path) -> dict[str, Any]:
    for number in range(60):
        place = folder / f"client-{number % 2}" / ("cat", "dog")[number % 3 == 0]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 2 * number, 3 * number)).save(place / f"{number}.png")
    return {"kind": "images", "path": str(folder), "size": [8, 8], "client": "folder"}


PAIRS = [
    (ratings, "{kind: recommender, users: 3, items: 40}", 3),
    (speeds, "{kind: lstm, units: 4}", 2),
    (play, "{kind: gru, vocabulary: 6}", 2),
    (digits, "{kind: cnn}", 4),
    (pictures, "{kind: resnet}", 2),
]


@pytest.mark.parametrize(("write", "model", "clients"), PAIRS, ids=[write.__name__ for write, *_ in PAIRS])
def test_a_source_and_its_model_make_a_federation(write, model, clients, tmp_path) -> None:
    rest = [*REST, "partition={kind: iid, clients: 4}"] if write is digits else REST
    data = yaml.safe_dump(write(tmp_path), default_flow_style=True)
    plan = load_plan("quickstart", [*rest, f"data={data}", f"model={model}", "scaling={kind: as_is}"])
    assert len(plan.federation().clients) == clients
