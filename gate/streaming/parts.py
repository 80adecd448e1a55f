"""A batch of rows taken apart: by layer, by model and by slice, each with what is known of its rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.errors import ProbeError
from gate.questions import Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from gate.geometry.statistics import Batch
    from gate.probes.probe_set import ProbeBatch
    from gate.questions import By, Plan

MOST_SLICES = 200  # of one layer: each keeps statistics of its own
READ = "reads: "  # before the name of what is read besides features: no layer is called so
_LARGEST_CODE = 2**24  # whole numbers beyond it are not all float32


class Shown(NamedTuple):
    """Some rows of the probe set, and what the models made of them.

    Attributes:
        rows: Of the probe set.
        features: Name → (b, d) in the candidate.
        earlier: The same in the baseline; empty without one.
        second: The same of the second view of the rows, in the candidate; empty where nobody reads it.
    """

    rows: ProbeBatch
    features: Mapping[str, Tensor]
    earlier: Mapping[str, Tensor]
    second: Mapping[str, Tensor]


def parts_of(shown: Shown, plan: Plan, about: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[Part, Batch]]:
    """Part → rows, first of the probe set and then of its other splits.

    Of the probe set these are every layer of the candidate and what is read of the baseline, and the slices of both.

    Args:
        shown: Rows and features.
        plan: Where what was read, and what the rows are cut by.
        about: "candidate" and "baseline" → what holds for all rows.
    """
    splits = shown.rows.splits or ("probe",) * len(shown.rows.ids)
    if "probe" in splits:
        yield _probe_parts(_those(shown, splits, "probe"), plan, about)
    for split in ("reference", "ood"):
        if split in splits:
            some = _those(shown, splits, split)
            yield _other_parts(some.features, some, plan, {of: {**each, "split": split} for of, each in about.items()})
    if shown.second and "probe" in splits:
        some = _those(shown, splits, "probe")
        yield _other_parts(
            some.second, some._replace(earlier={}), plan, {"candidate": {**about["candidate"], "split": "shifted"}}
        )


def _those(shown: Shown, splits: Sequence[str], split: str) -> Shown:
    """The rows of one split."""
    import torch

    if all(each == split for each in splits):
        return shown
    index = [place for place, each in enumerate(splits) if each == split]

    def some(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: each[torch.tensor(index, device=each.device)] for name, each in features.items()}

    rows, features, earlier, second = shown
    return Shown(_rows(rows, index), some(features), some(earlier), some(second))


def _rows(rows: ProbeBatch, index: Sequence[int]) -> ProbeBatch:
    """Some of the rows, without their inputs, which the models have seen."""

    def some(column: object) -> Any:  # noqa: ANN401 - as the column came
        if isinstance(column, Mapping):
            return {name: some(each) for name, each in column.items()}
        return tuple(column[place] for place in index) if isinstance(column, tuple) else column

    columns = {each.name: getattr(rows, each.name) for each in fields(rows)}
    kept = {name: some(each) for name, each in columns.items() if name not in ("inputs", "pairs")}
    for name in ("fingerprints", "targets"):
        kept[name] = None if columns[name] is None else columns[name][list(index)]
    return replace(rows, **kept, inputs=(), pairs=None)


def _probe_parts(shown: Shown, plan: Plan, about: Mapping[str, Mapping[str, Any]]) -> dict[Part, Batch]:
    rows, features, earlier, _ = shown
    known, read, theirs = _known(rows), _columns(features), _columns(earlier)
    compared = {f"baseline_{name}": each for name, each in theirs.items() if name.startswith(("logits", "tokens."))}
    found: dict[Part, Batch] = {}
    for layer in plan.layers:
        columns = {**known, **read, **compared, "baseline": earlier.get(layer)}
        found[Part(layer)] = _batch(features[layer], columns, about["candidate"])
        if layer in earlier:
            found[Part(layer, "baseline")] = _batch(earlier[layer], {**known, **theirs}, about["baseline"])
    for part, batch in list(found.items()):
        cuts = plan.cuts if part.of == "candidate" else plan.baseline_cuts
        for by in cuts.get(part.layer, ()):
            found |= _cut(part, batch, rows, by)
    return found


def _other_parts(
    features: Mapping[str, Tensor], shown: Shown, plan: Plan, about: Mapping[str, Mapping[str, Any]]
) -> dict[Part, Batch]:
    """Rows that are not measured but measured by: those of a reference, out of distribution, or seen another way."""
    known = _known(shown.rows)
    found = {Part(layer): _batch(features[layer], known, about["candidate"]) for layer in plan.layers}
    for layer in plan.layers.keys() & shown.earlier.keys():
        found[Part(layer, "baseline")] = _batch(shown.earlier[layer], known, about["baseline"])
    return found


def _columns(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was read besides features, by column, as metrics take it; code indices are whole numbers again."""
    found = {name.removeprefix(READ): each for name, each in features.items() if name.startswith(READ)}
    if "attention_filter" in found:  # a number a row, where features are rows of numbers
        found["attention_filter"] = found["attention_filter"][:, 0]
    if "codes" in found:
        found["codes"] = _whole(found["codes"])
    return found


def _whole(codes: Tensor) -> Tensor:
    """Numbers that a float stands for exactly; all others are left for the refusal of what is no code index."""
    exact = bool(((codes == codes.round()) & (codes.abs() < _LARGEST_CODE)).all())
    return codes.long() if exact else codes


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
        "cues": rows.cues,
        "pretext": rows.pretext,
        "attributes": rows.attributes or None,
        "tasks": rows.tasks or None,
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
    device = batch.features.device
    return {
        part._replace(slice=tuple(zip(by, values, strict=True))): _own(batch.rows(torch.tensor(found, device=device)))
        for values, found in places.items()
    }


def _own(batch: Batch) -> Batch:
    """The rows with the classes and groups that they have themselves: a slice is measured as if it were alone."""
    from gate.geometry.statistics import Codes

    own: dict[str, Codes | Tensor] = {}
    for name, column in batch.columns.items():
        own[name] = column
        if isinstance(column, Codes):
            present, values = column.values.unique(return_inverse=True)
            own[name] = Codes(tuple(column.names[code] for code in present.tolist()), values)
    return replace(batch, columns=own)


def require_few_slices(parts: Iterable[Part]) -> None:
    """Refuses a probe set that is cut into more slices than can be judged."""
    found = Counter((part.layer, tuple(column for column, _ in part.slice)) for part in parts if part.of == "candidate")
    for (_, by), count in found.items():
        if count > MOST_SLICES:
            raise ProbeError(
                f"{', '.join(by)} cuts the probe set into more than {MOST_SLICES} slices; "
                "cut it by a column of fewer values"
            )
