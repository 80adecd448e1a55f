from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.relay import playing


@pytest.fixture
def github() -> Iterator[playing.GitHub]:
    with playing.github() as server:
        yield server


@pytest.fixture
def relay(tmp_path: Path, github: playing.GitHub) -> Iterator[Callable[..., playing.Relay]]:
    """Starts relays that dispatch to the GitHub of the test."""
    begun = []

    def start(*options: str, **environment: str) -> playing.Relay:
        made = playing.Relay(tmp_path, "--dispatch=acme/models", f"--github-url={github.url}", *options, **environment)
        begun.append(made)
        return made.start()

    yield start
    github.go.set()
    for each in begun:
        each.kill()
