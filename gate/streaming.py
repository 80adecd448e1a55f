"""The rows of a probe set on their way through one model or two: batches of features, one pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gate.errors import LayerError, ModelError, ProbeError, UsageError
from gate.models.loading import LoadedModel
from gate.questions import Part

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gate.features import LayerAddress
    from gate.geometry.statistics import Batch
    from gate.models.baseline import Absent
    from gate.policy.schema import Probe, Run
    from gate.probes.probe_set import ProbeBatch, ProbeSet
    from gate.questions import By, Plan

Features = Iterator[tuple["ProbeBatch", dict[str, "Tensor"]]]
MOST_SLICES = 200  # of one layer: each keeps statistics of its own
_MODEL_ROWS = 256
_VECTOR_ROWS = 4096
_VECTORS = "features"
_READ = "@"  # before the name of what is read besides features: no layer is called so


def open_rows(spec: Probe, tags: tuple[str, ...] = ()) -> ProbeSet:
    """The probe set that a policy or a probe spec describes, with further columns to cut it by.

    Raises:
        ProbeError: It cannot be read, or lacks a column.
    """
    from gate.probes.probe_set import Columns, open_probe

    return open_probe(spec.uri, columns=Columns(**spec.columns.model_dump(), tags=tags), shape=spec.shape)


def batches(
    candidate: LoadedModel,
    baseline: LoadedModel | Absent,
    probe: ProbeSet,
    plan: Plan,
    *,
    device: str,
    run: Run,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[dict[Part, Batch]]:
    """Part → feature rows, batch by batch: every layer of the candidate and the baseline, and the slices of both.

    Args:
        candidate: Loaded, or precomputed vectors.
        baseline: What it is compared with on the same rows, if anything.
        probe: Rows with ids.
        plan: Where to read what.
        device: Where the models run and statistics are computed.
        run: Batch size, and the seed of the hash that picks sampled rows.
        on_progress: Called with the number of rows done so far.

    Raises:
        GateError: A model, a layer or a row of the probe set is refused.
    """
    reads = {f"{_READ}{name}": address for name, address in plan.reads.items()}
    size = run.batch_size if isinstance(run.batch_size, int) else _rows_at_once(candidate, baseline)
    mine = _features(candidate, probe, {**plan.layers, **reads}, device, size)
    theirs: Iterator[Any] = repeat((None, {}))
    if isinstance(baseline, LoadedModel):
        own = {name: each for name, each in reads.items() if name == f"{_READ}logits"}
        theirs = _features(baseline, probe, {**plan.baseline_layers, **own}, device, size)
    classes = plan.classes or None
    done, seen = 0, set[Part]()
    for (rows, features), (_, earlier) in zip(mine, theirs, strict=False):
        if classes is None and f"{_READ}logits" in features:
            classes = _classes(probe, features[f"{_READ}logits"].shape[1], size)
        parts = _parts(rows, features, earlier, plan, {"outputs": classes, "seed": run.seed})
        seen |= parts.keys()
        _require_few_slices(seen)
        yield parts
        done += len(rows.ids)
        if on_progress is not None:
            on_progress(done)
    for _ in theirs if isinstance(baseline, LoadedModel) else ():  # its pass ends as well, with the checks at its end
        raise ProbeError(f"{probe.uri}: the baseline has more rows than the candidate")


def _rows_at_once(*models: LoadedModel | Absent) -> int:
    runs = any(isinstance(model, LoadedModel) and model.module is not None for model in models)
    return _MODEL_ROWS if runs else _VECTOR_ROWS


def _classes(probe: ProbeSet, width: int, size: int) -> tuple[str, ...]:
    """What the columns of logits stand for, by the labels of the probe set."""
    from gate.geometry.statistics import Codes, output_names

    labels = sorted(probe.read_labels(size))
    return output_names(width, Codes.of(labels) if labels else None)


def _parts(
    rows: ProbeBatch,
    features: Mapping[str, Tensor],
    earlier: Mapping[str, Tensor],
    plan: Plan,
    about: Mapping[str, Any],
) -> dict[Part, Batch]:
    known = _known(rows)
    read = {name.removeprefix(_READ): each for name, each in features.items() if name.startswith(_READ)}
    logits = earlier.get(f"{_READ}logits")
    found: dict[Part, Batch] = {}
    for layer in plan.layers:
        columns = {**known, **read, "baseline": earlier.get(layer), "baseline_logits": logits}
        found[Part(layer)] = _batch(features[layer], columns, about)
        if layer in earlier:
            found[Part(layer, "baseline")] = _batch(earlier[layer], {**known, "logits": logits}, about)
    for part, batch in list(found.items()):
        for by in plan.cuts.get(part.layer, ()):
            found |= _cut(part, batch, rows, by)
    return found


def _known(rows: ProbeBatch) -> dict[str, Any]:
    import torch

    return {
        "ids": rows.ids,
        "labels": rows.labels,
        "groups": rows.groups,
        "lengths": rows.lengths,
        "clusters": rows.clusters,
        "sublabels": rows.sublabels,
        "targets": rows.targets,
        "fingerprints": torch.tensor(rows.fingerprints),
    }


def _batch(features: Tensor, columns: Mapping[str, Any], about: Mapping[str, Any]) -> Batch:
    from gate.geometry.statistics import Batch

    return Batch.of(features, **columns, **about)


def _cut(part: Part, batch: Batch, rows: ProbeBatch, by: By) -> dict[Part, Batch]:
    """The rows of each slice."""
    import torch

    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, values in enumerate(zip(*(rows.tags[column] for column in by), strict=True)):
        places[values].append(place)
    return {
        part._replace(slice=tuple(zip(by, values, strict=True))): batch.rows(torch.tensor(found))
        for values, found in places.items()
    }


def _require_few_slices(parts: Iterable[Part]) -> None:
    """Refuses a probe set that is cut into more slices than can be judged."""
    found = Counter((part.layer, tuple(column for column, _ in part.slice)) for part in parts if part.of == "candidate")
    for (_, by), count in found.items():
        if count > MOST_SLICES:
            raise ProbeError(
                f"{', '.join(by)} cuts the probe set into more than {MOST_SLICES} slices; "
                "cut it by a column of fewer values"
            )


def _features(
    model: LoadedModel, probe: ProbeSet, layers: Mapping[str, LayerAddress], device: str, size: int
) -> Features:
    return (_vectors if model.module is None else _forward)(model, probe, layers, device, size)


def _forward(
    model: LoadedModel, probe: ProbeSet, layers: Mapping[str, LayerAddress], device: str, size: int
) -> Features:
    from gate.features import Extractor

    if model.module is None:
        raise ModelError(f"{model.uri}: there is no model to run")
    with Extractor(
        model.module, layers, device=device, batch_size=model.batch_size, input_dtype=model.input_dtype
    ) as extract:
        for rows in probe.batches(size):
            yield rows, extract(rows.inputs)


def _vectors(
    model: LoadedModel, probe: ProbeSet, layers: Mapping[str, LayerAddress], device: str, size: int
) -> Features:
    """Precomputed vectors: those of the probe set itself, or of a file whose rows stand in the probe set's order."""
    import torch

    unknown = [address.path for address in layers.values() if address.path not in ("input", "output")]
    if unknown:
        raise LayerError(f"{model.uri} has no layer {unknown[0]!r}: precomputed vectors have only 'input' and 'output'")
    same = Path(probe.uri).resolve() == model.path.resolve()
    pairs = ((rows, rows.inputs) for rows in probe.batches(size)) if same else _beside(model, probe, size)
    for rows, values in pairs:
        if values.ndim != 2:
            raise ProbeError(
                f"{model.uri}: precomputed vectors must be rows (n, d), found inputs of shape {values.shape[1:]}"
            )
        features = torch.tensor(values, device=device)
        yield rows, dict.fromkeys(layers, features)


def _beside(model: LoadedModel, probe: ProbeSet, size: int) -> Iterator[tuple[ProbeBatch, np.ndarray[Any, Any]]]:
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


def resolved_probe(block: Probe | None, override: str | None) -> Probe:
    """The probe that counts: the policy's, with what `--probe` says instead; a digest that the policy pins stays.

    Raises:
        UsageError: Neither names a probe set.
        PolicyError: The override is a probe spec with faults.
    """
    from gate.policy.loading import load_probe_spec

    if override is None:
        if block is None:
            raise UsageError(
                "the policy has no `probe:` block and no --probe was given; name a probe set in one of them"
            )
        return block
    if Path(override).suffix in (".yaml", ".yml"):
        spec = load_probe_spec(override)
        pinned = spec.digest if block is None or block.digest is None else block.digest
        return spec.model_copy(update={"digest": pinned})
    if block is None:
        raise UsageError(
            f"--probe {override!r} names a file, but the policy has no `probe:` block that names its columns; "
            "give a probe spec (.yaml)"
        )
    return block.model_copy(update={"uri": override})


def resolved_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU when there is one.

    Raises:
        UsageError: A GPU was asked for and there is none, or the device is unknown.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda': torch finds no GPU here; use auto or cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def require_pinned(probe: ProbeSet, digest: str | None) -> None:
    """Refuses a probe set whose content is not the pinned one.

    Raises:
        ProbeError: The digest differs.
    """
    if digest is not None and probe.digest != digest:
        raise ProbeError(
            f"{probe.uri}: its content has the digest {probe.digest}, the policy pins {digest}; "
            "restore the probe set, or pin the new digest"
        )
