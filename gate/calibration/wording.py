"""Where the bounds come from, in sentences: for the head of the policy, beside each bound, and for the report."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING

from gate.calibration.tolerance import FEW, factor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gate.calibration.bounds import Bound
    from gate.calibration.outcome import Calibration
    from gate.calibration.proposing import Proposal, Shares

_LISTED = 10  # numbers in a comment
_WORTH_KNOWING = (5, 10, 20)  # good versions


def head(found: Calibration) -> Iterator[str]:
    """The lines at the top of the policy."""
    yield from warnings(found)
    yield f"Good: {', '.join(version.uri for version in found.good)}."
    if found.bad:
        yield f"Bad: {', '.join(version.uri for version in found.bad)}."
    if found.asked.like:
        yield f"The rules are those of {found.asked.like.policy.metadata.name} ({found.asked.like.path})."
    yield ""
    yield from _how(found)
    if found.left_out:
        yield ""
        yield "Left out:"
        yield from (f"- {each.candidate.rule.id}: {each.reason}" for each in found.left_out)
    if found.asked.like and found.asked.like.policy.waivers:
        yield "Its waivers were for other bounds, and are not here."


def _how(found: Calibration) -> Iterator[str]:
    shares = found.shares
    if len(found.good) > 1:
        yield (
            f"With an assurance of {100 * shares.assurance:.3g} %, another version of the same recipe does not pass in "
            f"at most {100 * shares.false_alarm:.3g} % of runs, all rules together; {shares.bounds} "
            f"bound{'s were' if shares.bounds > 1 else ' was'} considered."
        )
    yield (
        "A version passes with its whole interval inside. So what is bounded is the end of the interval: mean of these "
        f"ends over the good versions, {shares.factor:.3g} spreads away; rounded away from them."
    )
    yield "That holds for this probe set and this recipe. After a change of either, calibrate again."


def warnings(found: Calibration) -> Iterator[str]:
    """Why the evidence is too thin, where it is."""
    count = len(found.good)
    if count >= FEW:
        return
    if count == 1:
        yield (
            "TOO THIN: one good version. The bounds know the sampling error of the probe rows and nothing of the "
            "variation between trainings: expect them to block half of the other good versions, or more."
        )
    else:
        yield (
            f"TOO THIN: {count} good versions hardly tell how much good versions vary. The bounds lie "
            f"{found.shares.factor:.3g} spreads from the mean to allow for that, and let bad versions through."
        )
    yield f"Calibrate on {FEW} good versions or more: {_factors(found.shares)}."


def _factors(shares: Shares) -> str:
    parts = [
        f"{count} versions need {factor(count, shares.bounds, shares.false_alarm, shares.assurance):.2g} spreads"
        for count in _WORTH_KNOWING
    ]
    return f"at this rate {', '.join(parts)}"


def about_good(proposal: Proposal) -> str:
    """What the good versions measure."""
    values = [each.value for each in proposal.good]
    half = fmean((each.high - each.low) / 2 for each in proposal.good)
    if len(values) == 1:
        return f"good: {values[0]:.4g}, half-width {half:.2g}"
    return f"good: {_listed(values)}; mean {fmean(values):.4g}, spread {stdev(values):.2g}, half-width {half:.2g}"


def about_bound(bound: Bound) -> str:
    """How a bound follows from the ends of the intervals."""
    which, sign = ("lower", "-") if bound.side == "min" else ("upper", "+")
    instead = f" ({bound.why_spread})" if bound.why_spread else ""
    reached = f" reaches {bound.edge:.4g}" if bound.scale.formula else f" = {bound.edge:.4g}"
    scale = f" on {bound.scale.formula}" if bound.scale.formula else ""
    return f"{which} ends{scale}: {bound.centre:.4g} {sign} {bound.factor:.3g} x {bound.spread:.2g}{instead}{reached}"


def about_bad(found: Calibration, proposal: Proposal) -> str:
    """What the bad versions measure, and which of them it catches."""
    parts = []
    for version, estimate, caught in zip(found.bad, proposal.bad, proposal.caught, strict=True):
        value = "no answer" if estimate is None or estimate.value is None else f"{estimate.value:.4g}"
        parts.append(f"{value} ({version.label}, {'caught' if caught else 'not caught'})")
    kept = "; kept as the best of its kind" if proposal.candidate.rule.id in found.for_their_kind else ""
    return f"bad: {', '.join(parts)}{kept}"


def _listed(values: Sequence[float]) -> str:
    if len(values) > _LISTED:
        return f"{min(values):.4g} to {max(values):.4g} in {len(values)} versions"
    return ", ".join(f"{value:.4g}" for value in sorted(values))
