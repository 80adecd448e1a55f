"""Commands on policies answer at once: they run before each commit, and in editors."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gate.policy import packs

LARGEST = max(packs.names(), key=lambda name: len((packs.folder() / f"{name}.yaml").read_bytes()))
COMMANDS = (["validate", LARGEST], ["schema"])


def seconds(arguments: list[str]) -> float:
    """Of a processor: what else runs on this machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "gate", "policy", *arguments], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, b"")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_the_largest_pack_takes_a_moment(arguments: list[str]) -> None:
    assert min(seconds(arguments) for _ in range(3)) < 0.6


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    heavy = (
        "{'torch', 'mlflow', 'numpy', 'pandas', 'matplotlib', 'great_expectations', 'jsonschema'} & set(sys.modules)"
    )
    code = f"import sys; from gate.cli import main; main(['policy', *{arguments!r}]); print(); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")
