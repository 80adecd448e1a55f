"""What every version measures, through the same pass as a check of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gate.errors import GateError, PolicyError, UsageError
from gate.evaluation import evaluate
from gate.questions import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gate.estimate import Estimate
    from gate.geometry.statistics import Sample
    from gate.policy.schema import Policy
    from gate.streaming.passes import OnProgress
    from gate.verdict import Question

_SHOWN = 40  # layers in a message


@dataclass(frozen=True)
class Version:
    """A version of the model, measured.

    Attributes:
        uri: As it was asked for, an alias replaced by the version that it names.
        name: Of the registered model; None outside the registry.
        number: Of the registered version.
        digest: Of the model.
        probe_digest: Of the content of the probe set.
        rows: Of the probe set.
        estimates: Everything that was asked.
        samples: Layer → the rows that are kept, where they were asked for.
    """

    uri: str
    name: str | None
    number: str | None
    digest: str
    probe_digest: str
    rows: int
    estimates: Mapping[Question, Estimate]
    samples: Mapping[str, Sample] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """What a table calls it: the number of the version, or the last part of its URI."""
        return self.number or self.uri.rstrip("/").rpartition("/")[2]

    @property
    def subject(self) -> str:
        """What a sentence calls it."""
        return f"version {self.number}" if self.number else self.label


def measured(
    policy: Policy,
    uri: str,
    *,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    keep_rows: bool = False,
) -> Version:
    """Measure one version.

    Args:
        policy: What is asked.
        uri: Of the model.
        device: `auto`, `cpu` or `cuda`.
        on_progress: Called with the number of probe rows done so far, and of all.
        keep_rows: Whether to keep the sampled rows, from which worthless ones can be made.

    Raises:
        GateError: It could not be measured; the message names the version.
    """
    with _named(uri):
        found = evaluate(policy, uri, device=device, on_progress=on_progress)
    model = found.model
    samples = {name: found.collections[Part(name)].sample for name in found.plan.layers}
    return Version(
        uri=model.resolved,
        name=model.name,
        number=model.version,
        digest=model.digest,
        probe_digest=found.probe.digest,
        rows=next(iter(samples.values())).n,
        estimates={question: replace(each, influence=None) for question, each in found.measured.candidate.items()},
        samples=samples if keep_rows else {},
    )


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Messages say which of the versions they are about."""
    try:
        yield
    except PolicyError:
        raise
    except GateError as error:
        if uri in str(error):
            raise
        raise type(error)(f"{uri}: {error}") from error


def require_different(versions: Sequence[Version]) -> None:
    """Refuses to count one model as several.

    Raises:
        UsageError: Two versions have the same files.
    """
    first: dict[str, Version] = {}
    for version in versions:
        same = first.setdefault(version.digest, version)
        if same is not version:
            raise UsageError(
                f"{same.uri} and {version.uri} hold the same files: one training counts once, or the bounds would be "
                "narrower than the evidence; name another version"
            )


def layers_of(uri: str) -> list[str]:
    """The paths that `--layer` can name, for a message.

    Raises:
        GateError: The model cannot be loaded.
    """
    from gate.isolation import Isolated
    from gate.models.finding import found
    from gate.running import Job

    with TemporaryDirectory(prefix="gate-") as folder:
        model = found(uri, directory=Path(folder))
        if model.flavour == "features":
            return ["output"]
        with Isolated(Job(model.path, {}).document, [model.path], features=()) as isolated:
            return isolated.layers


def missing_layer(uri: str) -> UsageError:
    """What to say where nobody says where to read.

    Raises:
        GateError: The model cannot be loaded.
    """
    paths = layers_of(uri)
    listed = ", ".join(paths[-_SHOWN:])
    more = f"the last {_SHOWN} of its {len(paths)} layers are" if len(paths) > _SHOWN else "its layers are"
    return UsageError(f"say where to read: --layer NAME=PATH, such as --layer embedding=PATH; {more}: {listed}")
