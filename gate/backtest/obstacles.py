"""Why evidence cannot say what a policy would have said: what the policy asks and nobody measured."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gate.backtest.inputs import others
from gate.errors import NothingEvaluatedError
from gate.evidence.wording import finding_name
from gate.models.baseline import in_full
from gate.policy.expectations import Expectations
from gate.policy.loosening import loosened_expectations
from gate.policy.scope import require_in_scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gate.policy.rules import Rule
    from gate.policy.schema import Baseline, Policy, Probe, Run
    from gate.verdict import Finding, Measurements


def of_the_whole(policy: Policy, document: Mapping[str, Any]) -> Iterator[str]:
    """What keeps any rule from being judged: another model, probe set, layer or baseline than the policy means."""
    model, probe = document["model"], document["probe"]
    try:
        require_in_scope(policy, model["name"], model["uri"])
    except NothingEvaluatedError as error:
        yield str(error)
    if policy.probe is not None:
        yield from _probe(policy.probe, probe, own=model["serialization"] == "features")
    for each in (model, document["baseline"] or {}):
        yield from _not_allowed(policy.run, each)
    if policy.run.precision != document["run"]["precision"]:
        yield f"was computed in {document['run']['precision']}, the policy computes in {policy.run.precision}"
    if policy.run.seed != document["run"]["seed"]:
        yield f"sampled rows by the seed {document['run']['seed']}, the policy by {policy.run.seed}"
    rules = [rule for rule in policy.rules if rule.enabled]
    yield from _layers(policy, rules, document["layers"])
    yield from others(policy, rules, document)
    if any(rule.compares for rule in rules):
        yield from _baseline(policy, document)


def _not_allowed(run: Run, model: Mapping[str, Any]) -> Iterator[str]:
    """What a recorded model did when it ran, and the policy would not let it do."""
    if model.get("serialization") == "pickle" and not run.allow_pickle:
        yield f"{model['resolved']} is a pickle, which the policy does not load"
    if model.get("trust") == "code" and not run.allow_code:
        yield f"{model['resolved']} runs code of its own, which the policy does not allow"
    if (model.get("isolation") or {}).get("mode") == "none" and run.isolation != "none":
        yield f"{model['resolved']} ran in the process of the gate, the policy has it run in one of its own"


def _probe(named: Probe, recorded: Mapping[str, Any], *, own: bool) -> Iterator[str]:
    """Another probe set than the pinned one, or where none is pinned of another name; rows of another shape.

    Precomputed vectors may bring a probe set of their own.
    """
    uris = named.uri, str(recorded["uri"])
    cut = recorded.get("slices_digest")
    if named.slices_digest not in (None, cut):
        yield f"was measured on slices of the digest {cut}, the policy pins {named.slices_digest}"
    if named.digest is not None and named.digest != recorded["digest"]:
        yield f"was measured on the probe set {recorded['digest']}, the policy pins {named.digest}"
    elif named.digest is None and not own and len(set(map(os.path.abspath, uris))) > 1:
        same = f"if these are the same rows, pin `digest: {recorded['digest']}`"
        yield f"was measured on {uris[1]}, the policy names {uris[0]}; {same}"
    shape = recorded.get("shape", named.shape)  # evidence of an earlier version does not say
    if (None if shape is None else tuple(shape)) != named.shape:
        yield f"was measured on rows of the shape {shape}, the policy has {named.shape}"
    wanted, found = _transform(named), recorded.get("transform")
    if wanted != found:
        yield f"was measured on pictures with the transform {found}, the policy has {wanted}"
    asked = recorded.get("expectations")
    looser = [] if asked is None else [*loosened_expectations(named.expectations, Expectations.model_validate(asked))]
    if looser:
        told = "; ".join(f"{'.'.join(map(str, place))} {what}" for place, what in looser)
        yield f"was measured on a probe set of which less was expected: {told}"


def _transform(named: Probe) -> object:
    """What a policy does to pictures, as evidence has it."""
    from gate.probes.transforms import Transform

    if named.transform is None:
        return None
    return json.loads(json.dumps(asdict(Transform(**named.transform.model_dump(exclude_none=True)))))


def _layers(policy: Policy, rules: Iterable[Rule], recorded: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    known = {layer["name"]: (layer["path"], layer["pooling"]) for layer in recorded}
    for name in dict.fromkeys(rule.layer for rule in rules):
        layer = policy.layers.get(name)
        meant = (name, "none") if layer is None else (layer.path, layer.pooling)
        if name not in known:
            yield f"layer {name!r} was not recorded"
        elif known[name] != meant:
            found, wanted = (f"{path!r}, pooling {pooling}" for path, pooling in (known[name], meant))
            yield f"layer {name!r} was read at {found}; the policy reads it at {wanted}"


def _baseline(policy: Policy, document: Mapping[str, Any]) -> Iterator[str]:
    """The policy compares with a baseline, and the evidence has none, or another one."""
    named, recorded = policy.baseline, document["baseline"]
    if named is None:
        return
    if recorded is None:
        asked = document["baseline_asked"]
        if named.when_absent == "error" or asked is None:
            yield f"was not compared with a baseline: {document['baseline_reason']}"
        elif asked != in_full(named.uri, document["model"]["name"]):
            yield f"{document['baseline_reason']} to compare with; the policy names {named.uri}"
    else:
        yield from _another_baseline(named, recorded, document)


def _another_baseline(named: Baseline, recorded: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """A version that the policy does not name, by an alias of that day too, or layers at other places."""
    uri = in_full(named.uri, document["model"]["name"])
    if uri not in (recorded["uri"], recorded["resolved"]):
        asked = "" if recorded["uri"] == recorded["resolved"] else f", asked for as {recorded['uri']}"
        yield f"was compared with {recorded['resolved']}{asked}; the policy names {named.uri}"
    if document["baseline_layers"] is None and named.layers:
        yield "does not say where layers of the baseline were read: it was written by an earlier version of gate"
    for name, where in (document["baseline_layers"] or {}).items():
        meant = named.layers.get(name)
        at = {layer["name"]: layer for layer in document["layers"]}.get(name) if meant is None else meant.model_dump()
        if at is not None and (at["path"], at["pooling"]) != (where["path"], where["pooling"]):
            yield f"layer {name!r} of the baseline was read at {where['path']!r}, the policy reads it at {at['path']!r}"


def of_the_findings(policy: Policy, findings: Iterable[Finding], measured: Measurements) -> dict[str, str]:
    """Findings that say nothing of the model, only of what was not recorded: name → what that is."""
    uncut = {rule.id for rule in policy.rules if rule.slices and rule.slices.by not in measured.slices}
    told = {}
    for finding in findings:
        code, _, reason = (finding.reason or "").partition(": ")
        name, what = finding_name(vars(finding)), f"{finding.metric} of layer {finding.layer!r}"
        if code == "missing":
            told[name] = f"{name}: {what} was not recorded" + ("" if finding.slice is None else f" on {finding.slice}")
        elif code == "no_interval" or (code == "missing_slice" and finding.rule in uncut):
            told[name] = f"{name}: {what}: {reason}"
    return told
