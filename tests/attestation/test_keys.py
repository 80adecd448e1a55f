from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gate.attestation import keys
from gate.errors import UsageError


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    keys.create(tmp_path / "gate.key")
    return tmp_path / "gate.key"


def test_a_private_key_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.create(tmp_path / "deep" / "gate.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "gate.key").stat().st_mode) == 0o600


def test_the_halves_of_a_pair_belong_together(pair: Path) -> None:
    public = keys.public_key(pair.with_name("gate.key.pub"))
    public.verify(keys.signing_key(pair).sign(b"x"), b"x")
    assert keys.keyid(keys.public_key(pair)) == keys.keyid(public)
    assert b"PRIVATE" not in pair.with_name("gate.key.pub").read_bytes()


@pytest.mark.parametrize("there", ["gate.key", "gate.key.pub"])
def test_no_key_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match=f"{there}: there is such a key already; give another path"):
        keys.create(tmp_path / "gate.key")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {there: "precious"}


def test_a_folder_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path()):
        with pytest.raises(UsageError, match="expected the name of a file for the key, and this is a folder"):
            keys.create(path)


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="the key cannot be written: "):
        keys.create(tmp_path / "file" / "gate.key")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "ec"
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UsageError, match="expected an Ed25519 private key without a password"):
        keys.signing_key(path)
    with pytest.raises(UsageError, match="expected an Ed25519 private key"):
        keys.public_key(path)
    path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UsageError, match="expected an Ed25519 public key, such as"):
        keys.public_key(path)


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    content = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    path.write_bytes(content)
    with pytest.raises(UsageError, match="without a password; make one with `gate keys new`"):
        keys.signing_key(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 99, b"-----BEGIN PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="expected an Ed25519 public key"):
        keys.public_key(path)
    with pytest.raises(UsageError, match="expected an Ed25519 private key"):
        keys.signing_key(path)


def test_a_key_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: the key cannot be read: No such file"):
        keys.keyring([tmp_path / "nowhere"])


def test_a_folder_gives_all_its_public_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        keys.create(tmp_path / name)
    ring = keys.keyring([tmp_path])
    assert set(ring) == {keys.keyid(keys.public_key(tmp_path / f"{name}.pub")) for name in ("a", "b")}


def test_whoever_verifies_gives_no_private_key(pair: Path) -> None:
    public = pair.with_name("gate.key.pub")
    with pytest.raises(
        UsageError, match=f"{pair} is a private key, which signs; to verify give the public one, {public}"
    ):
        keys.keyring([public, pair])
    assert keys.public_halves([pair]).keys() == keys.keyring([public]).keys()


def test_no_key_at_all_is_refused(tmp_path: Path) -> None:
    for paths in ([], [tmp_path]):
        with pytest.raises(UsageError, match="no public key was given, so no signature can be verified"):
            keys.keyring(paths)
