"""Signed JSON: what a training says of itself, so that a change made later is seen."""

from __future__ import annotations

import base64
import hmac
import json
import os
from pathlib import Path
from typing import Any

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


class ForgedError(TrainingError):
    """A signature does not fit, or is not by the key that was expected."""


class Signer:
    """Signs with an Ed25519 key (Bernstein et al. 2012; RFC 8032)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _text(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, said: dict[str, Any]) -> bytes:
        """``said`` with its signature, as bytes to keep."""
        signature = _text(self._key.sign(_canonical(said)))
        return json.dumps({"said": said, "signer": self.public, "signature": signature}, sort_keys=True).encode()

    def blind(self, secret: str) -> str:
        """A digest that equal secrets share, and that nobody without the key can guess at (HMAC-SHA-256)."""
        raw = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return hmac.new(raw, b"blind:" + secret.encode(), "sha256").hexdigest()[:32]


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


def trusted_key(given: str = "") -> str:
    """``given``, or the public part of the key that signs here.

    Raises:
        InputError: neither is there, or it is no key.
    """
    if given:
        try:
            Ed25519PublicKey.from_public_bytes(_bytes(given))
        except ValueError as error:
            raise InputError(f"--key {given}: expected a public key as records have it, 44 characters") from error
        return given
    if not environment.signing_key().exists():
        raise InputError(f"there is no signing key at {environment.signing_key()}; give the public one with --key")
    return signer().public


def read_signed(content: bytes, public: str | None = None) -> dict[str, Any]:
    """What was signed; ``public`` is the only key to trust, where one is given.

    Raises:
        ForgedError: it was changed, or signed by another key.
    """
    try:
        signed = json.loads(content)
        said, by = dict(signed["said"]), str(signed["signer"])
        Ed25519PublicKey.from_public_bytes(_bytes(by)).verify(_bytes(signed["signature"]), _canonical(said))
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise ForgedError("the signature does not fit: it was changed") from error
    if public is not None and by != public:
        raise ForgedError(f"it is signed by the key {by[:12]}…, not by {public[:12]}…")
    return said


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
