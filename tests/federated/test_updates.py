"""The message that a client sends up, its norm and its identity."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from federated.updates import Update, digest, l2_norm
from tests.fakes import update


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_update_with_one_wrong_number_is_not_finite(wrong) -> None:
    assert update("a", [1.0, 2.0]).finite
    assert not update("a", [1.0, wrong]).finite
    assert not update("a", [1.0, 2.0], weight=wrong).finite
    assert not replace(update("a", [1.0, 2.0]), metrics={"train_loss": wrong}).finite
    assert not replace(update("a", [1.0, 2.0]), local_steps=wrong).finite
    assert not replace(update("a", [1.0, 2.0]), loss=wrong).finite


def test_an_update_with_a_wrong_number_among_its_extras_is_not_finite() -> None:
    extras = {"control": np.array([np.nan], np.float32)}
    assert not replace(update("a", [1.0]), extras=extras).finite


def test_an_update_counts_the_bytes_of_all_its_vectors() -> None:
    extras = {"control": np.zeros(3, np.float32)}
    assert replace(update("a", np.zeros(10)), extras=extras).nbytes == 52


def test_the_norm_is_that_of_float64() -> None:
    vector = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert l2_norm(vector) == pytest.approx(np.linalg.norm(vector.astype(np.float64)), rel=1e-14)


@pytest.mark.parametrize("size", [1e-30, 3e38])
def test_the_norm_neither_overflows_nor_underflows(size) -> None:
    vector = np.full(4, size, np.float32)
    assert l2_norm(vector) == pytest.approx(2 * float(np.float32(size)), rel=1e-12)


def test_a_digest_is_that_of_the_little_endian_bytes() -> None:
    expected = hashlib.sha256(struct.pack("<3f", 1.0, -2.5, 0.0)).hexdigest()
    assert digest(np.array([1.0, -2.5, 0.0], np.float32)) == expected
    assert digest(np.array([1.0, -2.5, 0.0], ">f4")) == expected


def with_extras(**extras: list[float]) -> Update:
    """An update with more vectors."""
    vectors = {name: np.array(values, np.float32) for name, values in extras.items()}
    return replace(update("a", [1.0, -2.5], weight=3.0), extras=vectors)


def test_what_a_client_sent_is_known_by_its_weight_its_steps_and_its_vectors() -> None:
    assert with_extras().sha256 == hashlib.sha256(struct.pack("<dd2f", 3.0, 1.0, 1.0, -2.5)).hexdigest()


def test_how_a_vector_lies_in_memory_does_not_change_what_was_sent() -> None:
    layouts = [
        np.array([1.0, -2.5], ">f4"),
        np.array([1.0, 7.0, -2.5, 7.0], np.float32)[::2],
        np.array([-2.5, 1.0], np.float32)[::-1],
        np.asfortranarray([1.0, -2.5], np.float32),
    ]
    for delta in layouts:
        assert replace(with_extras(), delta=delta).sha256 == with_extras().sha256


def test_the_order_in_which_extras_were_given_does_not_change_what_was_sent() -> None:
    assert with_extras(a=[1.0], b=[2.0]).sha256 == with_extras(b=[2.0], a=[1.0]).sha256
    assert with_extras(a=[1.0], b=[2.0]).sha256 != with_extras(a=[2.0], b=[1.0]).sha256


def test_anything_else_that_is_sent_is_told_apart() -> None:
    sent = [
        with_extras(),
        replace(with_extras(), weight=4.0),
        replace(with_extras(), weight=float("nan")),
        replace(with_extras(), delta=np.array([1.0, np.nextafter(np.float32(-2.5), np.float32(0))], np.float32)),
        replace(with_extras(), delta=np.array([-2.5, 1.0], np.float32)),
        replace(with_extras(), delta=np.array([1.0, np.inf], np.float32)),
        replace(with_extras(), delta=np.array([], np.float32)),
        with_extras(control=[0.0]),
        with_extras(control=[-0.0]),
        replace(with_extras(), loss=0.0),
        replace(with_extras(), loss=0.5),
    ]
    assert len({message.sha256 for message in sent}) == len(sent)


def test_who_sends_and_what_it_measured_do_not_change_the_digest() -> None:
    other = replace(with_extras(), client="b", metrics={"train_loss": 0.5})
    assert other.sha256 == with_extras().sha256


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (with_extras(a=[1.0, 2.0], b=[3.0]), with_extras(a=[1.0], b=[2.0, 3.0])),
        (with_extras(a=[1.0]), with_extras(b=[1.0])),
        (with_extras(a=[1.0]), update("a", [1.0, -2.5, 1.0], weight=3.0)),
    ],
    ids=["cut elsewhere", "another name", "no extra"],
)
def test_vectors_under_other_names_are_told_apart(one: Update, other: Update) -> None:
    assert one.sha256 != other.sha256
