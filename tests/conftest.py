from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Demo:
    """What `gate demo` left and said; look, but change nothing: the whole session shares it."""

    home: Path
    exit_code: int
    stdout: str
    stderr: str

    @property
    def folder(self) -> Path:
        return self.home / "gate-demo"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The command that `make demo` runs, once a session: it trains two models."""
    home = tmp_path_factory.mktemp("newcomer")
    command = [str(Path(sys.executable).with_name("gate")), "demo"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    return Demo(home, done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True, scope="module")
def _leaves_mlflow_as_it_was() -> Iterator[None]:
    """What a module left behind, a tracking URI say, would lead the tests of the next ones to its registry."""
    before = _settings_of_mlflow()
    yield
    assert _settings_of_mlflow() == before


def _settings_of_mlflow() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
