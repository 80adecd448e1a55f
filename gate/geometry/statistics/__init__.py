"""What one pass over the feature rows keeps.

A statistic is a frozen value with `of(batch)` and `merge(other)`. Merging is associative and commutative up to
rounding, so that streaming, sharding and distribution give the same statistic.
"""

from gate.geometry.statistics.batch import Batch, Codes, hash_ids
from gate.geometry.statistics.census import Fingerprints, RowCensus
from gate.geometry.statistics.channels import Channels
from gate.geometry.statistics.classes import ClassMoments, UnitClassMoments
from gate.geometry.statistics.collection import Collection, Statistic
from gate.geometry.statistics.folds import ClassFolds, fold_count
from gate.geometry.statistics.moments import Moments, UnitMoments
from gate.geometry.statistics.sample import Sample

__all__ = [
    "Batch",
    "Channels",
    "ClassFolds",
    "ClassMoments",
    "Codes",
    "Collection",
    "Fingerprints",
    "Moments",
    "RowCensus",
    "Sample",
    "Statistic",
    "UnitClassMoments",
    "UnitMoments",
    "fold_count",
    "hash_ids",
]
