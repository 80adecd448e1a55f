"""Where features come from: a model that runs in a process of its own or in this one, or precomputed vectors."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gate.errors import ModelError
from gate.models.finding import FoundModel
from gate.streaming.parts import READ
from gate.streaming.vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from gate.features import LayerAddress
    from gate.inputs import Inputs
    from gate.models.baseline import Absent
    from gate.policy.schema import Run
    from gate.probes.probe_set import ProbeBatch, ProbeSet
    from gate.questions import Plan

_MODEL_ROWS = 1024
_VECTOR_ROWS = 4096
_NOTHING: dict[str, Any] = {}


class Seen(NamedTuple):
    """Rows of a probe set, what a model made of them, and of their second view, where that is read."""

    rows: ProbeBatch
    features: Mapping[str, Tensor]
    second: Mapping[str, Tensor]


class Runs(Protocol):
    """A model that takes inputs and gives features, in this process or in another one.

    One in another process has a `confinement`: how it is kept from everything else.
    """

    @property
    def facts(self) -> Mapping[str, object]:
        """How it was run."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Name → weight, of the layers whose weights are read."""

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Name → features (b, d)."""


class Model:
    """A model that runs.

    Args:
        runs: What it is shown rows by.
        device: Where statistics are computed.
        named: What the model calls its outputs, in order; empty where it does not.
    """

    at_once = _MODEL_ROWS

    def __init__(self, runs: Runs, device: str, named: tuple[str, ...] = ()) -> None:
        self._runs, self.named = runs, named
        self._device = device
        self._kinds: dict[str, tuple[int, object]] = {}

    @property
    def ran(self) -> dict[str, object]:
        """How it was run, for the evidence: `isolation` with its mode, `batch_size`."""
        how: Mapping[str, object] = getattr(self._runs, "confinement", {})
        size = self._runs.facts.get("batch_size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ModelError(
                f"the process of the model says that it was shown {size!r:.40} rows at once; do not trust it"
            )
        # Nothing else that a model says of itself: the rest is what the gate knows.
        return {"batch_size": size, "isolation": {**how, "mode": "process" if how else "none"}}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Name → weight, of the layers whose weights are read."""
        return self._runs.weights

    def rows(self, probe: ProbeSet, size: int, *, second_view: bool) -> Iterator[Seen]:
        """Rows with their features, `size` at a time."""
        for rows in probe.batches(size):
            second = self._features(rows.pairs) if second_view and rows.pairs is not None else {}
            yield Seen(rows, self._features(rows.inputs), second)

    def _features(self, inputs: Inputs) -> dict[str, Tensor]:
        found = self._runs(inputs)
        for name, each in found.items():
            kind = self._kinds.setdefault(name, (each.shape[1], each.dtype))
            if kind != (each.shape[1], each.dtype):
                raise ModelError(
                    f"features {name!r} had {kind[0]} values of {kind[1]} a row, and now {each.shape[1]} of "
                    f"{each.dtype}; every row needs as many, of one type"
                )
        return {name: each.to(self._device) for name, each in found.items()}


class Vectors:
    """Precomputed vectors in the place of a model.

    Args:
        model: The file.
        layers: Each `input` or `output`.
        device: Where the vectors go.
    """

    at_once = _VECTOR_ROWS
    named: tuple[str, ...] = ()
    ran: Mapping[str, object] = _NOTHING
    weights: Mapping[str, Tensor] = _NOTHING

    def __init__(self, model: FoundModel, layers: Mapping[str, LayerAddress], device: str) -> None:
        self._model, self._layers, self._device = model, layers, device

    def rows(self, probe: ProbeSet, size: int, *, second_view: bool) -> Iterator[Seen]:
        """Rows with their vectors, `size` at a time; a second view has none."""
        del second_view
        for rows, features in vectors(self._model, probe, self._layers, self._device, size):
            yield Seen(rows, features, {})


class Running(NamedTuple):
    """The candidate, and what it is compared with; None where nothing is."""

    candidate: Model | Vectors
    baseline: Model | Vectors | None = None

    @property
    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        """What is read of the weights of each: `candidate` and `baseline` → name → weight."""
        theirs = _NOTHING if self.baseline is None else self.baseline.weights
        return {"candidate": self.candidate.weights, "baseline": theirs}

    @property
    def ran(self) -> dict[str, Mapping[str, object]]:
        """How each was run, for the evidence."""
        return {"candidate": self.candidate.ran, "baseline": {} if self.baseline is None else self.baseline.ran}


@contextmanager
def running(
    candidate: FoundModel,
    baseline: FoundModel | Absent,
    plan: Plan,
    *,
    device: str,
    run: Run,
    columns: tuple[str, ...] = (),
) -> Iterator[Running]:
    """Both models, loaded and ready to be shown rows for the length of the block.

    Args:
        candidate: A model, or precomputed vectors.
        baseline: What it is compared with on the same rows, if anything.
        plan: Where to read what.
        device: Where the models run and statistics are computed.
        run: How they run.
        columns: Of the probe set, that the models are shown.

    Raises:
        GateError: A model cannot be loaded, or at the end of the block gives other features than at its start.
    """
    theirs = baseline if isinstance(baseline, FoundModel) and plan.compares else None
    with ExitStack() as stack:
        source = partial(_source, device=device, run=run, columns=columns, stack=stack)
        mine = source(candidate, addresses(plan.layers, plan.reads), plan.weights)
        if theirs is None:
            yield Running(mine)
            return
        own = addresses(plan.baseline_layers, plan.baseline_reads)
        yield Running(mine, source(theirs, own, plan.baseline_weights))


def addresses(layers: Mapping[str, LayerAddress], reads: Mapping[str, LayerAddress]) -> dict[str, LayerAddress]:
    """Everything that is read of one model, under one name each."""
    return {**layers, **{f"{READ}{name}": address for name, address in reads.items()}}


def _source(
    model: FoundModel,
    layers: Mapping[str, LayerAddress],
    weights: Mapping[str, str],
    *,
    device: str,
    run: Run,
    columns: tuple[str, ...],
    stack: ExitStack,
) -> Model | Vectors:
    if model.flavour == "features":
        return Vectors(model, layers, device)
    runs = started(model, run, device=device, columns=columns, layers=layers, weights=weights)
    return Model(stack.enter_context(runs), device, model.outputs)


def started(
    model: FoundModel,
    run: Run,
    *,
    device: str,
    columns: tuple[str, ...] = (),
    layers: Mapping[str, LayerAddress] = _NOTHING,
    weights: Mapping[str, str] = _NOTHING,
    described: bool = False,
) -> AbstractContextManager[Runs]:
    """A model that runs for the length of a block, in a process of its own or in this one.

    Args:
        model: Its files.
        run: How it runs.
        device: Where.
        columns: Of the probe set, that it is shown.
        layers: Name → address of the features that are wanted.
        weights: Name → layer, of those whose weights are wanted.
        described: Whether it only tells of its layers, as gate.running.described says.
    """
    from gate import running as here
    from gate.features import tensors_of

    what = here.described if described else here.opened
    job = here.Job(
        folder=model.path,
        layers=layers,
        device=device,
        precision=run.precision,
        batch_size=run.batch_size,
        pickle=run.allow_pickle,
        code=run.allow_code,
        columns=columns,
        weights=dict(weights),
    ).document
    if run.isolation == "none":
        return what(job)
    from gate.isolation import Isolated, Limits

    return Isolated(
        job,
        [model.path],
        features=layers,
        weights=[tensor for name in weights for tensor in tensors_of(name)],
        limits=Limits(seconds=run.seconds, memory=run.bytes),
        device=device,
        target=f"{what.__module__}:{what.__name__}",
    )
