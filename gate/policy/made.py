"""Policies that nobody wrote to a file: what a command or a call names, in the form that everything else reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gate.errors import UsageError
from gate.policy.schema import Policy
from gate.policy.sentences import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def made(name: str, **blocks: Any) -> Policy:  # noqa: ANN401 - whatever a policy may hold
    """A policy of some blocks.

    Args:
        name: What it is called.
        blocks: Its keys besides the head.

    Raises:
        UsageError: A block is not as the schema has it; all faults are named.
    """
    head = {"apiVersion": "gate/v1", "kind": "Policy", "metadata": {"name": name, "version": "1"}}
    try:
        return Policy.model_validate({**head, **blocks})
    except ValidationError as error:
        faults = [(each["loc"], sentence(Policy, each["loc"], each)) for each in error.errors(include_url=False)]
        raise UsageError("; ".join(f"{'.'.join(map(str, where))}: {what}" for where, what in faults)) from None


def named(option: str, texts: Iterable[str]) -> dict[str, str]:
    """Name → `PATH` or `PATH:POOLING`, from `NAME=PATH` as it is typed.

    Raises:
        UsageError: A text of another form, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, address = text.partition("=")
        if not (name and equals and address):
            raise UsageError(f"{option} {text!r}: expected NAME=PATH or NAME=PATH:POOLING")
        if name in found:
            raise UsageError(f"{option} {text!r}: {name!r} is given twice")
        found[name] = address
    return found


def addresses(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The blocks `layers` and `reads` of a policy.

    Args:
        texts: Name → `PATH` or `PATH:POOLING`.
    """
    return {name: _address(text) for name, text in texts.items()}


def _address(text: str) -> dict[str, str]:
    path, colon, pooling = text.partition(":")
    return {"path": path, "pooling": pooling} if colon else {"path": path}
