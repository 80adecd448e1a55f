"""Refusals that several metrics share: outside its valid domain a metric never answers with a number."""

from __future__ import annotations

import math

from gate.geometry.influence import Refusal
from gate.geometry.statistics import ClassMoments


def small_class(classes: ClassMoments, needed: int) -> Refusal | None:
    """The refusal when there is one class only, or a class has too few rows."""
    if classes.c < 2:
        return Refusal("inconclusive", f"small_class: all rows are of class {classes.names[0]!r}; it needs two classes")
    worst = int(classes.counts.argmin())
    found = int(classes.counts[worst])
    if found >= needed:
        return None
    reason = f"small_class: class {classes.names[worst]!r} has {found} rows; each class needs at least {needed}"
    return Refusal("inconclusive", reason, math.ceil(classes.n * needed / max(found, 1)))
