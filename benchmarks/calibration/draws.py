"""Many calibrations on versions that are measured once: how often the stated rate of false alarms is kept."""

from __future__ import annotations

import random
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from gate.calibration.choosing import chosen
from gate.calibration.levels import widest
from gate.calibration.outcome import Calibration
from gate.calibration.proposing import proposed
from gate.calibration.worthless import worthless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.calibration.asking import Asked
    from gate.calibration.measuring import Version
    from gate.calibration.worthless import Worthless

FALSE_ALARM = 0.05
ASSURANCE = 0.9


class Rates(NamedTuple):
    """What some calibrations came to.

    Attributes:
        versions: Good versions that each was made from.
        factor: Spreads from the mean.
        rules: On average.
        alarms: Rate of false alarms, mean over calibrations.
        kept: Share of the calibrations with at most the stated rate.
        missed: Share of the collapsed versions that passed.
    """

    versions: int
    factor: float
    rules: float
    alarms: float
    kept: float
    missed: float


def rates(asked: Asked, good: Sequence[Version], bad: Sequence[Version], versions: int, draws: int) -> Rates:
    """Calibrate on a few of the good versions, drawn at random, and judge the others and the bad ones, unknown to it.

    Args:
        asked: What was asked of all versions.
        good: The first one with its samples.
        bad: That should fail.
        versions: How many to calibrate on.
        draws: How often.
    """
    nothing = worthless(good[0].samples, [each.rule for each in asked.candidates])
    generator = random.Random(versions)  # noqa: S311 - a draw, no secret
    alarms, missed, rules, factor = [], [], [], 0.0
    for _ in range(draws):
        order = generator.sample(list(good), len(good))
        found = _calibration(asked, order[:versions], nothing)
        factor = found.shares.factor
        rules.append(len(found.rules))
        alarms.append(fmean(_status(found, version) != "passed" for version in order[versions:]))
        missed.append(fmean(_status(found, version) == "passed" for version in bad))
    kept = fmean(rate <= FALSE_ALARM for rate in alarms)
    return Rates(versions, factor, fmean(rules), fmean(alarms), kept, fmean(missed))


def _calibration(asked: Asked, good: Sequence[Version], nothing: Worthless) -> Calibration:
    proposals, left_out, shares = proposed(
        asked.candidates, good, (), nothing, false_alarm=FALSE_ALARM, assurance=ASSURANCE, level=widest(asked)
    )
    found = chosen(proposals)
    return Calibration(
        asked, tuple(good), (), tuple(found.rules), tuple(left_out), found.for_their_kind, shares, "draw"
    )


def _status(found: Calibration, version: Version) -> str:
    return found.judgement(version).verdict.status if found.rules else "passed"
