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
_SHAPE = re.compile(r"\(\d+(?:, \d+)*,?\)")
_AT_THE_ENDS = {"input": -1, "output": 1}
_POOLINGS = {1: ("none",), 2: ("none",), 3: ("mean", "cls", "last", "max"), 4: ("spatial_mean", "flatten")}


class Layer(NamedTuple):
    """A layer.

    Attributes:
        path: As a policy names it.
        gives: The shape of its output, of a structure the shapes ("tuple((2, 5, 64), None)").
        poolings: Those that suit it; empty where no row for each sample can be made of it.
    """

    path: str
    gives: str
    poolings: tuple[str, ...]


class Layers(NamedTuple):
    """What a model offers.

    Attributes:
        model: That was looked at.
        found: Its layers in the order in which it names them, after `input` and before `output`.
        closed: Why there are no others than `input` and `output`; empty where there are.
        rows: That the shapes are those of.
    """

    model: FoundModel
    found: tuple[Layer, ...]
    closed: str
    rows: int


def layers(
    model_uri: str, *, policy: str | Path | None = None, probe: str | None = None, device: str = "auto"
) -> Layers:
    """Shows a model two rows, and tells what each of its layers gives; measures nothing.

    Args:
        model_uri: As for `gate.evaluation.check`.
        policy: Whose probe set it is shown, and whose `run` says how it runs.
        probe: Probe set or probe spec, in place of the policy's own.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        GateError: There is no probe set, or the model cannot be loaded or run.
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
    shown, shapes = facts.get("rows"), facts.get("layers")
    if not isinstance(shown, int) or not isinstance(shapes, dict):
        raise ModelError(f"the process of the model says {facts!r:.80} of its layers; do not trust it")
    found = [Layer(str(path), str(gives), _poolings(str(gives), shown)) for path, gives in shapes.items()]
    found.sort(key=lambda each: _AT_THE_ENDS.get(each.path, 0))
    return Layers(model, tuple(found), str(facts.get("closed") or ""), shown)


def _asked(model: FoundModel, probe: ProbeSet, policy: Policy, device: str) -> Mapping[str, object]:
    """What the model says of its layers when it is shown the first rows."""
    first = next(iter(probe.batches(_ROWS)))
    columns = probe.columns.inputs
    with streaming.started(model, policy.run, device=device, columns=columns, described=True) as runs:
        runs(first.inputs)
    return runs.facts


def _poolings(gives: str, rows: int) -> tuple[str, ...]:
    """Those of the one tensor of a structure, if it has a row for each sample."""
    shapes = _SHAPE.findall(gives)
    if len(shapes) != 1 or not shapes[0].startswith(f"({rows},"):
        return ()
    return _POOLINGS.get(len(re.findall(r"\d+", shapes[0])), ("flatten",))
