"""What is wrong with the keys of a file: everything at once, each with its place and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gate.errors import Fault, PolicyError
from gate.policy.consistency import policy_faults, probe_faults
from gate.policy.kinds import shown
from gate.policy.merging import OF_THE_CHILD, Written
from gate.policy.schema import Policy, Probe
from gate.policy.sentences import keys_of, sentence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gate.policy.kinds import Location
    from gate.policy.reading import Tree

Model = TypeVar("Model", bound=BaseModel)

_COMMANDS = {
    "Policy": "gate policy validate",
    "PolicyTests": "gate policy test",
    "ServerPolicy": "gate doctor --server-policy",
}
"""Kind → what looks at a file of it."""
_OF_A_PART = ("missing", "incomplete")  # what other files may have


def validated(model: type[Model], tree: Tree, written: Written) -> Model:
    """The keys as the model has them.

    Args:
        model: What the keys should be.
        tree: Of the file, with the faults that only its text shows.
        written: The keys, merged with those of other files, and their places.

    Raises:
        PolicyError: There are faults; all of them, in the order of their lines.
    """
    if faults := faults_of(model, tree, written):
        raise refusal(faults)
    return model.model_validate(written.value)


def refusal(faults: Iterable[Fault]) -> PolicyError:
    """Every fault once, in the order of lines."""
    return PolicyError(
        tuple(sorted(set(faults), key=lambda fault: (fault.path, fault.line, fault.column, fault.message)))
    )


def faults_of(model: type[BaseModel], tree: Tree, written: Written, *, partial: bool = False) -> set[Fault]:
    """Everything that is wrong; of keys that only add to others (`partial`), what is missing is no fault."""
    faults = {
        Fault(written.path, *problem.position, _worded(written, problem.location, problem.message))
        for problem in tree.problems
    }
    known = {problem.location for problem in tree.problems if problem.hides}
    if () in known:
        return faults
    if not isinstance(tree.value, dict):
        message = f"expected keys with values, such as `{keys_of(model)[0]}: …`; found {shown(tree.value)}"
        return {*faults, Fault(*written.place(()), message)}
    if other := _other_kind(model, tree.value.get("kind")):
        return {*faults, fault_at(written, ("kind",), other)}
    return faults | {
        fault_at(written, location, message)
        for location, message in _messages(model, written, known, partial=partial)
        if location not in known
    }


def _other_kind(model: type[BaseModel], kind: object) -> str | None:
    """That a file is of another kind of ours, whose keys are no faults."""
    field = model.model_fields.get("kind")
    expected = get_args(field.annotation) if field else ()
    if not expected or not isinstance(kind, str) or kind in expected or kind not in _COMMANDS:
        return None
    return f"this is a `{kind}`, expected a `{expected[0]}`; `{_COMMANDS[kind]}` looks at it"


def fault_at(written: Written, location: Location, message: str) -> Fault:
    """A fault of merged keys, in the policy's own file; what stands in another one is named in the message."""
    place, anchor = written.place(location), written.anchor(location)
    elsewhere = "" if place.path == anchor.path else f" ({place.path}, line {place.line})"
    return Fault(*anchor, _worded(written, location, message) + elsewhere)


def _messages(
    model: type[BaseModel], written: Written, known: Collection[Location], *, partial: bool
) -> Iterator[tuple[Location, str]]:
    try:
        model.model_validate(written.value, context={"parts": True})
    except ValidationError as error:
        details = error.errors(include_url=False)
    else:
        details = []
    if model is Policy:
        yield from policy_faults(written.value, partial=partial)
        yield from _repeated_waivers(written)
    if model is Probe:
        yield from probe_faults(written.value)
    for detail in details:
        location = tuple(part for part in detail["loc"] if part != "[key]")
        lacking = detail["type"] in _OF_A_PART
        elsewhere = partial and location[0] not in OF_THE_CHILD
        if not (lacking and (elsewhere or location[:-1] in known)):
            yield location, sentence(model, location, detail)


def _repeated_waivers(written: Written) -> Iterator[tuple[Location, str]]:
    """Waivers of the policy's own file for what an earlier one there is for; one of another file may be prolonged."""
    waivers = written.value.get("waivers")
    earlier: list[tuple[object, int]] = []
    for index, waiver in enumerate(waivers if isinstance(waivers, list) else ()):
        place = written.place(("waivers", index))
        if not isinstance(waiver, Mapping) or place.path != written.path:
            continue
        of_what = (waiver.get("rule"), waiver.get("model"), waiver.get("slices") or {})
        line = next((line for found, line in earlier if found == of_what), None)
        if line is None:
            earlier.append((of_what, place.line))
        elif None not in of_what:
            yield ("waivers", index), f"waives the same as the waiver on line {line}; keep one of the two"


def _worded(written: Written, location: Location, message: str) -> str:
    where = ".".join(_named(written, location))
    return f"{where}: {message}" if where else message


def _named(written: Written, location: Location) -> Iterator[str]:
    """The parts of a location; a rule by its id where its number is that among the rules of several files."""
    for depth, part in enumerate(location):
        rules = written.value.get("rules") if depth == 1 and location[0] == "rules" and written.entries else None
        rule = rules[int(part)] if isinstance(rules, list) and int(part) < len(rules) else None
        yield str(rule.get("id", part) if isinstance(rule, Mapping) else part)
