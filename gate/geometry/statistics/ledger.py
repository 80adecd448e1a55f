"""What a model says of every row, in a few numbers a row: the outputs themselves are never kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.columns import Codes

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

_TILE = 1 << 22  # numbers of a tile of outputs in float64
_CODES = ("labels", "groups", "cues", "attributes")
_OTHERS = ("baseline_logits", "view_logits", "history")  # further outputs, of which the prediction is kept
_Part = dict[str, Codes | Tensor]


def row_tiles(rows: int, width: int) -> list[slice]:
    """Slices over rows of some width that are small enough for float64."""
    step = max(1, _TILE // width)
    return [slice(start, start + step) for start in range(0, rows, step)]


@dataclass(frozen=True, eq=False)
class Ledger:
    """A line for every row: its hash, what is known of it and what the model says of it; 8 bytes a number.

    Attributes:
        names: C class names, of the columns of `logits`; "0" to "C-1" where the model does not name them.
        n: Rows.
        shares: (C,) float64, mean softmax over all rows.
        widths: Column of further outputs ("baseline_logits", "view_logits.left") → number of its classes.
        parts: The lines, in any order.
    """

    names: tuple[str, ...]
    n: int
    shares: Tensor
    widths: Mapping[str, int]
    parts: tuple[_Part, ...]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("logits",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no logits, or the names of the outputs do not fit them.
        """
        logits = batch.numbers("logits")
        names = _names(batch.outputs, logits.shape[1])
        others = {name: column for name, column in batch.columns.items() if name.partition(".")[0] in _OTHERS}
        outputs = {name: column for name, column in others.items() if isinstance(column, Tensor)}
        codes = {name: column for name, column in batch.columns.items() if name.partition(".")[0] in _CODES}
        labels = batch.codes("labels")
        own = None if labels is None else labels.among(names)
        part: _Part = {"hash": batch.hashes, "fold": batch.folds, **codes}
        shares, lines = _lines(logits, own, outputs.get("baseline_logits"))
        part.update(lines)
        part.update({name: _predictions(column) for name, column in outputs.items()})
        return cls(names, len(logits), shares, {name: column.shape[1] for name, column in outputs.items()}, (part,))

    def merge(self, other: Self) -> Self:
        """Of the rows of both.

        Raises:
            MetricError: The rows come with other classes or other columns.
        """
        if self.names != other.names or dict(self.widths) != dict(other.widths):
            raise MetricError(
                f"shape_mismatch: outputs of one model must have one order of classes, found {len(self.names)} classes "
                f"from {self.names[0]!r} and {len(other.names)} from {other.names[0]!r}, further outputs "
                f"{dict(self.widths)} and {dict(other.widths)}"
            )
        n = self.n + other.n
        shares = self.shares + (other.shares - self.shares) * (other.n / n)
        return type(self)(self.names, n, shares, self.widths, _stacked((*self.parts, *other.parts)))

    @property
    def c(self) -> int:
        """Classes that the model can name."""
        return len(self.names)

    @cached_property
    def _lines(self) -> _Part:
        """All lines in the order of their hashes, which is that of the sampled rows."""
        whole = reduce(_joined, self.parts)
        order = _tensor(whole, "hash").argsort()
        return {
            name: column.rows(order) if isinstance(column, Codes) else column[order] for name, column in whole.items()
        }

    def has(self, name: str) -> bool:
        """Whether the rows come with a column."""
        return name in self.parts[0]

    def numbers(self, name: str) -> Tensor:
        """A number of each row, (n,), in the order of the hashes.

        `prediction` (index of the class), `confidence` (largest probability), `margin` (how far the largest output lies
        above the next one, infinite for one class), `entropy` (nats), `fold`; with labels `nll` (nats); with outputs of
        a baseline `baseline_entropy` and, where it has the same classes, `divergence`, `square` and `cross_entropy`.

        Raises:
            MetricError: Some of the rows hold a NaN or an infinity, which no metric is defined on.
        """
        return _tensor(self._lines, name)

    def codes(self, name: str) -> Codes | None:
        """A categorical column, in the order of the hashes."""
        found = self._lines.get(name)
        return found if isinstance(found, Codes) else None

    def named(self, name: str) -> tuple[str, ...]:
        """The columns of a kind of several: "attributes" → "attributes.tone", ..."""
        return tuple(key for key in self.parts[0] if key.startswith(f"{name}."))

    @cached_property
    def labels(self) -> Tensor:
        """Index of the class of each row among the outputs, (n,).

        Raises:
            MetricError: No output stands for a label, or the rows have no labels.
        """
        codes = self.codes("labels")
        if codes is None:
            raise MetricError("these feature rows have no labels")
        found = codes.among(self.names)
        if bool((found < 0).any()):
            odd = [codes.names[code] for code in codes.values[found < 0].unique().tolist()]
            listed = ", ".join(map(repr, odd[:5]))
            raise MetricError(
                f"shape_mismatch: no output stands for {len(odd)} of the labels ({listed}); the {self.c} columns of "
                f"logits are {', '.join(map(repr, self.names[:5]))}{', ...' if self.c > 5 else ''}: name them by "
                "`outputs` in the order of the columns"
            )
        return found

    def predictions(self, name: str = "prediction") -> Tensor:
        """Index of the class that is predicted for each row, (n,), the first one of those that tie.

        Args:
            name: "prediction", or the column of other outputs: "baseline_logits", "view_logits.left", "history.first".

        Raises:
            MetricError: Some outputs are not finite.
        """
        found = self.numbers(name)
        bad = int((found < 0).sum())
        if bad:
            raise MetricError(
                f"nonfinite_rows: {bad} of {self.n} rows of {name} hold NaN or infinity; no metric is defined on them, "
                "mend the model or the probe set"
            )
        return found

    def right(self, name: str = "prediction") -> Tensor:
        """Whether the prediction is the label, (n,) float64."""
        return (self.predictions(name) == self.labels).double()

    def places(self, sample: Sample) -> Tensor:
        """Where the sampled rows stand in the ledger, (m,)."""
        return torch.searchsorted(self.numbers("hash"), sample.rows.hashes)


def _names(outputs: tuple[str, ...] | None, width: int) -> tuple[str, ...]:
    if outputs is None:
        return tuple(str(code) for code in range(width))
    if len(outputs) != width:
        raise MetricError(f"shape_mismatch: outputs name {len(outputs)} classes, logits have {width} columns")
    if len(set(outputs)) != width:
        twice = next(name for name in outputs if outputs.count(name) > 1)
        raise MetricError(f"shape_mismatch: outputs must be distinct, {twice!r} occurs more than once")
    return outputs


def _lines(logits: Tensor, labels: Tensor | None, baseline: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean softmax, and the numbers of each row, tile by tile in float64."""
    total = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device)
    tiles = []
    for rows in row_tiles(len(logits), logits.shape[1]):
        logs = logits[rows].double().log_softmax(dim=1)
        total += logs.exp().sum(dim=0)
        lines = {"prediction": logits[rows].argmax(dim=1), "margin": _margins(logits[rows])}
        lines |= {"confidence": logs.amax(dim=1).exp(), "entropy": torch.special.entr(logs.exp()).sum(dim=1)}
        if labels is not None:
            own = logs.gather(1, labels[rows].clamp_min(0)[:, None])[:, 0]
            lines["nll"] = torch.where(labels[rows] >= 0, -own, torch.nan)
        if baseline is not None:
            lines |= _against(logits[rows], logs, baseline[rows])
        tiles.append(lines)
    return total / max(len(logits), 1), {name: torch.cat([tile[name] for tile in tiles]) for name in tiles[0]}


def _margins(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return torch.full((len(logits),), torch.inf, dtype=torch.float64, device=logits.device)
    best = logits.double().topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def _against(logits: Tensor, logs: Tensor, baseline: Tensor) -> dict[str, Tensor]:
    """How far the outputs of the baseline are from those of the model, row by row."""
    earlier = baseline.double().log_softmax(dim=1)
    found = {"baseline_entropy": torch.special.entr(earlier.exp()).sum(dim=1)}
    if baseline.shape != logits.shape:
        return found
    gaps = torch.where(earlier.exp() > 0, earlier.exp() * (earlier - logs), 0.0)
    moved = logits.double() - baseline.double()
    moved = moved - moved.mean(dim=1, keepdim=True)
    mine = logs.gather(1, baseline.argmax(dim=1)[:, None])[:, 0]
    other = earlier.gather(1, logits.argmax(dim=1)[:, None])[:, 0]
    return found | {
        "divergence": gaps.sum(dim=1).clamp_min(0),
        "square": moved.square().sum(dim=1) / 2,
        "cross_entropy": -(mine + other) / 2,
    }


def _predictions(outputs: Tensor) -> Tensor:
    """Index of the largest output, -1 where one is not finite."""
    return torch.where(torch.isfinite(outputs).all(dim=1), outputs.argmax(dim=1), -1)


def _tensor(part: _Part, name: str) -> Tensor:
    column = part.get(name)
    if not isinstance(column, Tensor):
        raise MetricError(f"these feature rows have no {name}")
    return column


def _rows(part: _Part) -> int:
    return len(part["hash"])


def _stacked(parts: tuple[_Part, ...]) -> tuple[_Part, ...]:
    """Parts of which each is more than twice as long as the next: few of them, and no row is copied often."""
    stack: list[_Part] = []
    for part in sorted(parts, key=_rows, reverse=True):
        stack.append(part)
        while len(stack) > 1 and _rows(stack[-2]) <= 2 * _rows(stack[-1]):
            last = stack.pop()
            stack.append(_joined(stack.pop(), last))
    return tuple(stack)


def _joined(first: _Part, second: _Part) -> _Part:
    if first.keys() != second.keys():
        odd = ", ".join(sorted(first.keys() ^ second.keys()))
        raise MetricError(f"some rows have {odd} and others have none")
    whole: _Part = {}
    for name, column in first.items():
        more = second[name]
        if isinstance(column, Codes) and isinstance(more, Codes):
            whole[name] = column.join(more)
        elif isinstance(column, Tensor) and isinstance(more, Tensor):
            whole[name] = torch.cat([column, more])
    return whole
