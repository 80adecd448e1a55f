"""Files of policy tests: found, read, and held against the policy that they are about."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import NothingEvaluatedError, UsageError
from gate.policy.loading import load_beside, load_keys
from gate.policy.reading import read
from gate.policy.validation import fault_at, refusal
from gate.policy_tests.references import faults_of
from gate.policy_tests.schema import PolicyTests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gate.policy.loading import LoadedPolicy
    from gate.policy.merging import Written
    from gate.policy_tests.schema import Case

_KIND = "PolicyTests"
_ENDINGS = (".test.yaml", ".test.yml")


@dataclass(frozen=True)
class Suite:
    """A valid file of tests and the policy that they are about."""

    path: str
    tests: tuple[Case, ...]
    policy: LoadedPolicy
    written: Written

    def line(self, index: int) -> int:
        """Of a test."""
        return self.written.place(("tests", index)).line


def found(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files of policy tests among files, and below folders.

    A file that is named counts whatever it holds. Below a folder count those called `NAME.test.yaml`, outside of hidden
    folders, except those that say themselves that they are of another kind.

    Returns:
        The files in order, and those left out for their kind.

    Raises:
        UsageError: There is no such file or folder.
        NothingEvaluatedError: There are none.
    """
    asked = list(paths)
    kept: list[Path] = []
    others: list[Path] = []
    for path in asked:
        if path.is_file():
            kept.append(path)
        elif path.is_dir():
            for file in _below(path):
                (others if _is_of_another_kind(file) else kept).append(file)
        else:
            raise UsageError(f"there is no file or folder {str(path)!r}")
    if not kept:
        where = ", ".join(str(path) for path in asked)
        left = f"; left out for their kind: {', '.join(map(str, others))}" if others else ""
        raise NothingEvaluatedError(
            f"no policy tests: no file NAME.test.yaml of the kind {_KIND} below {where}{left}; "
            'write one (docs/policy.md, "Testing a policy"; in short `gate policy test --help`), or name the files'
        )
    return list(dict.fromkeys(kept)), others


def _below(folder: Path) -> list[Path]:
    files = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(here, name) for name in names if name.endswith(_ENDINGS)]
    return sorted(files)


def _is_of_another_kind(path: Path) -> bool:
    """Whether a file names a kind that is no slip of the pen for ours."""
    try:
        value = read(path.read_text(encoding="utf-8-sig")).value
    except (OSError, UnicodeDecodeError):
        return False  # whoever loads it says what is wrong
    kind = value.get("kind") if isinstance(value, dict) else None
    return isinstance(kind, str) and not get_close_matches(kind.lower(), [_KIND.lower()])


def load(path: Path) -> Suite:
    """Read a file of policy tests with its policy.

    Raises:
        PolicyError: The file or its policy has faults; all of them, in the order of their lines.
        NothingEvaluatedError: The policy has no rule.
    """
    file, written = load_keys(PolicyTests, path, "policy tests")
    policy = _policy(file.policy, path, written)
    if faults := [fault_at(written, *fault) for fault in faults_of(file, policy.policy)]:
        raise refusal(faults)
    return Suite(str(path), file.tests, policy, written)


def _policy(reference: str, file: Path, written: Written) -> LoadedPolicy:
    """The policy of a file of tests: a pack by its name, anything else relative to the file."""
    try:
        return load_beside(reference, file.parent)
    except UsageError as error:
        raise refusal([fault_at(written, ("policy",), str(error))]) from None
    except NothingEvaluatedError as error:
        raise NothingEvaluatedError(f"{file}: {error}") from None
