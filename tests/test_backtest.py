"""Backtests: recorded evidence judged again says what a check would say, or that it cannot say it."""

from __future__ import annotations

import copy
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gate.backtest import (
    Bundle,
    Replay,
    backtest,
    below,
    bundles,
    changes,
    exit_code,
    in_order,
    is_report,
    newest,
    render,
    replays,
)
from gate.backtest.bundles import Asked, asked_by
from gate.backtest.inputs import others
from gate.errors import GateError, NothingEvaluatedError, UsageError
from gate.evidence.recorded import measurements, occasion
from gate.evidence.wording import finding_name
from gate.policy.loading import LoadedPolicy, load_policy
from gate.verdict import judge

SAMPLES = Path(__file__).parent / "evidence" / "v1"
TODAY = date(2026, 11, 21)
LOOSER = ", override: true, reason: To see what follows from it."
HEAD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "2.0.0"}
"""


def sample(name: str = "compared", **model: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    document["model"] |= model
    return document


def policy(folder: Path, text: str, head: str = HEAD) -> LoadedPolicy:
    path = folder / "policy.yaml"
    path.write_text(head + text, encoding="utf-8")
    return load_policy(path)


def bundle(document: object, source: str = "evidence.json") -> Bundle:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Bundle(source, None, lambda: content)


def replayed(loaded: LoadedPolicy, document: object, today: date = TODAY) -> Replay:
    ((only,),) = replays([loaded.policy], [bundle(document)], today)
    return only


def own_policy(folder: Path, document: dict[str, Any]) -> LoadedPolicy:
    """The policy that a document was checked under, from the texts that it holds."""
    for source in document["policy"].get("sources") or [document["policy"]]:
        path = folder / Path(source["path"]).name
        path.write_text(source["text"], encoding="utf-8")
    return load_policy(folder / Path(document["policy"]["path"]).name)


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.json") if path.stem != "error"))
def test_the_same_policy_on_the_same_day_says_the_same_of_every_finding(tmp_path: Path, name: str) -> None:
    document = sample(name)
    found = replayed(own_policy(tmp_path, document), document, date.fromisoformat(document["run"]["started"][:10]))
    assert found.obstacles == ()
    assert found.verdict is not None
    assert (found.verdict.status, found.verdict.exit_code) == (document["status"], document["exit_code"])
    assert found.verdict.counts == document["counts"]
    assert not found.changed
    assert {name: said.outcome for name, said in found.findings.items()} == {
        finding_name({"check": "bound", **result}): result["status"] for result in document["results"]
    }
    assert found.recorded is not None
    assert list(changes(found.recorded.findings, found.findings)) == []


def test_a_tighter_bound_changes_a_verdict_and_says_why(tmp_path: Path) -> None:
    loaded = policy(
        tmp_path,
        "rules:\n  - {id: index, metric: cross_compat_gain, min: 0.9}\nbaseline: {uri: 'features:champion.npz'}\n",
    )
    found = replayed(loaded, sample())
    assert found.verdict is not None
    assert found.verdict.status == "failed"
    document = backtest(loaded, [found], TODAY)
    assert document["counts"] == {"versions": 1, "changed": 0, "unchanged": 1, "not_replayed": 0}
    told = {change["finding"]: change for change in document["versions"][0]["changes"]}
    assert (told["index"]["before"], told["index"]["after"]) == ("warn", "fail")
    assert "must be at least 0.9" in told["index"]["message"]
    assert (told["rank"]["before"], told["rank"]["after"]) == ("fail", None)


def test_the_day_decides_on_waivers_and_dates(tmp_path: Path) -> None:
    document = sample()
    loaded = own_policy(tmp_path, document)
    last, after, blocking = (
        replayed(loaded, document, date(*day)) for day in ((2026, 12, 31), (2027, 1, 1), (2027, 3, 1))
    )
    assert [each.findings["cone"].outcome for each in (last, after, blocking)] == ["waived", "fail", "fail"]
    assert [each.findings["spread"].outcome for each in (last, after, blocking)] == ["warn", "warn", "fail"]


def test_the_alias_that_was_checked_keeps_its_action(tmp_path: Path) -> None:
    text = "scope: {aliases: {challenger: warn}}\nlayers: {embedding: {path: backbone.4}}\n"
    loaded = policy(tmp_path, f"{text}rules:\n  - {{id: r, metric: effective_rank, layer: embedding, min: 99}}\n")
    for uri, status in (("models:/digits@challenger", "warned"), ("models:/digits/2", "failed")):
        found = replayed(loaded, sample("passed", uri=uri))
        assert found.verdict is not None
        assert found.verdict.status == status


RULE = "rules:\n  - {id: rank, metric: effective_rank, layer: embedding, min: 9}\n"
LAYER = "layers: {embedding: {path: backbone.4}}\n"
PROBE = "probe: {uri: digits.npz, columns: {id: id, input: pixels, label: LABEL, cluster: CLUSTER}}\n"
BASE = "baseline: {uri: 'features:champion.npz', when_absent: WHEN}\nrules:\n  - {id: r, metric: effective_rank, "
RELATIVE = BASE + "relative: {max_drop: 50%}}\n"
SLICED = BASE.replace("WHEN", "error") + "slices: {by: BY, min: 1}}\n"


@pytest.mark.parametrize(
    ("text", "name", "obstacle"),
    [
        (
            RULE + "layers: {embedding: {path: backbone.5}}\n",
            "passed",
            "layer 'embedding' was read at 'backbone.4', pooling",
        ),
        (
            RULE + LAYER.replace("4}", "4, pooling: mean}"),
            "passed",
            "the policy reads it at 'backbone.4', pooling mean",
        ),
        (RULE.replace("layer: embedding, ", ""), "passed", "layer 'output' was not recorded"),
        (
            RULE.replace("effective_rank", "group_variance_share") + LAYER,
            "passed",
            "rank: group_variance_share of layer 'embedding'",
        ),
        (
            RULE.replace("effective_rank", "knn_label_agreement").replace("min: 9", "min: 0.5, params: {k: 7}")
            + LAYER
            + "probe: {uri: digits.npz, columns: {id: id, input: pixels, label: digit}}\n",
            "passed",
            "rank: knn_label_agreement of layer 'embedding' was not recorded",
        ),
        (RULE + LAYER + "defaults: {confidence: 0.99}\n", "passed", "an interval of 0.99 is asked for"),
        (RULE + LAYER + "scope: {models: [enc-*]}\n", "passed", "no policy matched: the registered model 'digits'"),
        (
            RULE + LAYER + f"probe: {{uri: x.npz, digest: 'sha256:{'0' * 64}', columns: {{input: x}}}}\n",
            "passed",
            f"the policy pins sha256:{'0' * 64}",
        ),
        (
            RULE.replace("effective_rank", "cdnv")
            + LAYER
            + PROBE.replace("LABEL", "topic").replace(", cluster: CLUSTER", ""),
            "passed",
            "was measured with the column label: digit, the policy has the column label: topic",
        ),
        (
            RULE + LAYER + PROBE.replace("LABEL", "digit").replace("CLUSTER", "site"),
            "passed",
            "was measured with no column cluster, the policy has the column cluster: site",
        ),
        (
            RULE.replace("effective_rank", "ece") + LAYER + "reads: {logits: {path: head}}\n",
            "passed",
            "does not say where outputs of the model were read: it was written by an earlier version of gate",
        ),
        (
            RULE
            + LAYER
            + PROBE.replace("LABEL", "digit").replace(", cluster: CLUSTER", "").replace("id: id", "id: key"),
            "passed",
            "was measured with the column id: id, the policy has the column id: key",
        ),
        (
            RULE + LAYER + "probe: {uri: other/digits.npz, columns: {id: id, input: pixels}}\n",
            "passed",
            "was measured on digits.npz, the policy names other/digits.npz; if these are the same rows, pin `digest",
        ),
        (RELATIVE.replace("WHEN", "skip_relative"), "passed", "was not compared with a baseline: the policy names no"),
        (
            RELATIVE.replace("WHEN", "error").replace("champion", "other"),
            "compared",
            "was compared with features:champion.npz",
        ),
        (
            SLICED.replace("BY", "paper"),
            "compared",
            "effective_rank of layer 'output': the rows were not cut by paper",
        ),
        (
            SLICED.replace("BY", "pen"),
            "compared",
            "r[pen=blue]: effective_rank of layer 'output' was not recorded on pen=blue",
        ),
    ],
)
def test_what_was_not_measured_is_no_verdict(tmp_path: Path, text: str, name: str, obstacle: str) -> None:
    loaded = policy(tmp_path, text)
    found = replayed(loaded, sample(name))
    assert found.verdict is None
    assert not found.changed
    assert any(obstacle in each for each in found.obstacles), found.obstacles
    assert exit_code([found]) == 3
    (version,) = backtest(loaded, [found], TODAY)["versions"]
    assert version["after"] is None
    assert version["todo"] == f"gate check {found.model} -p {tmp_path}/policy.yaml"


def test_a_column_that_no_rule_reads_may_have_another_name(tmp_path: Path) -> None:
    text = RULE + LAYER + PROBE.replace("LABEL", "topic").replace(", cluster: CLUSTER", "")
    assert replayed(policy(tmp_path, text), sample("passed")).obstacles == ()


HEAD_OUTPUT = {"path": "head", "pooling": "none", "classes": []}


@pytest.mark.parametrize(
    ("recorded", "obstacle"),
    [
        (HEAD_OUTPUT, None),
        (HEAD_OUTPUT | {"path": "other"}, "read at 'other', pooling none; the policy reads them at 'head'"),
        (HEAD_OUTPUT | {"pooling": "mean"}, "read at 'head', pooling mean; the policy reads them at 'head'"),
        (HEAD_OUTPUT | {"classes": ["b", "a"]}, "of the classes ['b', 'a'], the policy has []"),
        (None, "read nowhere; the policy reads them at 'head'"),
    ],
)
def test_outputs_are_those_that_were_read(
    tmp_path: Path, recorded: dict[str, Any] | None, obstacle: str | None
) -> None:
    loaded = policy(tmp_path, RULE.replace("effective_rank", "ece") + LAYER + "reads: {logits: {path: head}}\n")
    document = sample("passed") | {"reads": {} if recorded is None else {"logits": recorded}}
    found = list(others(loaded.policy, loaded.policy.rules, document))
    assert len(found) == (obstacle is not None)
    assert all(obstacle is not None and obstacle in each for each in found), found


def recorded_baseline(uri: str, resolved: str, layers: dict[str, Any] | None = None) -> dict[str, Any]:
    document = sample()
    document["model"]["name"] = "digits"
    document["baseline"] |= {"uri": uri, "resolved": resolved}
    return document | {"baseline_layers": layers or {}}


@pytest.mark.parametrize(
    ("named", "document", "obstacle"),
    [
        ("'@champion'", recorded_baseline("models:/digits@champion", "models:/digits/3"), None),
        ("models:/digits@champion", recorded_baseline("models:/digits@champion", "models:/digits/3"), None),
        ("models:/digits/3", recorded_baseline("models:/digits@champion", "models:/digits/3"), None),
        (
            "'@champion'",
            recorded_baseline("models:/digits/3", "models:/digits/3"),
            "was compared with models:/digits/3; the policy names @champion",
        ),
        (
            "'@champion'",
            recorded_baseline("models:/other@champion", "models:/other/3"),
            "compared with models:/other/3, asked for as models:/other@champion; the policy names @champion",
        ),
        (
            "models:/digits@champion",
            recorded_baseline("models:/digits@challenger", "models:/digits/3"),
            "asked for as models:/digits@challenger; the policy names models:/digits@champion",
        ),
        (
            "models:/digits/3, layers: {embedding: {path: other}}",
            recorded_baseline("x", "models:/digits/3", {"embedding": {"path": "old", "pooling": "none"}}),
            "layer 'embedding' of the baseline was read at 'old', the policy reads it at 'other'",
        ),
        (
            "models:/digits/3, layers: {embedding: {path: old}}",
            recorded_baseline("x", "models:/digits/3", {"embedding": {"path": "old", "pooling": "none"}}),
            None,
        ),
    ],
)
def test_the_baseline_is_the_one_that_the_policy_names(
    tmp_path: Path, named: str, document: dict[str, Any], obstacle: str | None
) -> None:
    rule = f"{LAYER}rules:\n  - {{id: r, metric: effective_rank, layer: embedding, relative: {{max_drop: 50%}}}}\n"
    found = replayed(policy(tmp_path, f"baseline: {{uri: {named}}}\n{rule}"), document)
    about = [each for each in found.obstacles if "baseline" in each or "compared" in each]
    assert len(about) == (obstacle is not None)
    assert all(obstacle is not None and obstacle in each for each in about)


def test_rows_that_another_seed_samples_are_other_rows(tmp_path: Path) -> None:
    found = replayed(policy(tmp_path, "run: {seed: 1}\n" + RULE + LAYER), sample("passed"))
    assert found.obstacles == ("sampled rows by the seed 0, the policy by 1",)


def test_a_level_that_was_not_recorded_is_told(tmp_path: Path) -> None:
    loaded = policy(tmp_path, LAYER + RULE + "defaults: {confidence: 0.93}\n")
    (note,) = backtest(loaded, [replayed(loaded, sample("passed"))], TODAY)["notes"]
    assert note.endswith("no interval at 0.93 was recorded; those at 0.95 were judged, which are wider")
    assert replayed(policy(tmp_path, RULE + LAYER), sample("passed")).notes == ()


def test_where_the_newest_evidence_cannot_be_replayed_the_one_before_it_is_and_says_so(tmp_path: Path) -> None:
    loaded, old, new = policy(tmp_path, RULE + LAYER), sample("passed"), sample("passed")
    new["layers"] = []
    new["run"]["started"] = "2030-01-01T00:00:00+00:00"
    found = list(replays([loaded.policy], [bundle(new, "new"), bundle(old, "old")], TODAY))
    ((kept,),) = newest(found)
    assert (kept.source, kept.verdict is None) == ("old", False)
    (note,) = kept.notes
    assert note == (
        f"replayed is the check of {old['run']['started']}, as a later one cannot be, new: "
        "layer 'embedding' was not recorded"
    )
    ((only,),) = newest(found[:1])
    assert (only.source, only.verdict) == ("new", None)
    new["model"]["digest"] = "sha256:" + "0" * 64
    changed = list(replays([loaded.policy], [bundle(new, "new"), bundle(old, "old")], TODAY))
    ((other_files,),) = newest(changed)
    assert (other_files.source, other_files.verdict) == ("new", None)


@pytest.mark.parametrize(
    ("metric", "columns"),
    [
        ("mean_cosine", []),
        ("mean_cosine.per_class", ["label"]),
        ("ncc_accuracy", ["label"]),
        ("ncc_accuracy.env_gap", ["label", "group"]),
        ("group_probe_bacc", ["label", "group"]),
        ("probe_power.detectable", ["label", "group"]),
    ],
)
def test_another_column_stops_the_rules_that_read_it(tmp_path: Path, metric: str, columns: list[str]) -> None:
    probe = "probe: {uri: p.npz, columns: {input: x, label: y, group: g}}\n"
    reads = "reads: {logits: {path: head}}\n"
    loaded = policy(tmp_path, RULE.replace("effective_rank", metric) + LAYER + probe + reads)
    document = sample("passed")
    document["reads"] = {"logits": HEAD_OUTPUT}
    document["probe"]["columns"] = {"input": "x", "label": "other", "group": "another"}
    found = list(others(loaded.policy, loaded.policy.rules, document))
    named = {
        "label": "label: other, the policy has the column label: y",
        "group": "group: another, the policy has the column group: g",
    }
    assert found == [f"was measured with the column {named[key]}" for key in columns]


def test_a_baseline_that_was_absent_is_left_out_where_the_policy_says_so(tmp_path: Path) -> None:
    document = sample()
    asked = "models:/digits@c"
    document |= {"baseline": None, "baseline_reason": f"there is no baseline {asked}", "baseline_asked": asked}
    bound = RELATIVE.replace("relative", "min: 1, relative").replace("features:champion.npz", "@c")
    document["model"]["name"] = "digits"
    found = replayed(policy(tmp_path, bound.replace("WHEN", "skip_relative")), document)
    assert found.verdict is not None
    assert found.findings["r (relative)"].outcome == "not_evaluated"
    other = bound.replace("'@c'", "'@d'").replace("WHEN", "skip_relative")
    for text in (bound.replace("WHEN", "error"), other):
        assert replayed(policy(tmp_path, text), document).verdict is None
    for reason in ("no rule compares with the baseline", None):
        unasked = document | {"baseline_reason": reason, "baseline_asked": None, "notes": [reason]}
        assert replayed(policy(tmp_path, bound.replace("WHEN", "skip_relative")), unasked).verdict is None


def test_vectors_may_bring_a_probe_set_of_their_own_which_is_told(tmp_path: Path) -> None:
    text = RULE + LAYER + "probe: {uri: other.npz, columns: {id: id, input: pixels}}\n"
    found = replayed(policy(tmp_path, text), sample("passed", serialization="features"))
    assert found.obstacles == ()
    assert found.notes == ("measured on digits.npz; the policy names other.npz, and pins no digest",)


def test_a_pickle_is_not_replayed_by_a_policy_that_does_not_load_it(tmp_path: Path) -> None:
    document = sample("passed", serialization="pickle")
    allowing = policy(tmp_path, "run: {allow_pickle: true}\n" + RULE + LAYER)
    assert replayed(allowing, document).obstacles == ()
    (obstacle,) = replayed(policy(tmp_path, RULE + LAYER), document).obstacles
    assert obstacle == f"{document['model']['resolved']} is a pickle, which the policy does not load"


@pytest.mark.parametrize(
    ("metric", "more", "obstacle"),
    [
        (
            "knn_label_agreement.vote",
            {"sublabel": "fine"},
            "the column sublabel: fine, the policy has no column sublabel",
        ),
        ("effective_rank", {"sublabel": "fine"}, None),
        ("effective_rank", {"cluster": "site"}, "with the column cluster: site, the policy has no column cluster"),
    ],
)
def test_a_column_that_the_policy_does_not_have_made_another_number(
    tmp_path: Path, metric: str, more: dict[str, str], obstacle: str | None
) -> None:
    text = RULE.replace("effective_rank", metric) + PROBE.replace("LABEL", "digit").replace(", cluster: CLUSTER", "")
    loaded = policy(tmp_path, text + LAYER)
    document = sample("passed") | {"reads": {}}
    document["probe"]["columns"] |= more
    found = list(others(loaded.policy, loaded.policy.rules, document))
    assert len(found) == (obstacle is not None)
    assert all(obstacle is not None and obstacle in each for each in found), found


def test_outputs_that_the_policy_does_not_read_made_another_number(tmp_path: Path) -> None:
    text = RULE.replace("effective_rank", "ncc_head_disagreement") + LAYER
    loaded = policy(tmp_path, text)
    document = sample("passed") | {"reads": {"logits": HEAD_OUTPUT}}
    assert list(others(loaded.policy, loaded.policy.rules, document)) == [
        "logits of the model were read at 'head', pooling none; the policy reads none"
    ]


def test_slices_of_another_digest_are_other_slices(tmp_path: Path) -> None:
    text = RULE + LAYER + PROBE.replace("LABEL", "digit").replace(", cluster: CLUSTER", "")
    pinned = text.replace("uri: digits.npz", f"uri: digits.npz, slices_digest: 'sha256:{'1' * 64}'")
    document = sample("passed")
    for cut, count in ((f"sha256:{'1' * 64}", 0), (f"sha256:{'2' * 64}", 1), (None, 1)):
        document["probe"]["slices_digest"] = cut
        assert len(replayed(policy(tmp_path, pinned), document).obstacles) == count


def test_rows_of_another_shape_are_other_rows(tmp_path: Path) -> None:
    text = RULE + LAYER + PROBE.replace("LABEL", "digit").replace(", cluster: CLUSTER", "")
    document = sample("passed")
    document["probe"]["shape"] = [1, 8, 8]
    (obstacle,) = replayed(policy(tmp_path, text), document).obstacles
    assert obstacle == "was measured on rows of the shape [1, 8, 8], the policy has None"
    shaped = text.replace("uri: digits.npz", "uri: digits.npz, shape: [1, 8, 8]")
    assert replayed(policy(tmp_path, shaped), document).obstacles == ()


def test_which_version_an_alias_was_is_told(tmp_path: Path) -> None:
    document = recorded_baseline("models:/digits@champion", "models:/digits/3")
    rule = "rules:\n  - {id: r, metric: effective_rank, relative: {max_drop: 90%}}\n"
    found = replayed(policy(tmp_path, "baseline: {uri: '@champion'}\n" + rule), document)
    day = document["run"]["started"][:10]
    assert found.notes == (f"compared with models:/digits/3, which @champion was on {day}",)


def test_rules_that_can_be_judged_are_shown_beside_those_that_cannot(tmp_path: Path) -> None:
    text = (
        RULE.replace("min: 9", "min: 99")
        + "  - {id: n, metric: group_variance_share, layer: embedding, max: 1}\n"
        + LAYER
    )
    loaded = policy(tmp_path, text)
    (version,) = backtest(loaded, [replayed(loaded, sample("passed"))], TODAY)["versions"]
    assert [(each["before"], each["after"]) for each in version["changes"] if each["finding"] in ("rank", "n")] == [
        ("pass", "fail")
    ]


@pytest.mark.parametrize("more", ["", ", multiplicity: holm"])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.92, 0.95, 0.97, 0.99, 0.9999])
def test_of_all_intervals_those_are_read_that_are_judged(tmp_path: Path, confidence: float, more: str) -> None:
    evidence = sample()
    own_policy(tmp_path, evidence)
    text = (tmp_path / "compared.yaml").read_text(encoding="utf-8")
    (tmp_path / "compared.yaml").write_text(
        f"{text}defaults: {{confidence: {confidence}{more}{LOOSER}}}\n", encoding="utf-8"
    )
    loaded = load_policy(tmp_path / "compared.yaml")
    whole = judge(loaded.policy, measurements(evidence), occasion(evidence, TODAY))
    content = json.dumps(evidence).encode()
    for asked in (asked_by([loaded.policy]), Asked(asked_by([loaded.policy]).metrics)):
        assert judge(loaded.policy, measurements(bundles.document(content, asked)), occasion(evidence, TODAY)) == whole
    simple = loaded.policy.model_copy(update={"rules": loaded.policy.rules[:1]})
    kept = bundles.document(content, asked_by([simple]))["estimates"]
    levels = {0.92: {0.95}, 0.97: {0.975, 0.95}, 0.8: {0.9, 0.95}}.get(confidence, {confidence, 0.95})
    assert {len(each["intervals"]) for each in kept} == (
        {len(levels)} if not more else {len(evidence["estimates"][0]["intervals"])}
    )
    whole = judge(simple, measurements(evidence), occasion(evidence, TODAY))
    assert judge(simple, measurements({**evidence, "estimates": kept}), occasion(evidence, TODAY)) == whole


UNSOUND: list[object] = [float("nan"), float("inf"), None, True, "1", [], 1e9]


@pytest.mark.parametrize("value", UNSOUND, ids=str)
@pytest.mark.parametrize("key", ["value", "interval"])
def test_a_number_that_is_none_never_passes(tmp_path: Path, key: str, value: object) -> None:
    loaded = policy(tmp_path, RULE + LAYER)
    document = sample("passed")
    for estimate in document["estimates"]:
        if estimate["metric"] == "effective_rank":
            estimate[key] = value if key == "value" else [value, 1e10]
    found = replayed(loaded, document)
    assert found.verdict is None or found.verdict.status == "error"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not evidence in JSON"),
        (b"{", "is not evidence in JSON"),
        (b"[]", "its schema is None"),
        (b'{"schema": "gate.evidence/v1"}', "lacks"),
        (b'{"schema": "gate.evidence/v1", "a": NaN}', "is not evidence in JSON"),
        (b"\xff", "is not evidence in JSON"),
        (b"[" * 200_000, "is not evidence in JSON"),
    ],
)
def test_what_is_no_evidence_is_told_and_does_not_stop_the_others(tmp_path: Path, content: bytes, message: str) -> None:
    loaded = policy(tmp_path, RULE + LAYER)
    found = [only for (only,) in replays([loaded.policy], [bundle(content), bundle(sample("passed"))], TODAY)]
    assert [each.verdict is None for each in found] == [True, False]
    assert message in found[0].obstacles[0]
    assert exit_code(found) == 3
    assert backtest(loaded, found, TODAY)["versions"][0]["before"] is None


@pytest.mark.parametrize("metric", [[1], {}, None, 3])
def test_an_estimate_of_no_metric_is_the_obstacle_of_its_file(tmp_path: Path, metric: object) -> None:
    document = sample("passed")
    document["estimates"][1]["metric"] = metric
    loaded = policy(tmp_path, RULE + LAYER)
    found = [only for (only,) in replays([loaded.policy], [bundle(document), bundle(sample("passed"))], TODAY)]
    assert [each.verdict is None for each in found] == [True, False]
    assert f".metric is {metric!r}, expected a text" in found[0].obstacles[0]


def test_evidence_that_contradicts_itself_is_not_replayed(tmp_path: Path) -> None:
    document = sample("passed")
    document["results"].pop()
    assert "do not trust it" in replayed(policy(tmp_path, RULE + LAYER), document).obstacles[0]
    document = sample("passed")
    document["layers"] = [{"name": "embedding"}]
    assert "layers[0]" in replayed(policy(tmp_path, RULE + LAYER), document).obstacles[0]
    document = sample("passed")
    document["probe"]["columns"] = None
    assert "probe.columns" in replayed(policy(tmp_path, RULE + LAYER), document).obstacles[0]


def test_of_each_version_the_newest_evidence_counts_in_the_order_of_versions(tmp_path: Path) -> None:
    loaded = policy(tmp_path, RULE + LAYER)
    documents = [
        sample("passed", resolved=f"models:/digits/{version}", version=str(version)) for version in (10, 9, 9, 2)
    ]
    documents[2]["run"]["started"] = "2027-01-01T00:00:00+00:00"
    bundles = [bundle(each, f"{number}.json") for number, each in enumerate(documents)]
    found = in_order(newest(replays([loaded.policy], [*bundles, bundle(b"x", "broken")], TODAY)))
    assert [(each.model, each.source) for (each,) in found] == [
        ("broken", "broken"),
        ("models:/digits/2", "3.json"),
        ("models:/digits/9", "2.json"),
        ("models:/digits/10", "0.json"),
    ]


def test_other_probe_sets_are_told_of(tmp_path: Path) -> None:
    loaded = policy(tmp_path, RULE + LAYER)
    other = copy.deepcopy(sample("passed", resolved="models:/digits/3", version="3"))
    other["probe"]["digest"] = f"sha256:{'1' * 64}"
    found = [replayed(loaded, sample("passed")), replayed(loaded, other)]
    (note,) = backtest(loaded, found, TODAY)["notes"]
    assert note.startswith("2 different probe sets, whose numbers cannot be set against each other: sha256:")
    assert "(models:/digits/3)" in note
    assert backtest(loaded, found[:1], TODAY)["notes"] == []
    assert exit_code(found) == 0


def test_no_evidence_is_no_backtest(tmp_path: Path) -> None:
    with pytest.raises(NothingEvaluatedError, match="there is no evidence, so nothing was replayed"):
        backtest(policy(tmp_path, RULE + LAYER), [], TODAY)


def test_evidence_is_found_below_folders_by_how_it_begins(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "gate.json").write_text(json.dumps(sample()), encoding="utf-8")
    (inner / "cut.json").write_text('{"schema": "gate.evidence/v1", "sta', encoding="utf-8")
    (inner / "package.json").write_text("{}", encoding="utf-8")
    found = list(below([tmp_path, inner / "package.json"]))
    assert [Path(each.source).name for each in found] == ["cut.json", "gate.json", "package.json"]
    with pytest.raises(UsageError, match="there is no file or folder"):
        list(below([tmp_path / "none"]))
    (inner / "gate.json").unlink()
    with pytest.raises(GateError, match="cannot be read: No such file"):
        found[1].read()


@pytest.mark.parametrize("format_", ["text", "json", "markdown"])
def test_every_format_says_the_same_and_knows_its_own(tmp_path: Path, format_: str) -> None:
    loaded = policy(tmp_path, RULE.replace("min: 9", "min: 99") + LAYER)
    found = [replayed(loaded, sample("passed")), replayed(loaded, sample()), replayed(loaded, b"{")]
    shown = render(format_, backtest(loaded, found, TODAY))
    for said in ("models:/digits/1", "features:candidate.npz", "passed", "failed", "was not recorded", "gate check "):
        assert said in shown.replace("\\", "")
    assert is_report(shown, format_)
    assert not is_report("apiVersion: gate/v1\n", format_)
    assert is_report("", format_)


def test_names_from_models_and_policies_are_shown_and_do_nothing(tmp_path: Path) -> None:
    hostile = "a|b<script>\n`c` @octocat \x1b[2J"
    loaded = policy(tmp_path, RULE.replace("min: 9", "min: 99") + LAYER)
    document = backtest(loaded, [replayed(loaded, sample("passed", resolved=hostile, version=None))], TODAY)
    text, markdown = render("text", document), render("markdown", document)
    assert "\x1b" not in text + markdown
    assert "<script>" not in markdown
    (row,) = [line for line in markdown.splitlines() if "octocat" in line]
    assert row.count("|") - row.count("\\|") == 5
    assert "@octocat" not in markdown
