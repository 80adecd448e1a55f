"""The policy as YAML that a person can read: every bound with the numbers that it came from."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from gate.calibration.choosing import family_of
from gate.calibration.wording import about_bad, about_bound, about_good, head
from gate.errors import PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gate.calibration.outcome import Calibration
    from gate.calibration.proposing import Proposal
    from gate.policy.schema import Probe

FIRST_LINE = "# A policy from known-good versions, by `gate calibrate`."
_WIDTH = 110
_BLOCKS = ("scope", "probe", "run", "layers", "reads", "defaults", "baseline")
_FLOWING = ("scope", "run", "defaults", "columns", "relative", "slices", "params")  # written on one line
_RULE_ORDER = "id metric layer params min max relative slices severity enforce_from paper why fix docs"


def keys(found: Calibration) -> dict[str, Any]:
    """The policy as keys and values, in the order in which they are written."""
    probe = found.asked.policy.probe
    blocks = {**found.asked.blocks, "probe": _probe(probe, found.good[0].probe_digest) if probe else None}
    return {
        "apiVersion": "gate/v1",
        "kind": "Policy",
        "metadata": {
            "name": found.title,
            "version": "1.0.0",
            "description": f"Bounds from {len(found.good)} known-good version{'s'[: len(found.good) > 1]} "
            f"of {found.of_what}.",
        },
        **{key: blocks[key] for key in _BLOCKS if blocks.get(key)},
        "rules": [*(_rule(found, proposal) for proposal in found.rules), *found.copied],
    }


def _probe(probe: Probe, digest: str) -> dict[str, Any]:
    """With the digest of what was measured."""
    block = probe.written
    return {"uri": block.pop("uri"), **block, "digest": digest}


def _rule(found: Calibration, proposal: Proposal) -> dict[str, Any]:
    """The keys of a rule; what a policy that it is from says of it stays."""
    written: dict[str, Any] = dict(proposal.candidate.keys)
    written |= {each.side: _plain(each.number) for each in proposal.bounds}
    if found.asked.like is None:
        written |= _explained(found, proposal)
    order = [*_RULE_ORDER.split(), *written]
    return {key: written[key] for key in sorted(written, key=order.index)}


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) and abs(number) < 1e15 else number


def _explained(found: Calibration, proposal: Proposal) -> dict[str, str]:
    from gate.geometry import catalogue

    entry = catalogue.load()[proposal.candidate.rule.metric.partition(".")[0]]
    values = [each.value for each in proposal.good]
    span = f"{min(values):.3g}" if len(values) == 1 else f"{min(values):.3g} to {max(values):.3g}"
    return {
        "paper": entry.paper,
        "why": f"{entry.meaning}. Versions that are known to be good have {span}.",
        "fix": f"Look at the rows that drive it, and compare the recipe with that of {found.good[0].uri}.",
    }


def text(found: Calibration) -> str:
    """The YAML of a calibrated policy, as `gate.policy.loading.load_policy` reads it."""
    everything = keys(found)
    rules = everything.pop("rules")
    first = {key: everything.pop(key) for key in ("apiVersion", "kind", "metadata")}
    comments = "".join(f"{line}\n" for line in [FIRST_LINE, "#", *_commented(head(found))])
    blocks = [_dumped(first), *(_dumped({key: block}) for key, block in everything.items())]
    return comments + "\n".join([*blocks, "rules:\n" + "\n".join(_rules(found, rules))])


def require_valid(text: str) -> None:
    """Refuses a text that `gate check` would refuse: rules of another policy may ask for what is not here.

    Raises:
        UsageError: It is no valid policy.
    """
    from gate.policy.loading import load_policy

    with TemporaryDirectory(prefix="gate-") as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_policy(path)
        except PolicyError as error:
            faults = "; ".join(fault.message for fault in error.faults)
            raise UsageError(f"the policy would not be valid: {faults}; mend what --like or --probe names") from error


def _rules(found: Calibration, rules: list[dict[str, Any]]) -> Iterator[str]:
    titled = ""
    for proposal, rule in zip(found.rules, rules, strict=False):
        family = family_of(proposal)
        if found.asked.like is None and family != titled:
            yield from (f"  {line}\n" for line in _commented([_title(family)]))
            titled = family
        yield _dumped([rule], _notes(found, proposal))
    copied = rules[len(found.rules) :]
    if copied:
        yield "  # As they were: nothing here bounds what compares with a baseline or cuts the probe set.\n"
    for rule in copied:
        yield _dumped([rule])


def _title(family: str) -> str:
    from gate.geometry import catalogue

    return f"--- {catalogue.families()[family]} ---"


def _notes(found: Calibration, proposal: Proposal) -> dict[str, list[str]]:
    """Side → the lines above it: how the bound came about."""
    notes: dict[str, list[str]] = {each.side: [about_bound(each)] for each in proposal.bounds}
    first, last = proposal.bounds[0].side, proposal.bounds[-1].side
    notes[first] = [about_good(proposal), *notes[first]]
    if found.bad:
        notes[last] = [*notes[last], about_bad(found, proposal)]
    return notes


def _commented(lines: Iterable[str], width: int = _WIDTH) -> list[str]:
    return [f"# {part}".rstrip() for line in lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    further = "  " if line.startswith("- ") else ""
    return wrap(line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False) or [""]


def _dumped(content: object, notes: Mapping[str, list[str]] | None = None) -> str:
    """YAML 1.2; a list is indented, as an item of `rules`."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = _WIDTH
    stream = io.StringIO()
    yaml.dump(_styled(content), stream)
    lines: list[str] = []
    for line in stream.getvalue().splitlines():
        side = line.strip().partition(":")[0]
        if notes and line.startswith("    ") and side in notes:
            lines += [f"    {note}" for note in _commented(notes[side], _WIDTH - 4)]
        lines.append(line.rstrip())  # ruamel folds a text after the space
    return "\n".join(lines) + "\n"


def _styled(content: object) -> object:
    """Short blocks on one line, as people write them."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(content, dict):
        styled = CommentedMap()
        for key, value in content.items():
            styled[key] = DoubleQuotedScalarString(value) if key == "version" else _styled(value)
            if isinstance(value, dict) and (key in _FLOWING or set(value) <= {"path", "pooling"}):
                styled[key].fa.set_flow_style()
        return styled
    if isinstance(content, list | tuple):
        sequence = CommentedSeq(_styled(each) for each in content)
        if not any(isinstance(each, dict) for each in content):
            sequence.fa.set_flow_style()
        return sequence
    return content
