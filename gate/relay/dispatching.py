"""Starts a workflow on GitHub by a `repository_dispatch` event."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from gate import __version__
from gate.errors import UsageError
from gate.relay.target import NOTE, Outcome

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

EVENT = "model-registered"
_REPOSITORY = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]*/(?!\.{1,2}$)[0-9A-Za-z._-]+", re.ASCII)
_TOKEN = re.compile(r"[!-~]+")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Accept": "application/vnd.github+json",
    "User-Agent": f"geometry-gate/{__version__}",
    "X-GitHub-Api-Version": "2022-11-28",
}
_SECONDS = (10, 15)  # to connect, and to hear an answer


@dataclass(frozen=True)
class Dispatch:
    """Hands versions to the workflows of a repository.

    Attributes:
        repository: OWNER/REPO.
        url: Of the API: https://api.github.com, or https://HOST/api/v3 of an Enterprise server.
        token: That may write the contents of the repository.
    """

    repository: str
    url: str
    token: str = field(repr=False)
    records: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repository):
            raise UsageError(f"--dispatch {self.repository!r} is no repository: write OWNER/REPO")
        parts = urlsplit(self.url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        if not safe or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(
                "--github-url is no address that a token can be sent to: write https://api.github.com, or "
                "https://HOST/api/v3 of a GitHub Enterprise server"
            )
        if not _TOKEN.fullmatch(self.token):
            raise UsageError(
                "--dispatch needs a token in the variable GITHUB_TOKEN, one word; it must be allowed to write the "
                f"contents of {self.repository}"
            )

    async def __call__(self, name: str, version: str) -> Outcome:
        """Send one event; when cancelled, its answer is still waited for, lest it be sent twice."""
        sending = asyncio.ensure_future(asyncio.to_thread(self._post, name, version))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            return await sending

    def _post(self, name: str, version: str) -> Outcome:
        import requests

        url = f"{self.url.rstrip('/')}/repos/{self.repository}/dispatches"
        event: dict[str, Any] = {"event_type": EVENT, "client_payload": {"model": name, "version": version}}
        try:
            # A redirect is not followed: it would carry the token elsewhere, or make a GET of this.
            answer = requests.post(
                url, json=event, headers=_HEADERS, auth=self._authorised, timeout=_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            return Outcome("again", f"{type(error).__name__}: {error}"[:NOTE])
        return _outcome(answer)

    def _authorised(self, request: PreparedRequest) -> PreparedRequest:
        """As `auth`, for a .netrc file would go over a header."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _outcome(answer: Response) -> Outcome:
    note = f"{answer.status_code} {answer.text.strip()}"[:NOTE]
    if 200 <= answer.status_code < 300:
        return Outcome("dispatched", note)
    wait = answer.headers.get("Retry-After", "")
    # GitHub says by 403, too, that it was asked too often.
    often = answer.status_code == 429 or (
        answer.status_code == 403 and (wait or answer.headers.get("X-RateLimit-Remaining") == "0")
    )
    if often or answer.status_code >= 500:
        return Outcome("again", note, wait=float(wait) if wait.isdecimal() else 0)
    return Outcome("failed", note)
