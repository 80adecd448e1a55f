"""The short tags of a version that a person reads; what counts is the signed statement beside them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gate.attestation.envelope import unverified
from gate.attestation.names import NOT_IN_FORCE, STATEMENTS
from gate.attestation.statement import Statement, read
from gate.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.attestation.deciding import Trust

WORDS = {"passed": "PASS", "warned": "WARN", "failed": "FAIL", "inconclusive": "INCONCLUSIVE", "error": "ERROR"}
"""What the tag `gate` says of a verdict."""
_WORST_FIRST = ("error", "failed", "inconclusive", "warned", "passed")


def short(statements: Mapping[str, Statement], trust: Trust | None = None) -> dict[str, str]:
    """The tags `gate`, `gate.run` and `gate.policy` for the worst verdict of all policies, of equals the newest.

    Args:
        statements: Tag → statement; at least one.
        trust: Whose policies count, where that is known: the verdict of another one opens nothing, and says so first,
            because a table may cut the rest off.
    """
    worst = min(statements.values(), key=lambda each: (_WORST_FIRST.index(each.verdict), -each.issued.timestamp()))
    word = WORDS[worst.verdict]
    version = f"@{worst.policy.version}" if worst.policy.version else ""
    return {
        "gate.run": (worst.run or "none")[:8],
        "gate.policy": f"{worst.policy.name}{version}",
        "gate": word if trust is None or trust.counts(worst) else NOT_IN_FORCE + word,
    }


def recorded(tags: Mapping[str, str]) -> dict[str, Statement]:
    """The statements on a version by their tag, unverified; what is none is left out, and can never promote."""
    found = {}
    for key, text in tags.items():
        if key.startswith(STATEMENTS):
            with suppress(VerificationError):
                found[key] = read(unverified(text))
    return found
