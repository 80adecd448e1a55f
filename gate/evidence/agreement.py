"""Whether the results of a document are those of its estimates, its slices and its model."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gate.errors import GateError
from gate.evidence.recorded import as_slice, question_of
from gate.verdict import slice_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import TypeAlias

    Document: TypeAlias = Mapping[str, Any]
    Result: TypeAlias = Mapping[str, Any]
    Estimates: TypeAlias = Mapping[tuple[str, str, str, str | None], Sequence[Mapping[str, Any]]]

_ANSWERED_BY = {"bound": "candidate", "relative": "change"}  # a gap is put together from several estimates
_NO_SUCH_SLICE = ("missing_slice: ", "nothing_evaluated: ")  # as `gate.verdict.cases` settles what is not there


def check_agreement(document: Document, metrics: Collection[str] | None = None) -> None:
    """Check that nothing in a document contradicts another part of it.

    Args:
        document: Of which every value is of its kind, and every result agrees with itself.
        metrics: Those whose estimates the document still has; None says that it has them all.

    Raises:
        GateError: A model is not the version that it says, a question has two answers, an interval is narrower than
            that of a lower level, or a result is not what was estimated or of a slice that is not there.
    """
    for model in (document["model"], document["baseline"]):
        _check_version(model or {})
    estimates = _by_subject(document["estimates"])
    slices = {None, *(slice_name(as_slice(cut["slice"])) for cut in document["slices"])}
    for result in document["results"]:
        _check_slice(result, slices)
        if result["value"] is not None and (metrics is None or result["metric"] in metrics):
            _check_result(result, estimates)


def _check_version(model: Mapping[str, Any]) -> None:
    name, version = model.get("name"), model.get("version")
    if name is not None and version is not None and model["resolved"] != f"models:/{name}/{version}":
        said = f"it says version {version!r} of {name!r} of the model {model['resolved']!r}"
        raise GateError(f"{said}; do not trust it")


def _by_subject(estimates: Sequence[Mapping[str, Any]]) -> Estimates:
    """The estimates by whose they are, metric, layer and slice; they differ in their parameters."""
    answered, found = set(), defaultdict(list)
    for each in estimates:
        question = question_of(each)
        subject = (each["of"], each["metric"], each["layer"], slice_name(question.slice))
        if (each["of"], question) in answered:
            raise GateError(f"it holds two estimates of {_words(*subject)}; do not trust it")
        answered.add((each["of"], question))
        if _narrows(each):
            raise GateError(f"an interval of {_words(*subject)} is narrower than one of a lower level; do not trust it")
        found[subject].append(each)
    return found


def _words(of: str, metric: str, layer: str, slice_: str | None) -> str:
    return f"the {of}: {metric} of layer {layer!r}{'' if slice_ is None else f' on {slice_}'}"


def _narrows(estimate: Mapping[str, Any]) -> bool:
    """Whether an interval says more than one of a lower level.

    One end of the interval of a change may move inwards, since it leans as far as those of its two models do
    (`Estimate.minus`); both ends never do.
    """
    own = [] if estimate["interval"] is None else [[estimate["confidence"], *estimate["interval"]]]
    inwards = all if estimate["of"] == "change" else any
    for (level, low, high), (next_level, next_low, next_high) in pairwise(sorted([*own, *estimate["intervals"]])):
        if level == next_level and (low, high) != (next_low, next_high):
            return True
        if inwards((next_low > low, next_high < high)):
            return True
    return False


def _check_slice(result: Result, slices: Collection[str | None]) -> None:
    if result["slice"] in slices:
        return
    if result["value"] is not None or not str(result["reason"]).startswith(_NO_SUCH_SLICE):
        raise GateError(
            f"rule {result['rule']!r} has a result of {result['slice']}, which is no slice; do not trust it"
        )


def _check_result(result: Result, estimates: Estimates) -> None:
    if fault := _fault(result, estimates):
        raise GateError(f"rule {result['rule']!r} {fault}; do not trust it")


def _fault(result: Result, estimates: Estimates) -> str | None:
    """What a result has that no estimate has."""
    of = _ANSWERED_BY.get(result["check"])
    if of is None:
        return None
    about = (result["metric"], result["layer"], result["slice"])
    own = [each for each in estimates.get((of, *about), ()) if each["value"] == result["value"]]
    if not own:
        return f"has the value {result['value']!r}, which is no estimate of {_words(of, *about)}"
    if result["interval"] is not None and not any(_has_interval(each, result) for each in own):
        return f"has the interval {result['interval']!r}, which is no estimate of {_words(of, *about)}"
    if of == "change" and result["baseline"] not in [each["value"] for each in estimates.get(("baseline", *about), ())]:
        return f"has the baseline {result['baseline']!r}, which is no estimate of {_words('baseline', *about)}"
    return None


def _has_interval(estimate: Mapping[str, Any], result: Result) -> bool:
    """Whether the interval of a result is that of an estimate; margins in percent make that of a change wider."""
    found, (low, high) = _interval(estimate, result["confidence"]), result["interval"]
    if found is None:
        return False
    return low <= found[0] and found[1] <= high if result["check"] == "relative" else [low, high] == found


def _interval(estimate: Mapping[str, Any], level: float | None) -> list[float] | None:
    """At a level; at its own where the version that wrote the document noted none."""
    if level is None or level == estimate["confidence"]:
        own: list[float] | None = estimate["interval"]
        return own
    return next((ends for each, *ends in estimate["intervals"] if each == level), None)
