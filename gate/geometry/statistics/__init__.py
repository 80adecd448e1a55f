"""What one pass over the feature rows keeps.

A statistic is a frozen value with `of(batch)` and `merge(other)`. Merging is associative and commutative up to
rounding, so that streaming, sharding and distribution give the same statistic.
"""

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.census import Fingerprints, ReferenceFingerprints, RowCensus
from gate.geometry.statistics.channels import Channels
from gate.geometry.statistics.classes import ClassMoments, UnitClassMoments
from gate.geometry.statistics.collection import Collection, Statistic
from gate.geometry.statistics.columns import COLUMNS, Codes, Column, hash_ids, items_of, read_columns
from gate.geometry.statistics.folds import ClassFolds, fold_count
from gate.geometry.statistics.moments import Moments, UnitMoments
from gate.geometry.statistics.sample import OodSample, ReferenceSample, Sample
from gate.geometry.statistics.spectrum import Spectrum, UncentredSpectrum, UnitSpectrum

__all__ = [
    "COLUMNS",
    "Batch",
    "Channels",
    "ClassFolds",
    "ClassMoments",
    "Codes",
    "Collection",
    "Column",
    "Fingerprints",
    "Moments",
    "OodSample",
    "ReferenceFingerprints",
    "ReferenceSample",
    "RowCensus",
    "Sample",
    "Spectrum",
    "Split",
    "Statistic",
    "UncentredSpectrum",
    "UnitClassMoments",
    "UnitMoments",
    "UnitSpectrum",
    "fold_count",
    "hash_ids",
    "items_of",
    "read_columns",
]
