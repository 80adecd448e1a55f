"""The report of a calibration for a person at a terminal: rules, what was left out, and the bad versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gate.calibration.wording import warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gate.calibration.bounds import Bound
    from gate.calibration.outcome import Calibration

_SAID = {"fail": "caught", "pass": "passes", "inconclusive": "inconclusive", "error": "no answer", "warn": "warned"}


def report(found: Calibration) -> str:
    """Everything worth knowing besides the policy itself, several lines."""
    parts = [list(_summary(found)), _table(_rules(found))]
    if found.left_out:
        parts.append(["left out:", *(f"  {each.candidate.rule.id}: {each.reason}" for each in found.left_out)])
    if found.copied:
        names = ", ".join(str(rule["id"]) for rule in found.copied)
        parts.append([f"not calibrated, copied as they were: {names}"])
    if found.bad:
        parts.append(["bad versions:", *_table(_bad(found))])
        parts += [[line] for line in _blind(found)]
    parts += [[f"warning: {line}"] for line in warnings(found)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _summary(found: Calibration) -> Iterator[str]:
    good, bad, shares = len(found.good), len(found.bad), found.shares
    measured = f"{good} good version{'s'[: good > 1]}" + (f" and {bad} bad" if bad else "")
    yield f"{found.title}: {measured} of {found.of_what}, {found.good[0].rows} probe rows, {len(found.rules)} rules"
    if good > 1:
        yield (
            f"another good version does not pass in at most {100 * shares.false_alarm:.3g} % of runs (assurance "
            f"{100 * shares.assurance:.3g} %); {shares.bounds} bounds considered, {shares.factor:.3g} spreads away"
        )


def _rules(found: Calibration) -> list[list[str]]:
    rows = [["rule", "bound", "good versions", "would see"]]
    for proposal in found.rules:
        values = [each.value for each in proposal.good]
        rows.append(
            [
                proposal.candidate.rule.id,
                _within(proposal.bounds),
                f"{min(values):.4g}" if len(values) == 1 else f"{min(values):.4g} to {max(values):.4g}",
                ", ".join(proposal.worthless) or "-",
            ]
        )
    return rows


def _within(bounds: Sequence[Bound]) -> str:
    if len(bounds) == 2:
        return f"{bounds[0].number:g} to {bounds[1].number:g}"
    return f"{'at least' if bounds[0].side == 'min' else 'at most'} {bounds[0].number:g}"


def _bad(found: Calibration) -> list[list[str]]:
    judgements = [found.judgement(version) for version in found.bad]
    rows = [["rule", *(version.label for version in found.bad)]]
    for place, proposal in enumerate(found.rules):
        said = [_SAID.get(each.findings[place].status, each.findings[place].status) for each in judgements]
        rows.append([proposal.candidate.rule.id, *said])
    return [*rows, ["the whole policy", *(each.verdict.status for each in judgements)]]


def _blind(found: Calibration) -> Iterator[str]:
    blind = [each.candidate.rule.id for each in found.rules if not any(each.caught)]
    if blind:
        yield f"tell none of the bad versions apart, and see what these do not have: {', '.join(blind)}"
    for place, version in enumerate(found.bad):
        if not any(proposal.caught[place] for proposal in found.rules):
            yield f"warning: no rule tells {version.uri} from the good versions"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
