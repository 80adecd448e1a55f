"""The files that a model has now, hashed where they lie, and held against those that were signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gate.errors import ModelError, RegistryError, UsageError, VerificationError
from gate.models.digest import digest_of, digest_of_names, listed
from gate.models.note import MOST, NOTE, is_note, stray
from gate.verification.asking import artifact_server, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gate.attestation.statement import Statement
    from gate.models.digest import Listing
    from gate.verification.server import Server

_AT_ONCE = 4  # downloads
_SHOWN = 20  # names in a message


def of_folder(folder: Path) -> Listing:
    """Path → SHA-256 of every file of a model on this machine.

    Raises:
        VerificationError: It holds a link, something that is no file, or nothing, or what MLflow's note may not.
        ModelError: A file cannot be read.
    """
    try:
        return listed(folder)
    except ModelError as error:
        raise VerificationError(str(error)) from None
    except OSError as error:
        raise ModelError(f"{error.filename}: this file of the model cannot be read: {error.strerror}") from None


def of_location(location: str) -> Listing:
    """Path → SHA-256 of every file of a model in the store of its registry.

    Args:
        location: The URI that the registry gives.

    Raises:
        UsageError: They cannot be read there without more.
        RegistryError: The store does not answer, or has no such folder.
        VerificationError: There are none, or what is there is no file, or what MLflow's note may not hold.
    """
    parts = urlsplit(plain(location))
    if parts.scheme == "mlflow-artifacts":
        return _of_server(artifact_server(location, parts.netloc.rpartition("@")[2]), parts.path.strip("/"), location)
    if parts.scheme not in ("", "file"):
        raise UsageError(f"the files lie at {location!r}; download them from there and give their folder with --files")
    folder = Path(unquote(parts.path) if parts.scheme else location)
    if not folder.is_dir():
        raise RegistryError(
            f"the files should lie at {location!r}, and there is no such folder on this machine; download them and "
            "give their folder with --files"
        )
    return of_folder(folder)


def require_same(there: Listing, found: Statement) -> None:
    """Refuses files that are not those that were judged.

    Args:
        there: Path → SHA-256 of every file that there is.
        found: The statement.

    Raises:
        VerificationError: They differ; the message names the files.
    """
    if found.files is not None and dict(there) != found.files:
        raise VerificationError(
            f"the files of {found.subject.uri} are not those that were judged: {_differences(there, found.files)}"
        )
    if (digest_of(there), digest_of_names(there)) != (found.digest, found.names):
        raise VerificationError(
            f"the files of {found.subject.uri} are not those that were judged: their digest is {digest_of(there)}, "
            f"signed was {found.digest}" + ("" if digest_of(there) != found.digest else ", and their names differ")
        )


def _of_server(server: Server, root: str, location: str) -> Listing:
    from concurrent.futures import ThreadPoolExecutor

    paths = sorted(_paths(server, root, ""))
    if NOTE in paths:
        if not is_note(server.beginning(f"{root}/{NOTE}", MOST + 1)):
            raise VerificationError(stray(f"{location}/{NOTE}"))
        paths.remove(NOTE)
    if not paths:
        raise VerificationError(f"there is no file at {location!r}")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(paths, pool.map(server.sha256, [f"{root}/{path}" for path in paths]), strict=True))


def _paths(server: Server, root: str, folder: str) -> Iterator[str]:
    for name, is_folder in server.entries(f"{root}/{folder}".rstrip("/")):
        if name in ("", ".", "..") or "/" in name:
            raise VerificationError(f"{server.root} lists {name!r} in a model, which is no name of a file")
        if is_folder:
            yield from _paths(server, root, f"{folder}{name}/")
        else:
            yield f"{folder}{name}"


def _differences(there: Listing, signed: Listing) -> str:
    changed = [path for path in sorted(signed) if path in there and there[path] != signed[path]]
    kinds = {"changed": changed, "missing": signed.keys() - there.keys(), "extra": there.keys() - signed.keys()}
    return "; ".join(f"{kind}: {_named(paths)}" for kind, paths in kinds.items() if paths)


def _named(paths: Iterable[str]) -> str:
    names = sorted(paths)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
