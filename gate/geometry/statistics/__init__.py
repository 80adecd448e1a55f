"""What one pass over the feature rows keeps.

A statistic is a frozen value with `of(batch)` and `merge(other)`. Merging is associative and commutative up to
rounding, so that streaming, sharding and distribution give the same statistic.
"""

from gate.geometry.statistics.batch import Batch, Split, hash_numbers
from gate.geometry.statistics.cells import CellMoments
from gate.geometry.statistics.census import Fingerprints, ReferenceFingerprints, RowCensus
from gate.geometry.statistics.channels import Channels
from gate.geometry.statistics.classes import ClassMoments, UnitClassMoments
from gate.geometry.statistics.clusters import ClusterCounts
from gate.geometry.statistics.collection import Collection, Differentiable, Statistic
from gate.geometry.statistics.columns import COLUMNS, Codes, Column, hash_ids, items_of, output_names, read_columns
from gate.geometry.statistics.counts import GroupCounts, LabelCounts
from gate.geometry.statistics.folds import Axes, CategoryFolds, Centres, ClassFolds, MomentFolds, fold_count
from gate.geometry.statistics.latent import CodeCounts, LatentMoments, PosteriorVariances
from gate.geometry.statistics.layers import BeforeUnitMoments, LayerClasses, ShiftedMean
from gate.geometry.statistics.ledger import Ledger
from gate.geometry.statistics.lengths import LengthMoments
from gate.geometry.statistics.moments import Moments, UnitMoments
from gate.geometry.statistics.pairs import BaselineMoments, CrossMoments, FeatureMoments, PairMoments
from gate.geometry.statistics.reference import ReferenceClasses
from gate.geometry.statistics.sample import OodSample, ReferenceSample, Sample, ShiftedSample
from gate.geometry.statistics.spectrum import Spectrum, UncentredSpectrum, UnitSpectrum
from gate.geometry.statistics.steps import step_terms
from gate.geometry.statistics.tasks import (
    AttributeFolds,
    CellFolds,
    GroupFolds,
    PretextFolds,
    TargetFolds,
    TargetMoments,
    TaskFolds,
)
from gate.geometry.statistics.tokens import (
    TokenCentres,
    TokenMeans,
    attention_filter,
    dirichlet_energy,
    token_means,
    token_terms,
)
from gate.geometry.statistics.versions import BaselineClassFolds, CrossFolds, Versions
from gate.geometry.statistics.weights import Weights

__all__ = [
    "COLUMNS",
    "AttributeFolds",
    "Axes",
    "BaselineClassFolds",
    "BaselineMoments",
    "Batch",
    "BeforeUnitMoments",
    "CategoryFolds",
    "CellFolds",
    "CellMoments",
    "Centres",
    "Channels",
    "ClassFolds",
    "ClassMoments",
    "ClusterCounts",
    "CodeCounts",
    "Codes",
    "Collection",
    "Column",
    "CrossFolds",
    "CrossMoments",
    "Differentiable",
    "FeatureMoments",
    "Fingerprints",
    "GroupCounts",
    "GroupFolds",
    "LabelCounts",
    "LatentMoments",
    "LayerClasses",
    "Ledger",
    "LengthMoments",
    "MomentFolds",
    "Moments",
    "OodSample",
    "PairMoments",
    "PosteriorVariances",
    "PretextFolds",
    "ReferenceClasses",
    "ReferenceFingerprints",
    "ReferenceSample",
    "RowCensus",
    "Sample",
    "ShiftedMean",
    "ShiftedSample",
    "Spectrum",
    "Split",
    "Statistic",
    "TargetFolds",
    "TargetMoments",
    "TaskFolds",
    "TokenCentres",
    "TokenMeans",
    "UncentredSpectrum",
    "UnitClassMoments",
    "UnitMoments",
    "UnitSpectrum",
    "Versions",
    "Weights",
    "attention_filter",
    "dirichlet_energy",
    "fold_count",
    "hash_ids",
    "hash_numbers",
    "items_of",
    "output_names",
    "read_columns",
    "step_terms",
    "token_means",
    "token_terms",
]
