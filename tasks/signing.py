"""Signed JSON: what a training says of itself, so that a change made later is seen."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from configs import environment
from federated.errors import InputError, TrainingError
from federated.randomness import derived_key

Kind = Literal["record", "seal", "place", "ledger"]
"""What a signed text is: none passes for another."""

Trusted = tuple[str, ...]
"""Public keys, any of which may have signed."""


class ForgedError(TrainingError):
    """A signature does not fit, or is not by a key or of a text that was expected."""


class Signer:
    """Signs with an Ed25519 key (Bernstein et al. 2012; RFC 8032)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _text(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, kind: Kind, said: dict[str, Any]) -> bytes:
        """``said`` with its signature, as bytes to keep."""
        signed = {"kind": kind, "said": said}
        signature = _text(self._key.sign(_canonical(signed)))
        return json.dumps(signed | {"signer": self.public, "signature": signature}, sort_keys=True).encode()

    def blind(self, secret: str) -> str:
        """A digest that equal secrets share, and that nobody without the key can guess at (HMAC-SHA-256)."""
        return self.derived(f"blind:{secret}").hex()[:32]

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for a purpose, which tells nothing of the one that signs (HMAC-SHA-256)."""
        return derived_key(self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()), purpose)


def signer() -> Signer:
    """With the key at ``$ROUNDHOUSE_SIGNING_KEY``, or the one in ``home()``, which is made at the first use.

    Raises:
        InputError: the key cannot be read, or others can read it.
    """
    path = environment.signing_key()
    if not path.exists():
        if path != environment.own_signing_key():
            raise InputError(f"ROUNDHOUSE_SIGNING_KEY: there is no {path}")
        _make_key(path)
    if path.stat().st_mode & 0o077:
        raise InputError(f"{path}: others can read this key; chmod 600 it, and make a new one if they may have")
    try:
        key: object = load_pem_private_key(path.read_bytes(), password=None)
    except UnsupportedAlgorithm:
        key = None
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{path}: is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: expected an Ed25519 key; openssl genpkey -algorithm ed25519 makes one")
    return Signer(key)


def trusted_keys(given: str = "") -> Trusted:
    """``given`` alone; or the public part of the key that signs here, and those in ``$ROUNDHOUSE_TRUSTED_KEYS``.

    Raises:
        InputError: there is none, or one is no key.
    """
    if given:
        return (_public_key(given, "--key"),)
    others = tuple(_public_key(key, "ROUNDHOUSE_TRUSTED_KEYS:") for key in environment.trusted_keys())
    if environment.signing_key().exists():
        return (signer().public, *others)
    if not others:
        raise InputError(f"there is no signing key at {environment.signing_key()}; give the public one with --key")
    return others


def read_signed(content: bytes, kind: Kind, trusted: Trusted | None = None) -> dict[str, Any]:
    """What was signed; ``trusted`` are the only keys to trust, where some are given.

    Raises:
        ForgedError: it was changed, is of another kind, or was signed by another key.
    """
    try:
        signed = json.loads(content)
        found, said, by = signed["kind"], dict(signed["said"]), str(signed["signer"])
        text = _canonical({"kind": found, "said": said})
        Ed25519PublicKey.from_public_bytes(_bytes(by)).verify(_bytes(signed["signature"]), text)
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise ForgedError("the signature does not fit: it was changed") from error
    if trusted is not None and by not in trusted:
        raise ForgedError(
            f"it is signed by the key {by[:12]}…, not by {' or '.join(f'{key[:12]}…' for key in trusted)}"
        )
    if found != kind:
        raise ForgedError(f"it is a signed {found}, not a {kind}")
    return said


def _public_key(text: str, given_by: str) -> str:
    try:
        raw = _bytes(text)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise InputError(f"{given_by} {text}: expected a public key as records have it, 44 characters") from error
    return _text(raw)


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with environment.lock("keys"):
        if path.exists():
            return
        temporary = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        temporary.replace(path)


def _canonical(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
