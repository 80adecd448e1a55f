"""Every failure that the gate expects; the class fixes the exit code.

A message says where the fault is, what was found, what was expected and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class GateError(Exception):
    """Something that the gate could not evaluate."""

    exit_code: ClassVar[int] = 3


class UsageError(GateError):
    """A command or call that makes no sense as it stands."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Fault:
    """One fault of a policy file; line and column count from 1."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: error[policy]: {self.message}"


class PolicyError(GateError):
    """A policy, or a probe spec, that cannot be used; carries all of its faults."""

    exit_code: ClassVar[int] = 2

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class NothingEvaluatedError(GateError):
    """No rule was there to evaluate: silence is not a pass."""

    exit_code: ClassVar[int] = 5


class RegistryError(GateError):
    """The registry cannot be reached, or does not know what it was asked for."""


class AbsentError(RegistryError):
    """The registry answers, and knows no such model, version or alias."""


class SameVersionError(AbsentError):
    """There is no other version to compare with: the one that is named is the candidate itself."""


class ModelError(GateError):
    """A model that cannot be found, may not be loaded or does not run."""


class LayerError(GateError):
    """A layer that the model does not have, or an output that cannot become feature rows."""


class ProbeError(GateError):
    """A probe set that cannot be read or may not decide anything."""


class RefusedProbeError(ProbeError):
    """A probe set, or what is expected of one, with faults; carries all of them, a line each."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class MetricError(GateError):
    """Features that no metric can be computed on, or a metric that does not exist."""


class VerificationError(GateError):
    """Signed evidence that does not hold for what it is held against, or that is missing."""

    exit_code: ClassVar[int] = 7
