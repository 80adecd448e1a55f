"""An MLflow server, asked over its REST interface by the standard library alone."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from gate.attestation.statement import Version
from gate.errors import AbsentError, RegistryError, UsageError
from gate.models.registry import ABSENT
from gate.verification.registered import Registered, workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

    from gate.verification.registered import Asked

_WAIT = "120"  # seconds without a byte, as MLflow has it: a server may fetch a file from elsewhere first
_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_MOST = 10_000_000  # bytes of an answer that are read


class _NoRedirect(HTTPRedirectHandler):
    """Refuses to go elsewhere, where a password would go along."""

    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True)
class Answer:
    """What a server says to one request, whichever way it decides.

    Attributes:
        status: Of HTTP.
        text: The body.
    """

    status: int
    text: str

    @property
    def document(self) -> Mapping[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            found = json.loads(self.text)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        """MLflow's word for an error; empty where there is none."""
        return str(self.document.get("error_code", ""))

    @property
    def said(self) -> str:
        """The first line of its message, or MLflow's word for the error where it has none."""
        return (str(self.document.get("message") or self.code or self.text).strip().splitlines() or [""])[0][:300]


class Server:
    """A server by its address; the user part of it, or MLflow's variables, log in.

    Attributes:
        root: The address without its user part.
        host: Name and port.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.host = parts.netloc.rpartition("@")[2]
        self.root = f"{parts.scheme}://{self.host}{parts.path.rstrip('/')}"
        self._opener = build_opener(_NoRedirect, HTTPSHandler(context=_tls()))
        self._opener.addheaders = [*_login(parts), *_workspace()]

    def registered(self, wanted: Asked) -> Registered:
        """The version that is asked for.

        Raises:
            AbsentError: There is none.
            RegistryError: The server cannot be asked.
        """
        with self._understood():
            row = self._row(wanted)
            version = Version.of(row["name"], row["version"], row["creation_timestamp"], row.get("source"), workspace())
            tags = {tag["key"]: tag.get("value", "") for tag in row.get("tags", [])}
            where = self._asked("mlflow/model-versions/get-download-uri", name=version.name, version=version.version)
            return Registered(version, tags, where["artifact_uri"])

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Names in a folder of the artifacts that the server keeps, and whether each is a folder.

        Raises:
            RegistryError: The server cannot be asked.
        """
        with self._understood():
            files = self._asked("mlflow-artifacts/artifacts", path=folder).get("files", [])
            return [(each["path"] + "", bool(each.get("is_dir"))) for each in files]

    def sha256(self, path: str) -> str:
        """Of a file that the server keeps, 64 hex digits; it goes through memory in parts, never onto a disk.

        Raises:
            RegistryError: The file cannot be had, or not all of it.
        """
        with self._response(f"mlflow-artifacts/artifacts/{quote(path)}") as response:
            digest = hashlib.file_digest(response, "sha256").hexdigest()
            if response.length:
                raise self._broken_off(path)
        return digest

    def beginning(self, path: str, most: int) -> bytes:
        """Of a file that the server keeps, all of it where it is no longer than that.

        Args:
            path: Of the file.
            most: Bytes.

        Raises:
            RegistryError: The file cannot be had.
        """
        with self._response(f"mlflow-artifacts/artifacts/{quote(path)}") as response:
            content = response.read(most)
            if response.length and len(content) < most:
                raise self._broken_off(path)
        return content

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Answer:
        """One request, answered by whatever the server says.

        Args:
            method: Of HTTP.
            path: With its query, below the address.
            body: Sent as JSON.

        Raises:
            RegistryError: The server cannot be asked at all.
        """
        content = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.root}/{path}", content, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - the constructor says http
        try:
            with self._opener.open(request, timeout=_wait()) as response:
                return Answer(response.status, response.read(_MOST).decode(errors="replace"))
        except HTTPError as error:
            with error:
                return Answer(error.code, error.read(_MOST).decode(errors="replace"))
        except (OSError, HTTPException) as error:
            raise _unreachable(self.root, error) from None

    def _broken_off(self, path: str) -> RegistryError:
        return RegistryError(f"{self.root}: the download of {path!r} broke off; run the command again")

    def _row(self, wanted: Asked) -> Mapping[str, Any]:
        if wanted.alias is None:
            found = self._asked("mlflow/model-versions/get", name=wanted.name, version=str(wanted.version))
        else:
            found = self._asked("mlflow/registered-models/alias", name=wanted.name, alias=wanted.alias)
        row: Mapping[str, Any] = found["model_version"]
        return row

    def _asked(self, call: str, /, **query: str) -> Mapping[str, Any]:
        with self._response(f"{call}?{urlencode(query)}") as response:
            answer: Mapping[str, Any] = json.load(response)
            return answer

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RegistryError(f"{self.root} answers what no MLflow server does; check the address") from None

    @contextmanager
    def _response(self, path: str) -> Iterator[HTTPResponse]:
        try:
            with self._opener.open(f"{self.root}/api/2.0/{path}", timeout=_wait()) as response:
                yield response
        except HTTPError as error:
            with error:
                raise _refusal(self.root, error) from None
        except (OSError, HTTPException) as error:
            raise _unreachable(self.root, error) from None


def _wait() -> float:
    return float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or _WAIT)


def _unreachable(root: str, error: Exception) -> RegistryError:
    reason = getattr(error, "reason", error)
    return RegistryError(
        f"{root}: no MLflow server answers there: {getattr(reason, 'strerror', None) or reason}; "
        "check MLFLOW_REGISTRY_URI and MLFLOW_TRACKING_URI"
    )


def _refusal(root: str, error: HTTPError) -> RegistryError:
    if error.code in (401, 403):
        return RegistryError(f"{root} refuses to answer ({error.code}); {_LOGIN}")
    if "location" in error.headers:
        target = urlsplit(error.headers["location"])
        return RegistryError(
            f"{root} leads on to {target.scheme}://{target.netloc.rpartition('@')[2]}, which is not followed with a "
            "password; name that address"
        )
    try:
        said = json.load(error)
        code, message = said.get("error_code"), said.get("message")
    except (ValueError, AttributeError, OSError, HTTPException):
        code, message = None, None
    kind = AbsentError if code in ABSENT else RegistryError
    return kind(f"{root} answers {error.code}: {str(message or error.reason).strip()[:300]}")


def _login(parts: SplitResult) -> Iterator[tuple[str, str]]:
    """In the order of MLflow: name and password, a token, and last what the address holds."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{each}") for each in ("USERNAME", "PASSWORD"))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if not (user and password) and not token and parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
    if user and password is not None:
        yield "Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
    elif token:
        yield "Authorization", f"Bearer {token}"


def _workspace() -> Iterator[tuple[str, str]]:
    if os.environ.get("MLFLOW_WORKSPACE", "").strip():
        yield "X-MLFLOW-WORKSPACE", workspace()


def _tls() -> ssl.SSLContext:
    """As MLflow's variables have it."""
    authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise UsageError(f"MLFLOW_TRACKING_SERVER_CERT_PATH: {authority!r} cannot be read: {error}") from None
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
