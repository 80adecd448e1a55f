"""Where files lie in the artifact store of a server, as a path from its root."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from gate.attestation.names import SCHEME
from gate.errors import VerificationError

DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
"""Where MLflow's server tells its processes of `--artifacts-destination`."""
ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
"""Where it tells them of `--default-artifact-root`, below which an experiment lies that names no place."""
BACKEND = "_MLFLOW_SERVER_FILE_STORE"
"""Where it tells them of `--backend-store-uri`."""
REGISTRY = "_MLFLOW_SERVER_REGISTRY_STORE"
"""Where it tells them of `--registry-store-uri`."""
LOCAL = ("", "file")
"""Schemes of folders of this machine."""
RESERVED = ".gate/doctor"
"""Where a guarded store writes and removes nothing, whoever asks: what is refused there shows that it is guarded."""
DEFAULT = "default"
"""The workspace of a server without workspaces, and of what was there before them."""
WORKSPACES = "workspaces"
"""Folder of the store in which MLflow keeps what belongs to any workspace but the default one, each by its name."""
_KEPT = re.compile(r"mlflow-artifacts:(?://)?/([^/].*)", re.DOTALL)
_BUCKET = re.compile(r"\$?[A-Za-z0-9][A-Za-z0-9._-]*")  # or a container
# All but these, letters and digits a client, MLflow's server and a store may read in different ways.
_PLAIN = frozenset(" -_.,=+@&()!~'$")

_Place: TypeAlias = tuple[str, str, tuple[str, ...]]  # kind of store, host, parts of the path


def in_store(uri: str, workspace: str = DEFAULT) -> str:
    """The path of an artifact location, from the root of the server's artifact store.

    A server with workspaces keeps what belongs to any but the default one in `workspaces/NAME`, whatever the URI says.

    Args:
        uri: `mlflow-artifacts:/…`, without a server, and with a path that everybody reads in one way.
        workspace: That it belongs to.

    Raises:
        VerificationError: It lies elsewhere, or may, so that the server cannot keep files from being changed.
    """
    found = _KEPT.fullmatch(uri)
    if found is None:
        raise VerificationError(
            f"its files lie at {uri!r}, which this server does not keep; register models whose files go through the "
            "server (mlflow-artifacts:/PATH), or write `artifacts: anywhere` in the server policy"
        )
    path = found.group(1).rstrip("/")
    first, *rest = parts = path.split("/")
    if not all(map(_is_plain, parts)):
        raise VerificationError(
            f"its files lie at {uri!r}, which a client, this server and the store may read in different ways; log the "
            "model to a path of letters, digits and -_.,=+@&()!~'$ that ends with no dot, and register it again"
        )
    if workspace == DEFAULT and first != WORKSPACES:
        return path
    if first == WORKSPACES and rest[:1] != [workspace]:
        raise VerificationError(
            f"its files lie at {uri!r}, which is for another workspace than its own, {workspace!r}; "
            "log the model in that one and register it again"
        )
    return path if first == WORKSPACES else f"{WORKSPACES}/{workspace}/{path}"


def _is_plain(part: str) -> bool:
    bare = part != "" and part.strip(" ") == part and part[-1] != "." and unicodedata.is_normalized("NFC", part)
    return bare and all(each in _PLAIN or unicodedata.category(each)[0] in "LMN" for each in part)


def plain(path: str) -> str:
    """A path without empty parts, dots and slashes around it; nothing for the root."""
    normal = posixpath.normpath("/" + path).lstrip("/")
    return "" if normal == "." else normal


def is_reserved(path: str) -> bool:
    """Whether a path of an artifact store lies in the place that a guarded store keeps empty, in any workspace.

    Args:
        path: Without empty parts.
    """
    return f"/{RESERVED}/" in f"/{path}/"


def in_destination(uri: str, path: str) -> str | None:
    """Where a path in an artifact repository lies, from the root of the server's store.

    Args:
        uri: Of the repository.
        path: In it.

    Returns:
        The path; nothing for the root and what is above it, None for what lies elsewhere.
    """
    destination = os.environ.get(DESTINATION)
    if not destination:
        return plain(path)
    kind, host, store = _place(destination)
    *where, folder = _place(uri)
    parts = (*folder, *_parts(path))
    if where != [kind, host]:
        return None
    if parts[: len(store)] == store:
        return "/".join(parts[len(store) :])
    return "" if store[: len(parts)] == parts else None


def reads_in_one_way(uri: str, path: str) -> bool:
    """Whether a path in a repository is one place for MLflow, for the client of its store and for the store.

    Clients take parts out of a URI, decode it or resolve its dots, and stores turn a backslash around or drop a last
    dot: they would write where `in_destination` does not look.

    Args:
        uri: Of the repository.
        path: In it.
    """
    bare, own = uri.removeprefix(SCHEME), os.environ.get(DESTINATION, "").removeprefix(SCHEME).rstrip("/")
    inner = path.split("/")
    if path.startswith("/") or ".." in inner:
        return False
    if urlsplit(bare).scheme in LOCAL:
        return True  # its real path is what counts
    if "\\" in path or any(part.endswith(".") for part in inner):
        return False
    if own and f"{bare}/".startswith(f"{own}/"):
        below = bare[len(own) :]
    else:
        scheme, _, place = bare.partition("://")
        host, _, below = place.partition("/")
        if not _BUCKET.fullmatch(host.partition("@")[0] if scheme == "wasbs" else host):
            return False
    return all(_is_plain(part) for part in below.split("/") if part)


def in_root(file: str) -> bool:
    """Whether a file of this machine lies below the default root of experiments, where that is a folder."""
    root = os.environ.get(ROOT, "")
    return root != "" and lies_in(root, Path(os.path.realpath(file)).parent)


def lies_in(destination: str, file: Path) -> bool:
    """Whether a file of this machine, or a link to it, lies in an artifact store.

    Args:
        destination: URI of the store.
        file: Path of the file.
    """
    kind, _, store = _place(destination)
    places = (os.path.realpath(file), str(file.parent.resolve() / file.name))
    return kind == "file" and any(_parts(place)[: len(store)] == store for place in places)


def _place(uri: str) -> _Place:
    from mlflow.utils.file_utils import local_file_uri_to_path

    bare = uri.removeprefix(SCHEME)
    split = urlsplit(bare)
    if split.scheme in LOCAL:
        return "file", "", _parts(os.path.realpath(local_file_uri_to_path(bare)))
    host = split.netloc.lower()
    # MLflow writes to the account that it is logged in to, whichever the URI names: only the container counts.
    return split.scheme, host.partition("@")[0] if split.scheme == "wasbs" else host, _parts(split.path)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in plain(path).split("/") if part)
