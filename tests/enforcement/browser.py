"""A real browser, through the protocol that chromedriver speaks."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from tests.enforcement.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_PATIENCE = 60.0  # seconds until something is on the page


@dataclass(frozen=True)
class Browser:
    """One window.

    Attributes:
        session: Its URL at the driver.
    """

    session: str

    def ask(self, route: str, **body: Any) -> Any:
        answer = requests.post(f"{self.session}/{route}", json=body, timeout=90).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise LookupError(answer["message"])
        return answer

    def open(self, url: str) -> None:
        self.ask("url", url=url)

    def find(self, xpath: str) -> str:
        """The route of an element, once it is there."""
        ends = time.monotonic() + _PATIENCE
        while True:
            try:
                found = self.ask("element", using="xpath", value=xpath)
                return f"element/{next(iter(found.values()))}"
            except LookupError:
                if time.monotonic() > ends:
                    raise AssertionError(f"{xpath} is not on the page:\n{self.text}") from None
                time.sleep(0.2)

    def click(self, xpath: str) -> None:
        """Click as soon as nothing covers it."""
        self._insist(xpath, "click")

    def type(self, xpath: str, text: str) -> None:
        """Type as soon as something can be typed."""
        self._insist(xpath, "value", text=text)

    def _insist(self, xpath: str, what: str, **body: Any) -> None:
        ends = time.monotonic() + _PATIENCE
        while True:
            try:
                self.ask(f"{self.find(xpath)}/{what}", **body)
            except LookupError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)
            else:
                return

    @property
    def text(self) -> str:
        return str(self.ask("execute/sync", script="return document.body.innerText", args=[]))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(requests.get(f"{self.session}/screenshot", timeout=90).json()["value"]))


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """A headless window with a profile of its own."""
    port = free_port()
    log = (folder / "driver.log").open("wb")
    with log, subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=log, stderr=log) as driver:
        try:
            yield Browser(_session(port, folder))
        finally:
            requests.get(f"http://127.0.0.1:{port}/shutdown", timeout=30)
            driver.wait(timeout=30)


def _session(port: int, folder: Path) -> str:
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1400,1000",
        f"--user-data-dir={folder}/profile",
    ]
    options = {"binary": CHROMIUM, "args": arguments}
    wanted: Any = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
    ends = time.monotonic() + _PATIENCE
    while True:
        try:
            made = requests.post(f"http://127.0.0.1:{port}/session", json=wanted, timeout=90).json()["value"]
            return f"http://127.0.0.1:{port}/session/{made['sessionId']}"
        except requests.ConnectionError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)
