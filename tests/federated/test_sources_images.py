"""Folders of pictures: against Pillow's own reading, and what is told of files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from federated.errors import DataError
from federated.sources import Images

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def save(path: Path, pixels=PIXELS, **asked) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **asked)
    return path


def test_folders_are_classes_and_files_come_sorted(tmp_path) -> None:
    for place, name in enumerate(("dog/2.png", "cat/b.png", "dog/1.png", "cat/a.bmp")):
        save(tmp_path / name, np.full((2, 2, 3), place, np.uint8))
    dataset = Images(path=tmp_path, size=(2, 2)).load()
    assert dataset.rows.x[:, 0, 0, 0].tolist() == [3, 1, 2, 0]
    assert dataset.rows.y.tolist() == [0, 0, 1, 1]
    assert dataset.labels == ("cat", "dog")
    assert dataset.keys is None


def test_folders_above_the_classes_may_be_clients(tmp_path) -> None:
    for name in ("bob/dog/1.png", "anna/cat/1.png", "anna/dog/1.png"):
        save(tmp_path / name)
    dataset = Images(path=tmp_path, size=(7, 5), client="folder").load()
    assert dataset.keys.tolist() == ["anna", "anna", "bob"]
    assert dataset.rows.y.tolist() == [0, 1, 1]


def test_pixels_stay_as_they_are_at_their_own_size(tmp_path) -> None:
    save(tmp_path / "a/1.png"), save(tmp_path / "b/1.png", 255 - PIXELS)
    rows = Images(path=tmp_path, size=(7, 5)).load().rows
    np.testing.assert_array_equal(rows.x, [PIXELS, 255 - PIXELS])
    assert rows.x.dtype == np.float32


def test_another_size_and_grey_are_as_pillow_makes_them(tmp_path) -> None:
    paths = [save(tmp_path / "a/1.png"), save(tmp_path / "b/1.jpg", quality=90)]
    rows = Images(path=tmp_path, size=(4, 6), colour="grey").load().rows
    assert rows.x.shape == (2, 4, 6, 1)
    for found, path in zip(rows.x, paths, strict=True):
        with Image.open(path) as picture:
            known = picture.convert("L").resize((6, 4), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found[..., 0], np.array(known))


def test_grey_is_the_weighted_mean_of_the_colours(tmp_path) -> None:
    save(tmp_path / "a/1.png"), save(tmp_path / "b/1.png")
    rows = Images(path=tmp_path, size=(7, 5), colour="grey").load().rows
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(rows.x[0, ..., 0], luma, atol=1)


def test_a_large_picture_of_one_half_black_shrinks_to_two_pixels(tmp_path) -> None:
    halves = np.repeat(np.array([[[0] * 3, [200] * 3]], np.uint8), 40, axis=1)
    save(tmp_path / "a/1.png", halves), save(tmp_path / "b/1.png", halves)
    rows = Images(path=tmp_path, size=(1, 4)).load().rows
    assert rows.x[0, 0, 0].tolist() == [0, 0, 0]
    assert rows.x[0, 0, 3].tolist() == [200, 200, 200]


def test_a_picture_is_turned_as_its_camera_noted(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    save(tmp_path / "a/1.png", exif=exif), save(tmp_path / "b/1.png")
    rows = Images(path=tmp_path, size=(5, 7)).load().rows
    np.testing.assert_array_equal(rows.x[0], np.rot90(PIXELS, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_pictures_of_8_bits_come_in_many_modes(mode, tmp_path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.fromarray(PIXELS).convert(mode).save(tmp_path / label / "1.tiff")
    with Image.open(tmp_path / "a" / "1.tiff") as picture:
        known = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(Images(path=tmp_path, size=(7, 5)).load().rows.x[1], known)


def test_what_begins_with_a_dot_is_passed_over(tmp_path) -> None:
    save(tmp_path / "a/1.png"), save(tmp_path / "b/1.png")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"junk")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.txt").write_text("beside the classes")
    assert len(Images(path=tmp_path, size=(7, 5)).load().rows) == 2


@pytest.mark.parametrize(
    "held", [b"", b"just words", b"\x89PNG\r\n\x1a\n"], ids=["empty", "words", "a png's beginning"]
)
def test_a_file_that_is_no_picture_is_named(held, tmp_path) -> None:
    save(tmp_path / "a/1.png")
    (tmp_path / "a" / "wrong.png").write_bytes(held)
    with pytest.raises(DataError, match=r"data\.images\.path: expected a picture, cannot read .*a/wrong\.png"):
        Images(path=tmp_path, size=(2, 2)).load()


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif"])
def test_a_truncated_picture_is_named(ending, tmp_path) -> None:
    path = save(tmp_path / f"a/cut.{ending}", np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"data\.images\.path: expected a picture, cannot read .*cut\.{ending}"):
        Images(path=tmp_path, size=(60, 60)).load()


def test_a_folder_among_the_pictures_is_told(tmp_path) -> None:
    save(tmp_path / "a/b/1.png")
    with pytest.raises(DataError, match=r"expected pictures, .*a/b is a folder; .*set client: folder$"):
        Images(path=tmp_path, size=(2, 2)).load()


def test_sixteen_bits_a_channel_are_not_cut_off_in_silence(tmp_path) -> None:
    save(tmp_path / "a/deep.png", np.full((3, 3), 40_000, np.uint16))
    with pytest.raises(DataError, match=r"data\.images\.path: expected 8 bits a channel, .*deep\.png has more"):
        Images(path=tmp_path, size=(3, 3)).load()


@pytest.mark.parametrize("client", [None, "folder"])
def test_an_empty_folder_is_told(client, tmp_path) -> None:
    (tmp_path / "cat").mkdir()
    wanted = "class" if client is None else "client, and in it one a class"
    with pytest.raises(DataError, match=rf"data\.images\.path: expected one folder a {wanted}, with pictures; .* none"):
        Images(path=tmp_path, size=(2, 2), client=client).load()


def test_one_folder_is_not_a_classification(tmp_path) -> None:
    save(tmp_path / "cat/1.png")
    with pytest.raises(DataError, match=r"data\.images .*: a classifier needs at least 2 classes, got \['cat'\]"):
        Images(path=tmp_path, size=(2, 2)).load()
