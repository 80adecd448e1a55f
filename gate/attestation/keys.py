"""Ed25519 keys: a private one signs, and public ones verify, any of several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gate.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = ".pub"

Keyring: TypeAlias = Mapping[str, Ed25519PublicKey]
"""Public keys by their `keyid`."""


def keyid(key: Ed25519PublicKey) -> str:
    """The name of a public key: the SHA-256 of its SubjectPublicKeyInfo, 64 hex digits."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def create(path: Path) -> Path:
    """Makes a pair of keys; neither file may be there yet.

    Args:
        path: Of the private key, which only its owner may read afterwards.

    Returns:
        The file of the public key, the same with `.pub` after it.

    Raises:
        UsageError: One of the files is there, or cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path}: expected the name of a file for the key, and this is a folder")
    key, public = Ed25519PrivateKey.generate(), path.with_name(path.name + PUBLIC)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for each in (path, public):
        if each.exists():
            raise UsageError(f"{each}: there is such a key already; give another path, keys are never overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(private)
        public.write_bytes(pem(key.public_key()))
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be written: {error.strerror}") from None
    return public


def pem(key: Ed25519PublicKey) -> bytes:
    """A public key as text."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a file.

    Raises:
        UsageError: There is none, or it is of another kind, or protected by a password.
    """
    try:
        key = load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: expected an Ed25519 private key without a password; make one with `gate keys new`")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key of a file, or that which belongs to the private key in it.

    Raises:
        UsageError: It holds neither.
    """
    if is_private(path):
        return signing_key(path).public_key()
    content = _content(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: expected an Ed25519 public key, such as the .pub file that `gate keys new` writes")
    return key


def is_private(path: Path) -> bool:
    """Whether a file holds a private key.

    Raises:
        UsageError: It cannot be read.
    """
    return b"PRIVATE KEY" in _content(path)


def files(paths: Iterable[Path]) -> list[Path]:
    """The files of keys: those that are named, and of a folder all that end in `.pub`."""
    return [file for path in paths for file in (sorted(path.glob(f"*{PUBLIC}")) if path.is_dir() else [path])]


def keyring(paths: Iterable[Path]) -> Keyring:
    """The public keys of files; of a folder, those of all files in it that end in `.pub`.

    Raises:
        UsageError: A file holds no public key, or a private one, which must not come to where it is only verified;
            or there is none at all.
    """
    found = files(paths)
    for file in found:
        if is_private(file):
            raise UsageError(f"{file} is a private key, which signs; to verify give the public one, {file}{PUBLIC}")
    return public_halves(found)


def public_halves(paths: Iterable[Path]) -> Keyring:
    """As `keyring`, and of a private key the public half.

    Raises:
        UsageError: A file holds no key, or there is none at all.
    """
    keys = [public_key(file) for file in files(paths)]
    if not keys:
        raise UsageError("no public key was given, so no signature can be verified; make a pair with `gate keys new`")
    return {keyid(key): key for key in keys}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read: {error.strerror}") from None
