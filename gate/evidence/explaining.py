"""Why a rule came out as it did, from the evidence alone: what was found, how sure it is, which rows drive it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from gate.evidence import summary, wording
from gate.evidence.layout import facts, painter, paragraph, section, table
from gate.evidence.meaning import meaning, recorded
from gate.evidence.recorded import as_slice
from gate.verdict import slice_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from gate.evidence.layout import Paint

    Document: TypeAlias = Mapping[str, Any]
    Result: TypeAlias = Mapping[str, Any]

_SURE = {
    "pass": "the whole interval lies inside the bounds",
    "fail": "the whole interval lies outside the bounds",
    "inconclusive": "the interval reaches over a bound, so that these rows do not decide",
}
_SHOWN_ROWS = 10
_SHOWN_SLICES = 20


def rules_of(document: Document) -> list[str]:
    """The ids of the rules that were judged."""
    return list(dict.fromkeys(result["rule"] for result in document["results"]))


def overview(document: Document, *, source: str, color: bool = False) -> str:
    """Everything that did not pass, worst first, each with the command that says more.

    Args:
        document: The evidence.
        source: How a command names this evidence, such as `--evidence report.json`.
        color: Whether to use ANSI colours.

    Returns:
        Text that ends with a newline.
    """
    paint = painter(color=color)
    status = document["status"]
    head = f"{paint(status.upper(), status)}  {paint(wording.one_line(summary.headline(document)), 'strong')}"
    results = summary.worst_first(document)
    rules: dict[str, list[Result]] = {}
    for result in results:
        if result["status"] != "pass":
            rules.setdefault(result["rule"], []).append(result)
    passed = [rule for rule in rules_of(document) if rule not in rules]
    blocks = ["\n".join([head, summary.tally(document)])]
    blocks += ["\n".join(_in_short(found, source, paint)) for found in rules.values()]
    blocks += ["\n".join(paragraph(f"passed: {', '.join(passed)}"))] if passed else []
    return "\n\n".join(blocks) + "\n"


def _in_short(results: Sequence[Result], source: str, paint: Paint) -> Iterator[str]:
    worst = results[0]
    yield _title(worst, paint)
    others = "1 more finding" if len(results) == 2 else f"{len(results) - 1} more findings"
    more = f"{others} of this rule did not pass" if len(results) > 1 else ""
    yield from facts([("fix", worst["fix"] or ""), ("also", more), ("see", _command(worst["rule"], source))], paint)


def _command(rule: str, source: str) -> str:
    return f"gate explain {rule} {source}"


def rule(document: Document, name: str, *, color: bool = False) -> str:
    """All that the evidence says of one rule.

    Args:
        document: The evidence.
        name: Id of one of its rules.
        color: Whether to use ANSI colours.

    Returns:
        Text that ends with a newline.
    """
    paint = painter(color=color)
    results = [result for result in summary.worst_first(document) if result["rule"] == name]
    whole = [result for result in results if result["slice"] is None]
    slices = [result for result in results if result["slice"] is not None]
    worst = results[0]
    driven = next((result for result in results if result["value"] is not None and _driving(result)), None)
    told = [*whole, *(result for result in slices[:1] if not whole or result["status"] != "pass")]
    blocks = [_head(document, worst, paint)]
    blocks += [_decision(document, result, paint) for result in told]
    blocks += _slices(slices, paint)
    blocks += [] if driven is None else [_rows(driven, slices, paint)]
    blocks.append(recorded(document, worst["metric"], worst["layer"], color=color))
    blocks.append(meaning(worst["metric"], color=color))
    return "\n\n".join(block.rstrip("\n") for block in blocks if block) + "\n"


def _head(document: Document, result: Result, paint: Paint) -> str:
    """Which rule it is, of which model, and what its author tells people."""
    model = f"{document['model']['resolved']} on {summary.rows(document)} of {document['probe']['uri']}"
    enforced = f"warns until {result['enforce_from']}, blocks from then on" if result["enforce_from"] else ""
    pairs = [
        ("model", model),
        ("rule", f"{wording.place(document, result)}, {_severity(result)}"),
        ("enforced", enforced),
        *wording.advice(result),
        *(("waiver", text) for text in _idle_waivers(document, result["rule"])),
        ("to waive", _waiver_to_write(document, result)),
        ("note", (summary.caution(document) or "").removeprefix("note: ")),
    ]
    title = f"rule {result['rule']}: {wording.outcome(result)}"
    return "\n".join([paint(wording.one_line(title), result["status"]), *facts(pairs, paint)])


def _waiver_to_write(document: Document, result: Result) -> str:
    """What to add to `waivers` of the policy, for a finding that a waiver could cover."""
    if result["status"] not in ("fail", "inconclusive"):
        return ""
    model = document["model"]
    named = model["resolved"] if model["version"] else model["digest"]
    columns = next(
        (each["slice"] for each in document["slices"] if slice_name(as_slice(each["slice"])) == result["slice"]), None
    )
    slices = {} if columns is None else {"slices": columns}
    written = json.dumps({"rule": result["rule"], "model": named, **slices}, ensure_ascii=False)
    return f"{written[:-1]}, expires: YYYY-MM-DD, owner: WHO, reason: WHY}}"


def _idle_waivers(document: Document, name: str) -> Iterator[str]:
    """The waivers of a rule that name this model and do nothing for it."""
    for waiver in document["waivers"]:
        if waiver["rule"] == name and waiver["state"] != "used":
            until = f"{waiver['state']}, until {waiver['expires']}"
            yield f"{until}: {waiver['reason']} - {waiver['owner']}"


def _severity(result: Result) -> str:
    return "blocks a promotion" if result["severity"] == "block" else "only warns"


def _decision(document: Document, result: Result, paint: Paint) -> str:
    """One finding: the number, what was required of it, how sure that is, and what it was before."""
    pairs = [
        ("value", _number(document, result)),
        ("required", _required(document, result)),
        ("how sure", _how_sure(result)),
        ("baseline", _before(document, result)),
        ("waiver", wording.waived(result) or ""),
    ]
    return section("\n".join(paragraph(_title(result, _unpainted))), facts(pairs, paint), paint)


def _title(result: Result, paint: Paint) -> str:
    name, status = wording.finding_name(result), wording.outcome(result)
    return f"{paint(f'{status}[{name}]', result['status'])}: {wording.one_line(result['message'])}"


def _unpainted(text: str, _style: str) -> str:
    return text


def _number(document: Document, result: Result) -> str:
    if result["value"] is None:
        return ""  # the message says why
    basis = [f"n = {result['n']}"] if result["n"] else []
    basis += [f"{result[key]} {word}" for key, word in (("d", "dimensions"), ("c", "classes")) if result[key]]
    level = f"{100 * _confidence(document, result):g}% interval"
    change = _estimate(document, result, "change") if result["check"] == "relative" else None
    basis += (
        ["the error of the margin in percent is in it"] if change and change["interval"] != result["interval"] else []
    )
    return f"{wording.measured(result)}, {level}, {', '.join([*basis, str(result['method'])])}"


def _confidence(document: Document, result: Result) -> float:
    return float(result["confidence"] or document["run"]["confidence"])


def _required(document: Document, result: Result) -> str:
    if result["min"] is None and result["max"] is None:
        return ""
    required = wording.required(result)
    if result["status"] == "pass" and result["margin"] is not None:
        return f"{required}: inside by {wording.number(-result['margin'])}"
    return f"{required}: {wording.miss(result, _confidence(document, result)).partition(' (')[0]}"


def _how_sure(result: Result) -> str:
    """What the interval says of the decision, and what would decide where it says nothing."""
    if result["interval"] is None or result["margin"] is None:
        return ""
    low, high = result["interval"]
    floor = -math.inf if result["min"] is None else result["min"]
    ceiling = math.inf if result["max"] is None else result["max"]
    outside = high < floor or low > ceiling
    kind = "pass" if low >= floor and high <= ceiling else "fail" if outside else "inconclusive"
    told = [_SURE[kind]]
    half = (high - low) / 2
    if half > 0 and kind != "inconclusive":
        told.append(f"the value lies {abs(result['margin']) / half:.3g} half-widths from the nearest one")
    if result["n_needed"]:
        told.append(f"about {result['n_needed']} rows would decide, {result['n']} were there")
    return "; ".join(told)


def _before(document: Document, result: Result) -> str:
    """What the baseline has, and the change with its paired interval."""
    if document["baseline"] is None:
        return ""
    before, change = (_estimate(document, result, of) for of in ("baseline", "change"))
    if before is None or before["value"] is None:
        return ""
    told = f"{document['baseline']['resolved']} has {wording.measured(before)}"
    if result["check"] == "relative" or change is None or change["value"] is None:
        return told
    share = f" ({change['value'] / abs(before['value']):+.0%})" if before["value"] else ""
    return f"{told}; the change is {wording.measured(change)}{share}, paired on the same rows"


def _estimate(document: Document, result: Result, of: str) -> Mapping[str, Any] | None:
    """The number of the baseline, or its change, that belongs to a finding."""
    about = [each for each in document["estimates"] if _is_about(each, result)]
    of_finding = "change" if result["check"] == "relative" else "candidate"
    own = next((each for each in about if each["of"] == of_finding and each["value"] == result["value"]), None)
    return next((each for each in about if each["of"] == of and (own is None or each["params"] == own["params"])), None)


def _is_about(estimate: Mapping[str, Any], result: Result) -> bool:
    found = ", ".join(f"{column}={value}" for column, value in (estimate["slice"] or {}).items()) or None
    return (estimate["metric"], estimate["layer"], found) == (result["metric"], result["layer"], result["slice"])


def _slices(slices: Sequence[Result], paint: Paint) -> list[str]:
    if not slices:
        return []
    passed = sum(result["status"] == "pass" for result in slices)
    rows = [
        (
            wording.outcome(result),
            f"{result['slice']}{' (change)' if result['check'] == 'relative' else ''}",
            "-" if result["value"] is None else wording.measured(result),
            str(result["reason"]) if result["value"] is None else f"{wording.required(result)}, n = {result['n']}",
        )
        for result in slices[:_SHOWN_SLICES]
    ]
    more = [f"  and {len(slices) - len(rows)} more, none of them worse"] if len(slices) > len(rows) else []
    return [section(f"slices, worst first: {passed} of {len(slices)} findings pass", [*table(rows), *more], paint)]


def _driving(result: Result) -> list[dict[str, Any]]:
    return [row for row in result["rows"] if row["influence"] is not None]


def _rows(result: Result, slices: Sequence[Result], paint: Paint) -> str:
    """The rows that push a value over its bound, by how much each moves it, and the slices that they also drive."""
    known = _driving(result)
    n = result["n"] or len(known)
    lines = list(table((row["id"], f"{row['influence'] / n:+.3g}") for row in known[:_SHOWN_ROWS]))
    what = "the change" if result["check"] == "relative" else "the value"
    left = _within_limits(result, result["value"] - sum(row["influence"] for row in known) / n)
    told = [f"Without these {len(known)} rows {what} would be about {wording.number(left)}."]
    ids = {row["id"] for row in known}
    others = [each for each in slices if each["slice"] != result["slice"]]
    shares = {each["slice"]: len(ids & {row["id"] for row in each["rows"]}) for each in others}
    named = [f"{count} of them also drive {name}" for name, count in shares.items() if count]
    told += [f"{', '.join(named)}."] if named else []
    title = f"rows that push {wording.finding_name(result)} most to its failing side, and by how much"
    more = [f"  and {len(known) - _SHOWN_ROWS} more"] if len(known) > _SHOWN_ROWS else []
    return section(title, [*lines, *more, *(f"  {line}" for text in told for line in paragraph(text))], paint)


def _within_limits(result: Result, value: float) -> float:
    """The nearest number that the metric can have; a change is left as it is."""
    from gate.geometry import catalogue

    name, _, readout = result["metric"].partition(".")
    entry = catalogue.load().get(name)
    if entry is None or result["check"] == "relative":
        return value
    low, high = entry.limits.get(readout or "value", (value, value))
    return min(max(value, low), high)
