"""The key of an installation, and what it signs."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from federated.errors import InputError
from tasks.signing import ForgedError, Kind, Signer, read_signed, signer, trusted_keys

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SAID: dict[str, Any] = {"round": 7, "name": "Zürich", "numbers": [0.1, -0.0, 1e300, None, True], "deep": {"a": {}}}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``ROUNDHOUSE_HOME`` that does not exist yet."""
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path / "home"))
    for name in ("ROUNDHOUSE_SIGNING_KEY", "ROUNDHOUSE_TRUSTED_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """What users have set, the careless too."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def pem(key: Any, encryption: Any = None) -> bytes:
    """A private key as ``openssl genpkey`` writes it."""
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))


def given(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes, mode: int = 0o600) -> Path:
    """A file to which ROUNDHOUSE_SIGNING_KEY points."""
    path.write_bytes(content)
    path.chmod(mode)
    monkeypatch.setenv("ROUNDHOUSE_SIGNING_KEY", str(path))
    return path


def changed(signed: bytes, **fields: Any) -> bytes:
    """A signed text with other fields."""
    return json.dumps({**json.loads(signed), **fields}).encode()


@pytest.mark.usefixtures("umask")
def test_a_key_is_made_once_and_only_its_owner_can_read_it(own_home: Path) -> None:
    first, second = signer(), signer()
    assert first.public == second.public
    assert [path.name for path in (own_home / "keys").iterdir()] == ["signing.pem"]
    assert (own_home / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert (own_home / "keys").stat().st_mode & 0o777 == 0o700


def test_every_home_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = signer()
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path / "another"))
    assert signer().public != first.public


def test_processes_that_start_together_make_one_key(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from tasks.signing import signer\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"for number in range(20):\n"
        f"    os.environ['ROUNDHOUSE_HOME'] = f'{tmp_path}/{{number}}'\n"
        "    print(signer().public)\n"
    )
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    first, second = [process.communicate(timeout=60)[0].split() for process in running]
    assert first == second
    assert len(set(first)) == 20


def test_a_key_that_is_given_is_used_and_none_is_made(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, tmp_path / "key.pem", pem(KEY))
    assert signer().public == Signer(KEY).public
    assert not (own_home / "keys").exists()


def test_the_command_that_the_refusal_names_makes_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = given(monkeypatch, tmp_path / "key.pem", pem(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(InputError, match="openssl genpkey -algorithm ed25519 makes one") as refusal:
        signer()
    command = str(refusal.value).partition("; ")[2].removesuffix(" makes one").split()
    subprocess.run([*command, "-out", str(path)], check=True, capture_output=True)
    assert read_signed(signer().sign("record", SAID), "record") == SAID


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610], ids=oct)
def test_a_key_that_others_can_read_is_refused(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = given(monkeypatch, tmp_path / "key.pem", pem(KEY), mode)
    with pytest.raises(InputError, match=rf"^{path}: others can read this key; chmod 600 it"):
        signer()


def test_ones_own_key_is_looked_at_too(own_home: Path) -> None:
    signer()
    (own_home / "keys" / "signing.pem").chmod(0o644)
    with pytest.raises(InputError, match="others can read this key"):
        signer()


def test_a_key_that_is_not_there_is_refused_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "absent.pem"
    monkeypatch.setenv("ROUNDHOUSE_SIGNING_KEY", str(path))
    with pytest.raises(InputError, match=rf"^ROUNDHOUSE_SIGNING_KEY: there is no {path}$"):
        signer()
    assert not path.exists()


NO_PRIVATE_KEYS = {
    "empty": b"",
    "text": b"hunter2",
    "torn": pem(KEY)[:60],
    "raw": bytes(32),
    "public": KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "with a password": pem(KEY, BestAvailableEncryption(b"password")),
}


@pytest.mark.parametrize("content", NO_PRIVATE_KEYS.values(), ids=NO_PRIVATE_KEYS)
def test_what_is_no_private_key_is_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = given(monkeypatch, tmp_path / "key.pem", content)
    with pytest.raises(InputError, match=rf"^{path}: is no private key in PEM without a password$"):
        signer()


def test_a_folder_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("ROUNDHOUSE_SIGNING_KEY", str(tmp_path))
    with pytest.raises(InputError, match="is no private key in PEM"):
        signer()


OTHER_KINDS = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "elliptic curve": ec.generate_private_key(ec.SECP256R1()),
    "X25519": x25519.X25519PrivateKey.generate(),
}


@pytest.mark.parametrize("key", OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_a_key_of_another_kind_is_refused(key: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = given(monkeypatch, tmp_path / "key.pem", pem(key))
    with pytest.raises(InputError, match=rf"^{path}: expected an Ed25519 key; openssl genpkey"):
        signer()


def test_a_key_that_the_library_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = given(monkeypatch, tmp_path / "key.pem", b"")
    command = ["openssl", "ecparam", "-name", "secp112r1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(InputError, match="expected an Ed25519 key"):
        signer()


def test_the_key_to_trust_is_the_one_that_is_given_or_ones_own() -> None:
    given = Signer(Ed25519PrivateKey.generate()).public
    assert trusted_keys(given) == (given,)
    own = signer().public
    assert (trusted_keys(), trusted_keys(given)) == ((own,), (given,))


def test_the_keys_of_others_are_trusted_besides_ones_own_but_never_besides_the_one_that_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, other = (Signer(Ed25519PrivateKey.generate()).public for _ in range(2))
    own = signer().public
    monkeypatch.setenv("ROUNDHOUSE_TRUSTED_KEYS", f" {old},{other} ,")
    assert trusted_keys() == (own, old, other)
    assert trusted_keys(other) == (other,)


def test_the_keys_of_others_are_enough_to_read_and_none_is_made(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_TRUSTED_KEYS", Signer(KEY).public)
    assert trusted_keys() == (Signer(KEY).public,)
    assert not own_home.exists()


@pytest.mark.parametrize("wrong", ["mine", "A" * 42 + "==", "Zürich", f"{Signer(KEY).public};{Signer(KEY).public}"])
def test_what_is_no_key_among_those_of_others_is_one_line(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_TRUSTED_KEYS", f"{Signer(KEY).public},{wrong}")
    line = rf"^ROUNDHOUSE_TRUSTED_KEYS: {wrong}: expected a public key as records have it, 44 characters$"
    with pytest.raises(InputError, match=line):
        trusted_keys()


def test_the_command_in_the_handbook_shows_the_public_key(own_home: Path) -> None:
    """``docs/operations.md``: Change the signing key."""
    own = signer().public
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    (command,) = [line.removeprefix("$ ") for line in text.splitlines() if "-pubout" in line]
    env = {"PATH": os.environ["PATH"], "ROUNDHOUSE_HOME": str(own_home)}
    shown = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == own


def test_what_is_no_key_is_not_trusted() -> None:
    with pytest.raises(InputError, match=r"--key given: expected a public key"):
        trusted_keys("given")


def test_no_key_is_made_only_to_trust_it(own_home: Path) -> None:
    with pytest.raises(InputError, match=rf"^there is no signing key at {own_home}/keys/signing\.pem; .* with --key$"):
        trusted_keys()
    assert not own_home.exists()


def test_what_is_signed_is_read_back() -> None:
    signed = Signer(KEY).sign("record", SAID)
    assert read_signed(signed, "record") == SAID
    assert read_signed(signed, "record", (Signer(KEY).public,)) == SAID


@pytest.mark.parametrize(("kind", "taken_for"), list(itertools.permutations(get_args(Kind), 2)))
def test_a_signed_text_of_one_kind_does_not_pass_for_another(kind: Kind, taken_for: Kind) -> None:
    signed = Signer(KEY).sign(kind, SAID)
    with pytest.raises(ForgedError, match=f"^it is a signed {kind}, not a {taken_for}$"):
        read_signed(signed, taken_for)
    with pytest.raises(ForgedError, match="the signature does not fit"):
        read_signed(changed(signed, kind=taken_for), taken_for)


def test_nan_and_infinity_survive() -> None:
    said = read_signed(Signer(KEY).sign("record", {"numbers": [float("nan"), float("inf"), -float("inf")]}), "record")
    assert str(said["numbers"]) == "[nan, inf, -inf]"


def test_the_order_of_fields_does_not_change_what_is_signed() -> None:
    assert Signer(KEY).sign("record", {"a": 1, "b": {"c": 2, "d": 3}}) == Signer(KEY).sign(
        "record", {"b": {"d": 3, "c": 2}, "a": 1}
    )


def test_openssl_agrees_with_the_signature(tmp_path: Path) -> None:
    signed = json.loads(Signer(KEY).sign("record", SAID))
    (tmp_path / "text").write_bytes(
        json.dumps({"kind": "record", "said": SAID}, sort_keys=True, separators=(",", ":")).encode()
    )
    (tmp_path / "signature").write_bytes(base64.b64decode(signed["signature"]))
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signed["signer"]))
    (tmp_path / "public").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = "openssl pkeyutl -verify -pubin -inkey public -rawin -in text -sigfile signature"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "Signature Verified Successfully")


def test_any_bit_that_is_changed_is_seen_or_changes_nothing() -> None:
    signed = Signer(KEY).sign("record", {"round": 7, "sha256": "abc"})
    for position in range(len(signed)):
        for bit in (1, 2, 4, 32):
            other = bytearray(signed)
            other[position] ^= bit
            try:
                assert read_signed(bytes(other), "record", (Signer(KEY).public,)) == {"round": 7, "sha256": "abc"}
            except ForgedError:
                continue


def test_changed_text_is_seen() -> None:
    for said in (SAID | {"round": 8}, SAID | {"more": 1}, {}, {name: SAID[name] for name in ("round", "name")}):
        with pytest.raises(ForgedError, match="the signature does not fit: it was changed"):
            read_signed(changed(Signer(KEY).sign("record", SAID), said=said), "record")


def test_a_changed_signature_is_seen() -> None:
    signed = Signer(KEY).sign("record", SAID)
    another = json.loads(Signer(KEY).sign("record", {"round": 8}))["signature"]
    for signature in ("", "AAAA", another, base64.b64encode(bytes(64)).decode(), "not base64!", 7, None):
        with pytest.raises(ForgedError, match="the signature does not fit"):
            read_signed(changed(signed, signature=signature), "record")


def test_a_signature_under_another_name_is_seen() -> None:
    other = Signer(Ed25519PrivateKey.generate()).public
    with pytest.raises(ForgedError, match="the signature does not fit"):
        read_signed(changed(Signer(KEY).sign("record", SAID), signer=other), "record")


def test_another_signer_is_not_trusted_where_one_is_expected() -> None:
    other = Signer(Ed25519PrivateKey.generate())
    signed = other.sign("record", SAID)
    assert read_signed(signed, "record") == SAID
    with pytest.raises(ForgedError, match=r"it is signed by the key .*…, not by .*…") as refusal:
        read_signed(signed, "record", (Signer(KEY).public,))
    assert other.public[:12] in str(refusal.value)
    assert Signer(KEY).public[:12] in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"{", b"{}", b"[]", b"null", b"7", b'"said"', b'{"said": 1, "signer": 2, "signature": 3}'],
)
def test_what_is_no_signed_text_is_refused(content: bytes) -> None:
    with pytest.raises(ForgedError, match="the signature does not fit"):
        read_signed(content, "record")


def test_any_of_several_keys_may_have_signed_and_a_refusal_names_them_all() -> None:
    old, stranger = (Signer(Ed25519PrivateKey.generate()) for _ in range(2))
    trusted = (Signer(KEY).public, old.public)
    assert read_signed(old.sign("seal", SAID), "seal", trusted) == SAID
    with pytest.raises(ForgedError) as refusal:
        read_signed(stranger.sign("seal", SAID), "seal", trusted)
    by, own = stranger.public[:12], Signer(KEY).public[:12]
    assert str(refusal.value) == f"it is signed by the key {by}…, not by {own}… or {old.public[:12]}…"


def test_what_is_signed_names_the_public_key_and_never_holds_the_private_one(own_home: Path) -> None:
    signed = signer().sign("record", SAID)
    stored = (own_home / "keys" / "signing.pem").read_bytes()
    private = load_pem_private_key(stored, password=None)
    assert isinstance(private, Ed25519PrivateKey)
    secret, public = private.private_bytes_raw(), private.public_key().public_bytes_raw()
    assert base64.b64decode(json.loads(signed)["signer"]) == public
    lines = stored.splitlines()[1:-1]
    for form in (secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret), *lines):
        assert form not in signed
