"""Precomputed vectors in the place of a model: those of the probe set itself, or of a file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import LayerError, ProbeError
from gate.inputs import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gate.features import LayerAddress
    from gate.inputs import Inputs
    from gate.models.finding import FoundModel
    from gate.probes.probe_set import ProbeBatch, ProbeSet

_VECTORS = "features"


def vectors(
    model: FoundModel, probe: ProbeSet, layers: Mapping[str, LayerAddress], device: str, size: int
) -> Iterator[tuple[ProbeBatch, dict[str, Tensor]]]:
    """Rows with their vectors, under the name of every layer.

    Args:
        model: The file; where it is that of the probe set, its inputs are the vectors.
        probe: Rows, in the order of the file.
        layers: Each `input` or `output`.
        device: Where the vectors go.
        size: Rows in each batch.

    Raises:
        LayerError: Another layer is asked for.
        ProbeError: The vectors are not one row for each row of the probe set, in its order.
    """
    import torch

    unknown = [address.path for address in layers.values() if address.path not in ("input", "output")]
    if unknown:
        raise LayerError(f"{model.uri} has no layer {unknown[0]!r}: precomputed vectors have only 'input' and 'output'")
    same = Path(probe.uri).resolve() == model.path.resolve()
    pairs = ((rows, rows.inputs) for rows in probe.batches(size)) if same else _beside(model, probe, size)
    for rows, values in pairs:
        if isinstance(values, tuple | Mapping) or values.ndim != 2:
            raise ProbeError(f"{model.uri}: precomputed vectors must be rows (n, d), found inputs {described(values)}")
        features = torch.tensor(values, device=device)
        yield rows, dict.fromkeys(layers, features)


def _beside(model: FoundModel, probe: ProbeSet, size: int) -> Iterator[tuple[ProbeBatch, Inputs]]:
    vectors = _vector_rows(model.path, probe)
    for rows, other in zip_longest(probe.batches(size), vectors.batches(size)):
        if rows is None or other is None or len(rows.ids) != len(other.ids):
            raise ProbeError(
                f"{model.uri} and the probe set {probe.uri} differ in their number of rows; give one vector a row"
            )
        if vectors.columns.id is not None and rows.ids != other.ids:
            first = next((a, b) for a, b in zip(rows.ids, other.ids, strict=True) if a != b)
            raise ProbeError(
                f"{model.uri}: the vector of id {first[1]!r} stands where the probe set {probe.uri} has {first[0]!r}; "
                "bring both into one order"
            )
        yield rows, other.inputs


def _vector_rows(path: Path, probe: ProbeSet) -> ProbeSet:
    """The file of vectors, in its column 'features' or under the names of the probe set's own input, never both.

    Where the probe set has ids, only a file of nothing but vectors is matched by the order of its rows.
    """
    from gate.probes.probe_set import Columns, open_probe
    from gate.probes.reading import open_table

    present = open_table(path).columns
    inputs, identifier = probe.columns.inputs, probe.columns.id
    own = all(name in present for name in inputs)
    if own and _VECTORS in present and _VECTORS not in inputs:
        raise ProbeError(
            f"{path}: holds both {_VECTORS!r} and what the probe set takes as its input ({', '.join(inputs)}), so that "
            "either could be the vectors; leave one of them out"
        )
    columns = Columns(input=probe.columns.input if own else _VECTORS, id=identifier if identifier in present else None)
    vectors = open_probe(str(path), columns=columns)
    if identifier is not None and columns.id is None and not set(present).issubset(columns.inputs):
        raise ProbeError(
            f"{path}: has no column {identifier!r}, the id of the probe set {probe.uri}, so rows cannot be matched; "
            f"there are: {', '.join(present)}; add the ids, or leave nothing but the vectors to match by order"
        )
    return vectors
