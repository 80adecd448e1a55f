"""The layers of a model, and what each gives: where features can be read."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from gate import streaming
from gate.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.models.finding import FoundModel
    from gate.policy.schema import Policy
    from gate.probes.probe_set import ProbeSet

_ROWS = 2
_MOST_LAYERS, _LONGEST, _MOST_ROWS = 2000, 200, 1 << 20
_SHAPE = re.compile(r"\(\d+(?:, \d+)*,?\)")
_MAP = re.compile(r"attentions\.\d+")
_POOLINGS = {1: ("none",), 2: ("none",), 3: ("mean", "cls", "last", "max"), 4: ("spatial_mean", "flatten")}


class Layer(NamedTuple):
    """A layer.

    Attributes:
        path: As a policy names it.
        gives: The shape of its output, of a structure the shapes ("tuple((2, 5, 64), None)").
        poolings: Those that suit it; empty where no row for each sample can be made of it.
        reads: The key of a policy's `reads` under which alone it is of use ("attention"); empty for features.
    """

    path: str
    gives: str
    poolings: tuple[str, ...]
    reads: str = ""


class Layers(NamedTuple):
    """What a model offers.

    Attributes:
        model: That was looked at.
        found: Its layers in the order in which it names them, after `input` and before `output` and its parts; no
            more than 2000, and no text of them longer than 200 characters.
        closed: Why there are no others than `input` and `output`; empty where there are.
        rows: That the shapes are those of.
        known: Number of all that it has.
        left_out: Number of those that were asked for and are too many to be found here.
    """

    model: FoundModel
    found: tuple[Layer, ...]
    closed: str
    rows: int
    known: int
    left_out: int


def layers(
    model_uri: str,
    *,
    policy: str | Path | None = None,
    probe: str | None = None,
    device: str = "auto",
    match: str = "",
) -> Layers:
    """Shows a model two rows, and tells what each of its layers gives; measures nothing.

    Args:
        model_uri: As for `gate.evaluation.check`.
        policy: Whose probe set it is shown, and whose `run` says how it runs.
        probe: Probe set or probe spec, in place of the policy's own.
        device: `auto`, `cpu` or `cuda`.
        match: A part of the paths that are wanted.

    Raises:
        GateError: There is no probe set, or the model cannot be loaded or run, or its process says of its layers what
            no process of the gate would.
    """
    from gate.models.finding import found as find
    from gate.models.mlmodel import Permissions
    from gate.policy.loading import load_policy
    from gate.policy.made import made

    if policy is None and probe is None:
        raise UsageError("nothing says which rows the model is shown; name a probe spec, --probe SPEC, or a policy, -p")
    known = made("layers") if policy is None else load_policy(policy).policy
    spec = streaming.resolved_probe(known.probe, probe)
    permissions = Permissions(pickle=known.run.allow_pickle, code=known.run.allow_code)
    with TemporaryDirectory(prefix="gate-") as folder:
        model = find(model_uri, directory=Path(folder), permissions=permissions)
        if model.flavour == "features":
            raise ModelError(f"{model_uri}: precomputed vectors have no layers; name `output`")
        rows = streaming.open_rows(spec, directory=Path(folder))
        facts = _asked(model, rows, known, streaming.resolved_device(device))
    shapes, shown, closed = _believed(facts)
    wanted = _ordered([path for path in shapes if match in path])
    found = [_layer(path, shapes[path], shown, maps=model.flavour == "transformers") for path in _few(wanted)]
    return Layers(model, tuple(found), closed, shown, len(shapes), len(wanted) - len(found))


def _asked(model: FoundModel, probe: ProbeSet, policy: Policy, device: str) -> Mapping[str, object]:
    """What the model says of its layers when it is shown the first rows."""
    first = next(iter(probe.batches(_ROWS)))
    columns = probe.columns.inputs
    with streaming.started(model, policy.run, device=device, columns=columns, described=True) as runs:
        runs(first.inputs)
    return runs.facts


def _believed(facts: Mapping[str, object]) -> tuple[dict[str, str], int, str]:
    """Shapes of layers, number of rows and why there are no layers, as `gate.features.Extractor.described` gives them.

    Raises:
        ModelError: Something else was told: the process may belong to its model by now.
    """
    shapes, rows, closed = facts.get("layers"), facts.get("rows"), facts.get("closed")
    if not isinstance(shapes, dict) or not all(isinstance(each, str) for pair in shapes.items() for each in pair):
        raise _untrusted(f"{shapes!r:.80} of its layers, expected a path and a shape of each")
    if not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= _MOST_ROWS:
        raise _untrusted(f"that it was shown {rows!r:.80} rows, expected a whole number from 1 to {_MOST_ROWS}")
    if not isinstance(closed, str):
        raise _untrusted(f"{closed!r:.80} for the reason why it keeps no layers, expected a text")
    return shapes, rows, _short(closed)


def _untrusted(what: str) -> ModelError:
    return ModelError(f"the process of the model says {what}; do not trust it")


def _layer(path: str, gives: str, rows: int, *, maps: bool) -> Layer:
    reads = "attention" if maps and _MAP.fullmatch(path) else ""
    return Layer(_short(path), _short(gives), () if reads else _poolings(gives, rows), reads)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _ordered(paths: list[str]) -> list[str]:
    """The input first, the output and its parts last."""
    return sorted(paths, key=lambda path: -1 if path == "input" else int(_is_output(path)))


def _few(paths: list[str]) -> list[str]:
    """Of too many, the first ones and those of the output."""
    ends = [path for path in paths if _is_output(path)][: _MOST_LAYERS // 2]
    return [*[path for path in paths if not _is_output(path)][: _MOST_LAYERS - len(ends)], *ends]


def _is_output(path: str) -> bool:
    return path.partition(".")[0] == "output"


def _poolings(gives: str, rows: int) -> tuple[str, ...]:
    """Those of the one tensor of a structure, if it has a row for each sample."""
    shapes = _SHAPE.findall(gives)
    if len(shapes) != 1 or not shapes[0].startswith(f"({rows},"):
        return ()
    return _POOLINGS.get(len(re.findall(r"\d+", shapes[0])), ("flatten",))
