"""What chance adds to the signal of classes along whitened directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from gate.geometry.methods.mean_noise import MeanNoise
from gate.geometry.statistics import ClassMoments, ClusterCounts, Sample


@dataclass(frozen=True)
class Chance:
    """What chance adds to a signal share s of the largest one: means (1 - s)^2 + inverse s (1 - s). Derived here.

    Attributes:
        means: By errors of the class means, in directions without signal.
        inverse: By errors of the total covariance, whose inverse weights the signal.
    """

    means: float
    inverse: float

    @classmethod
    def of(cls, classes: ClassMoments, sample: Sample, clusters: ClusterCounts | None, single: float) -> Self:
        """For rows that would bring `single` of both, were they independent."""
        if clusters is None:
            return cls(single, single)
        noise = MeanNoise.of(classes, sample, clusters)
        alone = (1 - classes.shares) @ (classes.within + noise.own) / classes.n
        effect = (noise.between(classes.shares) / alone.clamp_min(1e-300)).clamp_min(1).item()
        rows = classes.n * clusters.overall()  # of the cluster of an average row
        return cls(single * effect, single * max(1.0, 1 + noise.correlation**2 * (rows - 1)))

    def removed(self, found: float) -> tuple[float, float]:
        """The signal share without chance, and how fast it moves with the one that was found."""
        square, linear = self.means - self.inverse, 1 - 2 * self.means + self.inverse
        root = math.sqrt(max(linear**2 - 4 * square * (self.means - found), 0.0))
        return 2 * (found - self.means) / (linear + root), 1 / max(root, 1e-9)
