"""Which of the proposed rules the policy gets: few, unlike each other, and none that tells nothing apart."""

from __future__ import annotations

from statistics import correlation
from typing import TYPE_CHECKING, NamedTuple

from gate.calibration.proposing import LeftOut
from gate.calibration.tolerance import FEW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gate.calibration.proposing import Proposal

MOST_RULES = 15
MOST_OF_A_FAMILY = 2  # at one layer: more of them say nearly the same
_SAME = 0.999  # of a correlation
# No metric sees every failure; a policy has one rule of each kind where there is one.
KINDS = {
    "spectrum": ("spectral", "uniformity"),
    "anisotropy": ("hypersphere",),
    "units": ("outliers",),
    "labels": ("classes", "separation", "readout", "neighbours", "recalls", "retention"),
}


class Chosen(NamedTuple):
    """The rules of the policy, in its order, and those that it does not get."""

    rules: list[Proposal]
    left_out: list[LeftOut]
    for_their_kind: frozenset[str]  # ids of those that catch no bad version, and are the best of their kind


def family_of(proposal: Proposal) -> str:
    """Family of the metric."""
    from gate.geometry import catalogue

    return catalogue.load()[proposal.candidate.rule.metric.partition(".")[0]].family


def chosen(proposals: Sequence[Proposal], *, keep_blind: bool = False) -> Chosen:
    """At most fifteen rules: the best of every kind, then those that tell most apart.

    Where there are bad versions, rules that catch none of them are left out, unless they are the best of their kind.

    Args:
        proposals: In the order of the catalogue.
        keep_blind: Keeps rules that catch no bad version.
    """
    tried = any(proposal.caught for proposal in proposals)
    ranked = sorted(proposals, key=_telling, reverse=True)
    picked: list[Proposal] = []
    for families in KINDS.values():
        best = next((each for each in ranked if family_of(each) in families and each not in picked), None)
        picked += [best] if best else []
    for_their_kind = frozenset(each.candidate.rule.id for each in picked if tried and not any(each.caught))
    left_out: list[LeftOut] = []
    for proposal in ranked:
        if proposal in picked:
            continue
        if reason := _against(proposal, picked, blind=tried and not keep_blind):
            left_out.append(LeftOut(proposal.candidate, reason))
        else:
            picked.append(proposal)
    return Chosen(sorted(picked, key=_order(proposals)), left_out, for_their_kind)


def _telling(proposal: Proposal) -> tuple[int, int, float]:
    return sum(proposal.caught), len(proposal.worthless), proposal.separation


def _place(proposal: Proposal) -> tuple[str, str]:
    return proposal.candidate.rule.layer, family_of(proposal)


def _against(proposal: Proposal, picked: Sequence[Proposal], *, blind: bool) -> str | None:
    """What speaks against one rule more."""
    if blind and not any(proposal.caught):
        return "does not tell the bad versions apart"
    relatives = [each for each in picked if _place(each) == _place(proposal)]
    if twin := next((each for each in relatives if _says_the_same(each, proposal)), None):
        return f"says the same as {twin.candidate.rule.id}, in every good version"
    if len(relatives) >= MOST_OF_A_FAMILY:
        return f"two rules of its family, {family_of(proposal)}, tell more apart"
    return f"{MOST_RULES} rules tell more apart" if len(picked) >= MOST_RULES else None


def _says_the_same(one: Proposal, other: Proposal) -> bool:
    """Whether one is a function of the other, as far as enough good versions can show it."""
    values = [[reading.value for reading in each.good] for each in (one, other)]
    if len(values[0]) < FEW or any(len(set(each)) == 1 for each in values):
        return False
    return abs(correlation(*values)) > _SAME


def _order(proposals: Sequence[Proposal]) -> Callable[[Proposal], tuple[int, int]]:
    """As people read them: by family, and as they were proposed."""
    from gate.geometry import catalogue

    families = list(catalogue.families())
    return lambda proposal: (families.index(family_of(proposal)), proposals.index(proposal))
