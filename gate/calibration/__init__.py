"""Bounds from known-good versions: a policy whose rate of false alarms is known before the first version is blocked.

The story: named versions are `measured` under all rules that are asked for, a bound is `proposed` for each, the rules
that tell most apart are `chosen`, and the policy is written with the evidence for every number beside it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from gate.errors import NothingEvaluatedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gate.calibration.asking import Asked
    from gate.calibration.measuring import Version
    from gate.calibration.outcome import Calibration
    from gate.calibration.proposing import LeftOut
    from gate.policy.loading import LoadedPolicy
    from gate.policy.schema import Probe
    from gate.streaming.passes import OnProgress

    Watch = Callable[[str], AbstractContextManager[OnProgress | None]]

FALSE_ALARM = 0.05
ASSURANCE = 0.9


def _unwatched(_uri: str) -> AbstractContextManager[None]:
    return nullcontext()


def calibrate(  # noqa: PLR0913 - one parameter for everything that a person may say
    good: Sequence[str],
    *,
    bad: Sequence[str] = (),
    probe: str | Path | None = None,
    layers: Mapping[str, str] | None = None,
    reads: Mapping[str, str] | None = None,
    like: str | Path | None = None,
    false_alarm: float = FALSE_ALARM,
    assurance: float = ASSURANCE,
    keep_blind: bool = False,
    name: str | None = None,
    device: str = "auto",
    watch: Watch = _unwatched,
) -> Calibration:
    """Measures versions that are known to be good, and bounds every metric such that another good one passes.

    Args:
        good: URIs of versions that must pass, trained apart from each other; five or more for bounds to rely on.
        bad: URIs of versions that must not pass.
        probe: Probe spec (.yaml); that of `like` when None.
        layers: Name → `PATH` or `PATH:POOLING`, where to read; not needed for precomputed vectors and with `like`.
        reads: What metrics read besides, such as `{"logits": "output"}`.
        like: Policy file or pack whose rules get new bounds; without it every applicable metric is a candidate.
        false_alarm: Chance that another good version does not pass a whole run, in (0, 0.5).
        assurance: Chance that these bounds in particular keep that rate, in (0, 1).
        keep_blind: Keeps rules that catch none of the bad versions.
        name: Of the policy; that of the registered model when None.
        device: `auto`, `cpu` or `cuda`.
        watch: A block around each version, which gives a function that takes the number of probe rows done.

    Returns:
        The policy as `.text`, which the loader of policies has read, and what speaks for it.

    Raises:
        UsageError: The call makes no sense as it stands.
        NothingEvaluatedError: No metric can be bounded.
        GateError: A version could not be measured.
    """
    from gate.calibration.choosing import Chosen, chosen
    from gate.calibration.levels import widest
    from gate.calibration.measuring import measured, require_different
    from gate.calibration.outcome import Calibration
    from gate.calibration.proposing import proposed
    from gate.calibration.worthless import worthless
    from gate.calibration.writing import require_valid

    _require_sense(false_alarm, assurance, name)
    asked = _asked(good, probe, layers or {}, reads or {}, like)
    level = widest(asked)
    versions: list[Version] = []
    for uri in [*good, *bad]:
        with watch(uri) as on_progress:
            versions.append(measured(asked.policy, uri, device=device, on_progress=on_progress, keep_rows=not versions))
    require_different(versions)
    of_good, of_bad = versions[: len(good)], versions[len(good) :]
    nothing = worthless(versions[0].samples, [each.rule for each in asked.candidates])
    proposals, unbounded, shares = proposed(
        asked.candidates, of_good, of_bad, nothing, false_alarm=false_alarm, assurance=assurance, level=level
    )
    found = Chosen(proposals, [], frozenset()) if asked.like else chosen(proposals, keep_blind=keep_blind)
    left_out = [*unbounded, *found.left_out]
    if not found.rules:
        raise _nothing(left_out, len(of_good), shares.factor)
    calibration = Calibration(
        asked=asked,
        good=tuple(of_good),
        bad=tuple(of_bad),
        rules=tuple(found.rules),
        left_out=tuple(left_out),
        for_their_kind=found.for_their_kind,
        shares=shares,
        name=name,
    )
    require_valid(calibration.text)
    return calibration


def _require_sense(false_alarm: float, assurance: float, name: str | None) -> None:
    from pydantic import TypeAdapter, ValidationError

    from gate.policy.kinds import Name

    if not 0 < false_alarm < 0.5:
        raise UsageError(f"the false-alarm rate must lie between 0 and 0.5, found {false_alarm!r}")
    if not 0 < assurance < 1:
        raise UsageError(f"the assurance must lie between 0 and 1, found {assurance!r}")
    try:
        TypeAdapter(Name | None).validate_python(name)
    except ValidationError:
        raise UsageError(f"a policy cannot be called {name!r}; use letters, digits, `.`, `_` and `-`") from None


def _asked(
    good: Sequence[str],
    probe: str | Path | None,
    layers: Mapping[str, str],
    reads: Mapping[str, str],
    like: str | Path | None,
) -> Asked:
    from gate.calibration.asking import of_a_policy, of_the_catalogue
    from gate.calibration.measuring import missing_layer
    from gate.policy.loading import load_policy

    if not good:
        raise UsageError("no good version was named; bounds come from versions that are known to be good")
    loaded = None if like is None else load_policy(like)
    spec = _probe(probe, loaded)
    if loaded is not None:
        return of_a_policy(loaded, spec, layers, reads)
    if not layers and not all(uri.startswith("features:") for uri in good):
        raise missing_layer(next(uri for uri in good if not uri.startswith("features:")))
    return of_the_catalogue(spec, layers, reads)


def _probe(probe: str | Path | None, like: LoadedPolicy | None) -> Probe:
    """The probe set that is named, or that of the policy whose rules are taken."""
    from gate.policy.loading import load_probe_spec

    if probe is not None:
        return load_probe_spec(probe)
    if like is None or like.policy.probe is None:
        raise UsageError("no probe set was named: --probe SPEC, a YAML file with `uri` and `columns`")
    return like.policy.probe


def _nothing(left_out: Sequence[LeftOut], versions: int, factor: float) -> NothingEvaluatedError:
    reasons = "; ".join(f"{each.candidate.rule.id}: {each.reason}" for each in left_out)
    return NothingEvaluatedError(
        f"no rule can be bounded by {versions} good version{'s'[: versions > 1]}, {factor:.3g} spreads from the mean; "
        f"measure more of them. {reasons}"
    )
