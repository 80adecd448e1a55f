"""What is signed: an in-toto statement on one version of a model, one policy and one verdict.

The predicate is `test-result` of in-toto. What it has no word for stands under one key of its own, from which all else
in the statement follows; a statement that says one thing here and another there is refused.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from gate.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
EXTENSION = "urn:geometry-gate:judged:v1"
PASSING = ("passed", "warned")
_RESULTS = {"passed": "PASSED", "warned": "WARNED"}  # in-toto has no third word: whatever does not pass has FAILED
_TESTS = {"passedTests": ("pass",), "warnedTests": ("warn", "waived"), "failedTests": ("fail", "inconclusive", "error")}

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Verdict = Literal["passed", "warned", "failed", "inconclusive", "error"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Version(_Part):
    """A version, as the registry has it: what is registered anew under the same number is another one."""

    name: str
    """Of the registered model."""
    version: str
    """Its number."""
    created: int
    """When it was registered, in milliseconds since 1970."""
    source: str
    """Where it was registered from."""
    workspace: str = "default"
    """Of the registry; `default` where there are none."""

    @classmethod
    def of(cls, name: str, version: object, created: object, source: str | None, workspace: str | None) -> Self:
        """A version as a registry answers it, where a number may be text and what is not there None."""
        return cls(
            name=name,
            version=str(version),
            created=int(str(created)),
            source=source or "",
            workspace=workspace or "default",
        )

    @property
    def uri(self) -> str:
        """`models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.version}"


class UnderPolicy(_Part):
    """The policy of a verdict, and how it was applied."""

    name: str
    version: str | None
    digest: Digest
    enforcement: Literal["block", "warn"] = "block"
    """`warn` where it was asked for an alias at which the policy blocks nothing."""
    overrides: tuple[str, ...] = ()
    """What the command line put in place of the policy's own: `probe`, `baseline`."""


class Statement(_Part):
    """One judgement of one version."""

    subject: Version
    digest: Digest
    """Of the model's files (gate.models.digest)."""
    names: Digest
    """The same over the names of the files as well."""
    files: dict[str, Hex] | None
    """Every file and its SHA-256; None where they are too many for a tag."""
    verdict: Verdict
    reason: str | None = None
    """Why it is an error."""
    policy: UnderPolicy
    probe: Digest
    baseline: Digest | None
    evidence: Digest | None
    """Of the evidence document; None before it is recorded."""
    run: str | None
    """The MLflow run that holds the evidence."""
    trust: str | None
    """What loading the model runs: `code-free`, `pickle` or `code`."""
    isolation: str | None
    """How the model was kept apart: `process`, `none`; None where no model ran."""
    issued: AwareDatetime
    expires: AwareDatetime
    outcomes: dict[str, tuple[str, ...]]
    """Outcome → ids of the rules."""
    copied_from: Digest | None = None
    """Of the statement on the version that this one is a copy of."""

    @property
    def passes(self) -> bool:
        """Whether the verdict lets a version be promoted, were everything else right."""
        return self.verdict in PASSING

    @property
    def payload(self) -> bytes:
        """What is signed: canonical JSON."""
        return json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @property
    def document(self) -> dict[str, Any]:
        """The in-toto statement."""
        own = self.model_dump(mode="json")
        tests = {key: [rule for each in of for rule in self.outcomes.get(each, ())] for key, of in _TESTS.items()}
        resources = {
            "policy": self.policy.digest,
            "probe": self.probe,
            "baseline": self.baseline,
            "evidence": self.evidence,
        }
        return {
            "_type": TYPE,
            "subject": [{"name": self.subject.uri, "digest": {"sha256": _bare(self.digest)}}],
            "predicateType": PREDICATE,
            "predicate": {
                "result": _RESULTS.get(self.verdict, "FAILED"),
                "configuration": [
                    {"name": name, "digest": {"sha256": _bare(digest)}} for name, digest in resources.items() if digest
                ],
                **tests,
                EXTENSION: own,
            },
        }


def read(payload: bytes) -> Statement:
    """The statement of a payload.

    Raises:
        VerificationError: It is no statement of this kind, or contradicts itself.
    """
    content = _json(payload)
    predicate = content.get("predicate")
    own = predicate.get(EXTENSION) if isinstance(predicate, dict) else None
    if content.get("_type") != TYPE or content.get("predicateType") != PREDICATE or not isinstance(own, dict):
        raise VerificationError(
            f"the signed content is no judgement of the gate: its type is {content.get('predicateType')!r}, "
            f"expected {PREDICATE!r} with the key {EXTENSION!r}"
        )
    try:
        found = Statement.model_validate_json(json.dumps(own))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise VerificationError(f"the signed statement cannot be read: {place}: {first['msg']}") from None
    if found.document != content:
        raise VerificationError("the signed statement contradicts itself: what it says twice differs")
    return found


def _json(payload: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise VerificationError("the signed content is not a JSON object")
    return content


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")
