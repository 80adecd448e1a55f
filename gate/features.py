"""Features of named layers of any program: pooled, one row per sample, in the order in which the samples came."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from gate.errors import LayerError, ModelError
from gate.geometry.statistics import step_terms
from gate.inputs import count, take
from gate.pooling import Pooling, only_tensor, rows_of, structure
from gate.program import BUILT_IN, MOST_WIDE

if TYPE_CHECKING:
    from gate.inputs import Inputs
    from gate.program import Outputs, Program

_NEAREST = 8
_DEFAULT = "layer 'output' (all that the model gives, which rules without a `layer` are about)"
_SINGLE = 2.0**-20  # a unit of rounding above it is that of half precision


@dataclass(frozen=True)
class LayerAddress:
    """Where features are taken, and how each sample becomes one row.

    Attributes:
        path: What the program calls the layer, or "input" or "output" of the whole model; "output.KEY" is one of
            several outputs.
        pooling: "none" for outputs (b, d); "mean", "cls", "last", "max" over the real tokens of (b, t, d);
            "spatial_mean" over all dimensions after 1 of (b, c, ...); "flatten" makes (b, ...) one row each. What
            metrics of tokens read: "token_terms" (with those of the steps between layers: "token_steps") and
            "token_mean" of (b, t, d), "attention_filter" of maps (b, h, t, t).
    """

    path: str
    pooling: Pooling = "none"


class Extractor:
    """Runs a program on batches and returns the features of the layers that were asked for.

    A context manager. A block that ends without an error ends with the first batch once more, and raises LayerError
    when its features are no longer what they were.

    Args:
        program: In memory.
        layers: Name → address; the names are the keys of what a call returns.
        batch_size: Rows that the program is shown at once; "auto" takes what the program proposes, and half of it as
            often as memory runs out. A program that takes one number of rows alone gets that.
        weights: Name → path, of the linear layers whose weights are wanted ("head").

    Raises:
        LayerError: One of them has no weights.
    """

    def __init__(
        self,
        program: Program,
        layers: Mapping[str, LayerAddress],
        *,
        batch_size: int | Literal["auto"] = "auto",
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self._program = program
        self._layers = dict(layers)
        self._may_halve = batch_size == "auto" and program.batch_size is None
        self._size = program.batch_size or (program.at_once if batch_size == "auto" else int(batch_size))
        self._widths: dict[str, torch.Size] = {}
        self._first: tuple[Inputs, dict[str, Tensor]] | None = None
        self.weights: Mapping[str, Tensor] = {
            tensor: found[part]
            for name, path in (weights or {}).items()
            for found in (program.weights_of(path),)
            for tensor, part in tensors_of(name).items()
            if part in found
        }
        paths = dict.fromkeys(_place(address.path) for address in self._layers.values())
        self._paths = tuple(paths)
        self._unknown = tuple(path for path in paths if path not in (*program.layers, *BUILT_IN))

    @property
    def layers(self) -> list[str]:
        """The names of the layers that the program has, and "output"."""
        return [*self._program.layers, "output"]

    def described(self, inputs: Inputs) -> dict[str, Any]:
        """What the program says of its layers when it is shown some rows, as many as it takes at once.

        Returns:
            `layers`, path → the shape of its output, with the parts of the whole output ("output.KEY"); `rows`, that it
            was shown; `closed`, why "output" is the only one, empty where it is not.

        Raises:
            ModelError: The model does not run on these inputs.
        """
        shown = self._filled(inputs, range(min(self._size, count(inputs))))
        given = self._program.run(shown, ("output",)).given["output"]
        # What is called "output.KEY" is a part of the output, even where a module has that name.
        shapes = {path: gives for path, gives in self._program.shapes(shown).items() if _place(path) == path}
        parts = {
            f"output.{name}": structure(part)
            for name, part in _named(given[0]).items()
            if isinstance(part, Tensor | Mapping | tuple | list)
        }
        return {"layers": {**shapes, **parts}, "rows": count(shown), "closed": self._program.closed}

    @property
    def facts(self) -> dict[str, object]:
        """How the program was run, for the evidence."""
        return {"batch_size": self._size}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._first is not None:
            batch, features = self._first
            again = "the first batch, run again after the last one,"
            self._require_same(self._features(batch), features, features, again)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Features of some rows. Of the first ones, features that are no property of a row alone are refused.

        Args:
            inputs: Of b rows, b >= 1.

        Returns:
            Name → (b, d) in the dtype of the layer's output; integers become float32.

        Raises:
            LayerError: A layer does not exist, does not run exactly once, gives no tensor or an ambiguous one, needs
                another pooling, gives rows of another width than before, or other features for the same rows.
            ModelError: The model does not run on these inputs, or not within the memory that there is.
        """
        if self._unknown:
            raise self._no_such_layer(inputs)
        features = self._features(inputs)
        if self._first is None:
            # As many rows as the program is shown at once: more would say nothing more of what is asked here.
            rows = range(min(self._size, count(inputs)))
            first = take(inputs, rows)
            self._require_repeatable(first, {name: each[: len(rows)] for name, each in features.items()})
            self._first = first, {name: each[: len(rows)].clone() for name, each in features.items()}
        return features

    def _features(self, inputs: Inputs) -> dict[str, Tensor]:
        order, start = _by_length(inputs), 0
        parts: list[dict[str, Tensor]] = []
        while start < len(order):
            rows = order[start : start + self._size]
            try:
                parts.append(self._chunk(inputs, rows))
            except MemoryError as error:
                self._halve(error)
            else:
                start += len(rows)
        back = torch.tensor(order).argsort()
        return {name: torch.cat([part[name] for part in parts])[back] for name in self._layers}

    def _halve(self, error: MemoryError) -> None:
        if not self._may_halve or self._size == 1:
            advice = "leave run.batch_size out, or lower it" if self._size > 1 else "give it more memory (run.memory)"
            raise ModelError(
                f"the model ran out of memory with {self._size} row{'s' * (self._size > 1)} at once ({error}); {advice}"
            )
        self._size //= 2

    def _chunk(self, inputs: Inputs, rows: Sequence[int]) -> dict[str, Tensor]:
        """Some of the rows in one forward pass."""
        shown = self._filled(inputs, rows)
        outputs = self._program.run(shown, self._paths)
        found = {name: self._rows(name, each, outputs, count(shown)) for name, each in self._layers.items()}
        return {name: each[: len(rows)].clone() for name, each in self._with_steps(found, outputs, len(rows)).items()}

    def _filled(self, inputs: Inputs, rows: Sequence[int]) -> Inputs:
        """Some of the rows; where the program wants more, the last one fills them up."""
        missing = (self._program.batch_size or len(rows)) - len(rows)
        return take(inputs, [*rows, *[rows[-1]] * missing])

    def _rows(self, name: str, address: LayerAddress, outputs: Outputs, rows: int) -> Tensor:
        where = f"layer {name!r} (path {address.path!r})" if name != "output" else _DEFAULT
        found = rows_of(
            _given(outputs, address.path, where), address.pooling, count=rows, where=where, mask=outputs.mask
        )
        if found.shape[1] > MOST_WIDE:
            raise LayerError(
                f"{where}: gave {found.shape[1]} values a row, and covariances of more than {MOST_WIDE} fit into no "
                "memory; name a pooling or a later layer"
            )
        first = self._widths.setdefault(name, found.shape)
        if found.shape[1:] != first[1:]:
            raise LayerError(
                f"{where}: gave features of shape {tuple(found.shape)} after features of shape {tuple(first)}; "
                "every row needs as many values, so name a layer or a pooling whose width does not change"
            )
        return found

    def _with_steps(self, found: Mapping[str, Tensor], outputs: Outputs, rows: int) -> Mapping[str, Tensor]:
        """The terms of tokens with those of the steps from each layer to the next."""
        states = {
            name: only_tensor(_given(outputs, each.path, name), name)
            for name, each in self._layers.items()
            if each.pooling == "token_steps"
        }
        if len(states) < 2:
            return found
        steps = step_terms(
            {name: each[:rows] for name, each in states.items()}, None if outputs.mask is None else outputs.mask[:rows]
        )
        return {**found, **{name: torch.cat([found[name][:rows], each], dim=1) for name, each in steps.items()}}

    def _require_repeatable(self, batch: Inputs, features: dict[str, Tensor]) -> None:
        """Features are those of a row alone, as far as these rows show: chance, neighbours and place do not count.

        A model that knows the rows that it is tested by can give others later; no look from outside excludes that.
        """
        self._require_same(self._features(batch), features, features, "a second pass over the same batch")
        # Half of what the model runs at once: where it takes full batches only, the other rows become padding.
        rows = count(batch)
        half = (rows + 1) // 2
        for which, some in (("first", range(half - 1, -1, -1)), ("last", range(rows - 1, half - 1, -1))):
            if some:
                what = f"the {which} {len(some)} of {rows} rows on their own, in reversed order,"
                self._require_same(self._features(take(batch, some)), _rows(features, some), features, what)
        alone = dict.fromkeys((0, rows // 2, rows - 1)) if self._program.batch_size is None and rows > 1 else ()
        for row in alone:  # as most models serve
            if (found := self._alone(take(batch, (row,)))) is not None:
                self._require_same(found, _rows(features, (row,)), features, "a row on its own")

    def _alone(self, row: Inputs) -> dict[str, Tensor] | None:
        """Features of one row; None where the model takes no row alone, which it then does not serve either."""
        with suppress(ModelError, LayerError):
            return self._features(row)
        return None

    def _require_same(
        self, found: dict[str, Tensor], expected: dict[str, Tensor], whole: dict[str, Tensor], what: str
    ) -> None:
        for name, each in found.items():
            different = _different(expected[name], each, whole[name], self._program.rounding)
            if different:
                raise LayerError(
                    f"layer {name!r} (path {self._layers[name].path!r}): {what} gave other features than before, in "
                    f"{different} of {each.numel()} values (exported in training mode, or dropout left on? state that "
                    "changes between calls? normalisation over the batch?); features must depend on their row alone: "
                    "call model.eval(), take such state or normalisation out, and log the model again"
                )

    def _no_such_layer(self, inputs: Inputs) -> LayerError:
        wanted = self._unknown[0]
        name = next(name for name, address in self._layers.items() if _place(address.path) == wanted)
        if self._program.closed:
            return LayerError(
                f"layer {name!r}: the model has no layer {wanted!r}: {self._program.closed}; name 'output'"
            )
        shapes = self._program.shapes(self._filled(inputs, range(min(self._size, count(inputs)))))
        nearest = difflib.get_close_matches(wanted, shapes, n=_NEAREST, cutoff=0.0)
        listed = ", ".join(f"{path!r} {shapes[path]}" for path in nearest)
        return LayerError(
            f"layer {name!r}: the model has no layer {wanted!r}; the nearest of its {len(shapes)} layers, with the "
            f"shapes of their outputs, are: {listed}; `gate layers` lists them all"
        )


def tensors_of(name: str) -> dict[str, str]:
    """What metrics call the weights of a layer → which they are: a head may have a bias, a codebook is its weight."""
    return {name: "weight"} if name == "codebook" else {f"{name}.weight": "weight", f"{name}.bias": "bias"}


def _rows(features: Mapping[str, Tensor], some: Sequence[int]) -> dict[str, Tensor]:
    return {name: each[list(some)] for name, each in features.items()}


def _place(path: str) -> str:
    """The layer of a path: "output.KEY" is of the output."""
    return "output" if path.startswith("output.") else path


def _given(outputs: Outputs, path: str, where: str) -> object:
    """What a layer gave, or one of several outputs of the model."""
    given = outputs.given.get(_place(path), ())
    if len(given) != 1:
        if path == "input":
            raise LayerError(f"{where}: the model is shown no single array of numbers; name a layer or 'output'")
        raise LayerError(
            f"{where}: ran {len(given)} times in one forward pass, expected once; name a layer around it or 'output'"
        )
    key = path.removeprefix(_place(path)).removeprefix(".")
    whole = given[0]
    if not key:
        return whole
    found = _named(whole)
    if key not in found:
        raise LayerError(f"{where}: the output of the model is {structure(whole)}, which has no {key!r}")
    return found[key]


def _named(whole: object) -> dict[str, object]:
    """The parts of a structure by their names, or by their places from 0."""
    named = whole if isinstance(whole, Mapping) else dict(enumerate(whole)) if isinstance(whole, tuple | list) else {}
    return {str(name): each for name, each in named.items()}


def _by_length(inputs: Inputs) -> Sequence[int]:
    """Rows from the longest text to the shortest, so that little is padded and memory runs out at once if ever."""
    texts = next(iter(inputs.values())) if isinstance(inputs, Mapping) and inputs else inputs
    if isinstance(texts, tuple) and texts and isinstance(texts[0], str):
        return sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    return range(count(inputs))


def _different(expected: Tensor, found: Tensor, whole: Tensor, unit: float) -> int:
    """How many values differ by more than the order of summation explains, for a unit of rounding.

    Measured by the spread over the rows of the whole batch, never by the values: beside a large offset, a change as
    large as the spread is small. The values count only for the rounding of their own channel. A feature that is NaN
    twice is the statistics' affair.
    """
    values = whole.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    spread = values.std(dim=0, correction=0)
    own = torch.finfo(whole.dtype).eps if whole.is_floating_point() else 0.0
    rounding = max(1e-5, 4 * own, 8 * unit) * values.abs().amax(dim=0)
    # The median: a channel that hardly varies beside the others carries their rounding, and few huge ones hide nothing.
    allowed = max(1e-3, 16 * unit) * torch.maximum(spread, spread.median()) + rounding
    if unit > _SINGLE and bool((rounding > spread / 2).all()) and bool((spread > 0).any()):
        raise LayerError(
            "in this precision its features cannot be told from rounding: their spread over the rows is about "
            f"{float(spread.median()):.3g}, and their values reach {float(values.abs().max()):.3g}; compute in float32"
        )
    first, second = expected.double(), found.double()
    same = (first == second) | (first.isnan() & second.isnan()) | ((first - second).abs() <= allowed)
    return int((~same).sum())
