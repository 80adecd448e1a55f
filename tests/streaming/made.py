"""Probe sets, plans and models as the tests of streams write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gate import questions, streaming
from gate.geometry.statistics import Batch
from gate.models.baseline import Absent
from gate.models.finding import FoundModel, load
from gate.policy.schema import Policy, Probe, Run
from gate.questions import Part, Plan

NONE = Absent("none is asked for")
OUTPUT = Part("output")
RANK: Any = {"id": "rank", "metric": "effective_rank", "layer": "output", "min": 1}
CHANGE: Any = {"id": "change", "metric": "effective_rank", "layer": "output", "relative": {"max_drop": 1}}


def plan(*rules: dict[str, Any], **keys: Any) -> Plan:
    """What some rules need to be read; of the output's rank where there are none."""
    head = {"apiVersion": "gate/v1", "kind": "Policy", "metadata": {"name": "p", "version": "1"}}
    named = [{"id": f"r{index}", "layer": "output", **each} for index, each in enumerate(rules or (RANK,))]
    return questions.plan(Policy.model_validate({**head, "baseline": {"uri": "x"}, "rules": named, **keys}))


def probe(path: Path, **columns: Any) -> Probe:
    return Probe.model_validate({"uri": str(path), "columns": columns})


def vectors(path: Path) -> FoundModel:
    return load(f"features:{path}", directory=path.parent)


def running(module: nn.Module, name: str = "made") -> FoundModel:
    """A module as if it had been loaded."""
    return FoundModel(
        uri=f"models:/{name}/1",
        resolved=f"models:/{name}/1",
        name=name,
        version="1",
        run_id=None,
        model_id=None,
        digest=f"sha256:{name}",
        flavour="pytorch",
        serialization="pt2",
        module=module,
        batch_size=None,
        path=Path(name),
    )


def stream(
    candidate: FoundModel | Path,
    spec: Probe,
    asked: Plan | None = None,
    baseline: FoundModel | Absent = NONE,
    batch_size: int = 4,
) -> list[dict[Part, Batch]]:
    """Every batch of a pass."""
    model = vectors(candidate) if isinstance(candidate, Path) else candidate
    asked = asked or plan()
    rows = streaming.open_rows(spec, asked.tags)
    return list(streaming.batches(model, baseline, rows, asked, device="cpu", run=Run(batch_size=batch_size)))


def outputs(candidate: FoundModel | Path, spec: Probe, **options: Any) -> list[Batch]:
    """The batches of the candidate's output."""
    return [found[OUTPUT] for found in stream(candidate, spec, **options)]


def written(path: Path, **columns: Any) -> Path:
    arrays: Any = {name: np.asarray(column) for name, column in columns.items()}
    np.savez(path, **arrays)
    return path
