"""Probe sets, plans and models as the tests of streams write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gate import questions, streaming
from gate.features import Extractor, LayerAddress
from gate.geometry.statistics import Batch
from gate.models.finding import FoundModel, found
from gate.models.flavours.modules import ModuleProgram
from gate.policy.schema import Policy, Probe
from gate.questions import Part, Plan
from gate.streaming.sources import Model, Running, Vectors, addresses

Made = nn.Module | FoundModel | Path
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
    return found(f"features:{path}", directory=path.parent)


@contextmanager
def passing(
    candidate: Made,
    spec: Probe | Any,
    asked: Plan | None = None,
    baseline: Made | None = None,
    batch_size: int = 4,
    **options: Any,
) -> Iterator[Iterator[dict[Part, Batch]]]:
    """A pass that has not been made yet, over a probe set or what a spec describes."""
    asked = asked or plan()
    rows = streaming.open_rows(spec, asked.tags) if isinstance(spec, Probe) else spec
    with ExitStack() as stack:
        mine = _source(candidate, addresses(asked.layers, asked.reads), asked.weights, batch_size, stack)
        compared = None if baseline is None or not asked.compares else baseline
        own = addresses(asked.baseline_layers, asked.baseline_reads)
        theirs = None if compared is None else _source(compared, own, asked.baseline_weights, batch_size, stack)
        yield streaming.batches(Running(mine, theirs), rows, asked, seed=0, **options)


def stream(candidate: Made, spec: Probe | Any, *given: Any, **options: Any) -> list[dict[Part, Batch]]:
    """Every batch of a pass."""
    with passing(candidate, spec, *given, **options) as batches:
        return list(batches)


def _source(
    model: Made, layers: Mapping[str, LayerAddress], weights: Mapping[str, str], batch_size: int, stack: ExitStack
) -> Model | Vectors:
    """As if it had been loaded; as many rows of the probe set at once as the model is shown."""
    if isinstance(model, nn.Module):
        extract = Extractor(ModuleProgram(model, device="cpu"), layers, batch_size=batch_size, weights=weights)
        source: Model | Vectors = Model(stack.enter_context(extract), "cpu")
    else:
        source = Vectors(vectors(model) if isinstance(model, Path) else model, layers, "cpu")
    source.at_once = batch_size
    return source


def outputs(candidate: Made, spec: Probe, **options: Any) -> list[Batch]:
    """The batches of the candidate's output."""
    return [found[OUTPUT] for found in stream(candidate, spec, **options)]


def written(path: Path, **columns: Any) -> Path:
    arrays: Any = {name: np.asarray(column) for name, column in columns.items()}
    np.savez(path, **arrays)
    return path
