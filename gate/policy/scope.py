"""Which models a policy is for, and what it does at an alias."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from gate.errors import NothingEvaluatedError

if TYPE_CHECKING:
    from gate.policy.kinds import Severity
    from gate.policy.schema import Policy


def require_in_scope(policy: Policy, name: str | None, uri: str) -> None:
    """Refuses a model that the policy is not for: a policy that says nothing of a model does not let it pass.

    Args:
        policy: With its scope.
        name: Of the registered model, None for a model outside of a registry.
        uri: As it was asked for.

    Raises:
        NothingEvaluatedError: No pattern of the scope matches.
    """
    patterns = policy.scope.models
    if "*" in patterns or (name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)):
        return
    found = f"the registered model {name!r}" if name else f"{uri}, which is no registered model,"
    raise NothingEvaluatedError(
        f"no policy matched: {found} is not in the scope of policy {policy.metadata.name!r}, "
        f"`scope.models` is {', '.join(patterns)}; check it under the policy that is meant for it, or widen the scope"
    )


def enforcement(policy: Policy, uri: str) -> Severity:
    """What the policy does at the alias of a URI such as `models:/NAME@ALIAS`; anywhere else it blocks."""
    alias = uri.rpartition("@")[2] if uri.startswith("models:/") and "@" in uri else ""
    return policy.scope.aliases.get(alias, "block")
