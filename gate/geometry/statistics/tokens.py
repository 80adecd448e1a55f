"""Token states of each row, reduced to a few numbers: the states themselves are never kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split, per_live_row
from gate.geometry.statistics.classes import ClassMoments
from gate.geometry.statistics.columns import Codes

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

FEWEST = 4  # inputs with fewer tokens say nothing of how alike tokens are
TERMS = ("tokens", "cosine", "pairs09", "scatter", "power", "outputs", "output_cosine", "real")
_ENTRIES = 2**22  # numbers in one tile of states
_WITNESSES = 128  # tokens of an input whose pairs are counted one by one
_PARALLEL = 0.9


def token_terms(states: Tensor, mask: Tensor | None = None, outputs: Tensor | None = None) -> Tensor:
    """What metrics of tokens need of each row, in place of its token states.

    Tokens of length zero have no direction and are left out: they are dead where the mask calls them real. Rows with
    fewer than 4 live tokens hold zeros besides their counts, so that they can be skipped and counted; rows of which a
    real token is not finite hold NaN.

    Args:
        states: (n, T, d) token states of one layer.
        mask: (n, T) bool, True for a real token; all are real when None.
        outputs: (n, T) bool, True for a generated token.

    Returns:
        (n, 8) float64, the columns of `TERMS`: number of live tokens; mean cosine of two of them; share of pairs with a
        cosine above 0.9 (of all pairs up to 128 tokens, of 128 evenly spaced tokens beyond); sum of squares about the
        mean token; sum of squares; number of generated tokens; mean cosine of two of those; number of real tokens.

    Raises:
        MetricError: The states are not (n, T, d), or a mask is not (n, T).
    """
    if states.ndim != 3 or 0 in states.shape:
        raise MetricError(
            f"token states must be (n, T, d) with at least one of each, found shape {tuple(states.shape)}"
        )
    real = which_tokens("token_mask", mask, states)
    generated = torch.zeros_like(real) if outputs is None else which_tokens("token_outputs", outputs, states)
    at_once = max(1, _ENTRIES // (states.shape[1] * states.shape[2]))
    tiles = zip(states.split(at_once), real.split(at_once), generated.split(at_once), strict=True)
    return torch.cat([_tile_terms(*tile) for tile in tiles])


def token_means(states: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean real token of each row, (n, d); zeros where a row has none.

    Args:
        states: (n, T, d) token states of one layer.
        mask: (n, T) bool, True for a real token.

    Raises:
        MetricError: The mask is not (n, T).
    """
    real = which_tokens("token_mask", mask, states)
    at_once = max(1, _ENTRIES // (states.shape[1] * states.shape[2]))
    parts = []
    for tile, kept in zip(states.split(at_once), real.split(at_once), strict=True):
        wide = tile.double().masked_fill(~kept[:, :, None], 0.0)
        parts.append(wide.sum(dim=1) / kept.sum(dim=1, keepdim=True).clamp_min(1))
    return torch.cat(parts)


def dirichlet_energy(states: Tensor, edges: Tensor) -> Tensor:
    """Share of the states' energy that varies along the edges: tr(H^T L H) / tr(H^T H), L = D - A.

    Args:
        states: (n, T, d) node states of one layer.
        edges: (E, 2) int64, undirected edges between nodes, each once, the same in every row.

    Returns:
        (n,) float64, 0 where all nodes are alike; NaN for a row of zeros.
    """
    parts = []
    for row in states:
        nodes = row.double()
        energy = (nodes[edges[:, 0]] - nodes[edges[:, 1]]).square().sum()
        parts.append(energy / nodes.square().sum())
    return torch.stack(parts)


def attention_filter(attention: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much of what varies between tokens attention lets through: |(I - 1 1^T / T) A| (largest singular value).

    Args:
        attention: (n, H, T, T) attention maps of one layer, rows sum to 1.
        mask: (n, T) bool, True for a real token.

    Returns:
        (n,) float64, mean over the H heads; 0 for an attention that averages all tokens.
    """
    parts = []
    for row, maps in enumerate(attention):
        kept = slice(None) if mask is None else mask[row].nonzero()[:, 0]
        real = maps.double()[:, kept][:, :, kept]
        parts.append(torch.linalg.matrix_norm(real - real.mean(dim=1, keepdim=True), ord=2).mean())
    return torch.stack(parts)


def which_tokens(name: str, mask: Tensor | None, states: Tensor) -> Tensor:
    """A mask of tokens as (n, T) bool on the device of the states (n, T, d); all when None.

    Raises:
        MetricError: The mask is not (n, T).
    """
    if mask is None:
        return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    if mask.shape != states.shape[:2]:
        expected, found = tuple(states.shape[:2]), tuple(mask.shape)
        raise MetricError(f"{name} must have one entry for each token, {expected}, found {found}")
    return mask.to(states.device) != 0


def _tile_terms(states: Tensor, mask: Tensor, outputs: Tensor) -> Tensor:
    states = states.double().masked_fill(~mask[:, :, None], 0.0)
    broken = ~torch.isfinite(states).all(dim=2).all(dim=1)
    norms = states.norm(dim=2)
    real = mask & (norms != 0)  # the norm of a token that is not finite is not 0 either: it stays, and is refused later
    counts = real.sum(dim=1)
    units = states / torch.where(real, norms, 1.0)[:, :, None]
    means = states.sum(dim=1, keepdim=True) / counts.clamp_min(1)[:, None, None]
    scatter = (states - means).square().sum(dim=2).masked_fill(~real, 0.0).sum(dim=1)
    spoken = real & outputs
    columns = (
        _mean_cosine(units, real),
        _parallel_share(units, real),
        scatter,
        states.square().sum(dim=(1, 2)),
        spoken.sum(dim=1),
        _mean_cosine(units, spoken),
    )
    enough = torch.stack([counts >= FEWEST] * 5 + [spoken.sum(dim=1) >= FEWEST], dim=1)
    terms = torch.stack([column.double() for column in columns], dim=1).masked_fill(~enough, 0.0)
    terms.masked_fill_(broken[:, None], torch.nan)
    terms[:, 4] = columns[4]
    return torch.cat([counts.double()[:, None], terms, mask.sum(dim=1).double()[:, None]], dim=1)


def _mean_cosine(units: Tensor, kept: Tensor) -> Tensor:
    """(|sum of units|^2 - T) / (T (T - 1)), exactly the mean over pairs."""
    count = kept.sum(dim=1).double()
    total = units.masked_fill(~kept[:, :, None], 0.0).sum(dim=1).square().sum(dim=1)
    return (total - count) / (count * (count - 1)).clamp_min(1)


def _parallel_share(units: Tensor, real: Tensor) -> Tensor:
    counts = real.sum(dim=1)
    picked = counts.clamp_max(_WITNESSES)
    place = torch.arange(int(picked.max()), device=units.device)
    order = (~real).byte().argsort(dim=1, stable=True)
    where = (place * counts[:, None] // picked.clamp_min(1)[:, None]).clamp_max(units.shape[1] - 1)
    tokens = units.gather(1, order.gather(1, where)[:, :, None].expand(-1, -1, units.shape[2]))
    parallel = tokens @ tokens.transpose(1, 2) > _PARALLEL
    both = (place < picked[:, None])[:, :, None] & (place < picked[:, None])[:, None, :]
    pairs = (parallel & both).triu(1).sum(dim=(1, 2)).double()
    return pairs / (picked * (picked - 1) / 2).clamp_min(1)


QUANTITIES = ("cosine", "pairs09", "diversity", "variance", "mean_noise", "output_cosine")


def token_quantities(terms: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers (n, 6) that are averaged over rows, in the order of `QUANTITIES`, and which of them exist, (n, 6).

    Diversity is |Z - 1 z^T|_F / |Z|_F for the tokens Z of a row and their mean z; variance is that of a token about its
    row's mean, unbiased; mean_noise is what this adds to the squared length of the mean.
    """
    count, cosine, pairs, scatter, power, outputs, spoken = terms[:, :7].double().unbind(dim=1)
    variance = scatter / (count - 1).clamp_min(1)
    diversity = (scatter / torch.where(power == 0, 1.0, power)).sqrt()
    values = torch.stack([cosine, pairs, diversity, variance, variance / count.clamp_min(1), spoken], dim=1)
    exists = torch.stack([count >= FEWEST] * 5 + [outputs >= FEWEST], dim=1)
    return values, exists


def dead_tokens(terms: Tensor) -> Tensor:
    """Sums over rows (4,) int64: real tokens; dead ones; inputs with 4 real tokens; those of them without 4 live ones.

    A dead token is real and zero. Padding is neither.
    """
    live, real = terms[:, 0], terms[:, TERMS.index("real")]
    long = real >= FEWEST
    sums = (real.sum(), (real - live).sum(), long.sum(), (long & (live < FEWEST)).sum())
    return torch.stack([each.to(torch.int64) for each in sums])


@dataclass(frozen=True, eq=False)
class TokenMeans:
    """Means over rows of what their tokens are like, layer by layer.

    Attributes:
        layers: L names, from shallow to deep.
        n: Rows.
        counts: (L, 6) int64, rows that have each of `QUANTITIES`.
        means: (L, 6) float64.
        dead: (L, 4) int64, `dead_tokens`.
    """

    layers: tuple[str, ...]
    n: int
    counts: Tensor
    means: Tensor
    dead: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    leaves: ClassVar[tuple[str, ...]] = ("means",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        layers = tuple(batch.named("tokens"))
        terms = [batch.numbers(f"tokens.{layer}") for layer in layers]
        found = [token_quantities(each) for each in terms]
        counts = torch.stack([exists.sum(dim=0) for _, exists in found])
        sums = torch.stack([values.masked_fill(~exists, 0.0).sum(dim=0) for values, exists in found])
        dead = torch.stack([dead_tokens(each) for each in terms])
        return cls(layers, len(batch.ids), counts, sums / counts.clamp_min(1), dead)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        counts = self.counts + other.counts
        weight = other.counts.double() / counts.clamp_min(1)
        means = self.means + (other.means - self.means) * weight
        return type(self)(self.layers, self.n + other.n, counts, means, self.dead + other.dead)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the means with this gradient, (m,) float64."""
        total = torch.zeros(sample.m, dtype=torch.float64, device=self.means.device)
        for slopes, means, layer in zip(gradient["means"], self.means, self.layers, strict=True):
            values, exists = token_quantities(sample.rows.numbers(f"tokens.{layer}"))
            for column in slopes.nonzero()[:, 0].tolist():
                moved = (values[:, column] - means[column]) * slopes[column]
                total += per_live_row(moved, exists[:, column])
        return total


class TokenCentres(ClassMoments):
    """Mean and spread of the mean tokens of the rows with at least 4 tokens at the last layer, as one class."""

    needs: ClassVar[tuple[str, ...]] = ("token_mean", "tokens")
    column: ClassVar[str] = "token_mean"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        rows = batch.numbers(cls.column)[_long_enough(batch)]
        return cls.of_rows(rows, _one_class(rows))

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `ClassMoments`, over the rows with enough tokens."""
        return per_live_row(super().influence(gradient, sample), _long_enough(sample.rows))

    def _sampled(self, sample: Sample) -> tuple[Tensor, Tensor]:
        rows = sample.rows.numbers(self.column)
        return rows, _one_class(rows).values


def _one_class(rows: Tensor) -> Codes:
    return Codes(("inputs",), torch.zeros(len(rows), dtype=torch.int64, device=rows.device))


def _long_enough(batch: Batch) -> Tensor:
    """Rows with at least 4 tokens at the last layer, (n,) bool."""
    last = list(batch.named("tokens").values())[-1]
    counts = last[:, 0] if isinstance(last, Tensor) else torch.zeros(len(batch.ids))
    return counts >= FEWEST
