"""From versions to a policy that the gate reads: what it says, and what it does."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gate
from gate.calibration import calibrate
from gate.calibration.asking import of_a_policy
from gate.calibration.levels import widest
from gate.calibration.outcome import Calibration
from gate.errors import GateError, MetricError, NothingEvaluatedError, UsageError
from gate.evaluation import check
from gate.policy.loading import LoadedPolicy, load_policy, load_probe_spec
from tests.calibration import versions

HEAD = "apiVersion: gate/v1\nkind: Policy\nmetadata: {name: mine, version: '3.0'}\n"
LIKE = f"""\
{HEAD}
scope: {{models: ["*"]}}
baseline: {{uri: "@champion", when_absent: skip_relative}}
waivers:
  - {{rule: rank, model: "models:/x/1", owner: me@x.example, expires: 2099-01-01, reason: "it was agreed so"}}
rules:
  - {{id: rank, metric: effective_rank.share, min: 0.1, severity: warn, why: "few: so # what", fix: Look., paper: Mine}}
  - {{id: near, metric: knn_label_agreement, min: 0.1, max: 1, params: {{k: 5}}, relative: {{max_drop: 5%}}}}
  - {{id: drop, metric: effective_rank, relative: {{max_drop: 2}}, why: As before.}}
  - {{id: alike, metric: cka_debiased, min: 0.5}}
  - {{id: flat, metric: dead_unit_share, max: 1, slices: {{by: [label], max: 0.9}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrate")


@pytest.fixture(scope="module")
def probe(folder: Path) -> Path:
    return versions.probe(folder)


@pytest.fixture(scope="module")
def good(folder: Path) -> list[str]:
    return [versions.good(folder, seed) for seed in range(6)]


@pytest.fixture(scope="module")
def bad(folder: Path) -> list[str]:
    return [versions.bad(folder, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def found(good: list[str], bad: list[str], probe: Path) -> Calibration:
    return calibrate(good, bad=bad[:1], probe=probe, name="clouds")


def loaded(text: str, folder: Path) -> LoadedPolicy:
    path = folder / "written.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def edges(found: Calibration) -> dict[str, float]:
    return {each.candidate.rule.id: each.bounds[0].edge for each in found.rules}


def test_the_text_is_the_policy(found: Calibration, tmp_path: Path) -> None:
    policy = loaded(found.text, tmp_path).policy
    assert policy == found.policy
    assert policy.metadata.name == "clouds"
    assert {rule.layer for rule in policy.rules} == {"output"}
    assert all(rule.why and rule.fix and rule.paper for rule in policy.rules)
    assert not [line for line in found.text.splitlines() if line != line.rstrip() or len(line) > 125]


def test_the_probe_set_is_pinned_by_its_content(found: Calibration, tmp_path: Path) -> None:
    policy = loaded(found.text, tmp_path).policy
    assert policy.probe is not None
    assert policy.probe.digest == found.good[0].probe_digest
    assert policy.probe.columns.label == "label"


def test_every_bound_says_where_it_comes_from(found: Calibration) -> None:
    for proposal in found.rules:
        rule = found.text.split(f"- id: {proposal.candidate.rule.id}\n")[1].split("- id: ")[0]
        assert re.search(r"# good: .*; mean \S+, spread \S+, half-width \S+", rule)
        assert len(re.findall(r"# (?:lower|upper) ends", rule)) == len(proposal.bounds)
        assert re.search(r"# bad: \S+ \(bad-0.npz, (?:not )?caught\)", rule)
    assert f"{found.shares.bounds} bounds were considered" in found.text
    assert all(each.candidate.rule.id in found.text.split("Left out:")[1] for each in found.left_out)


def test_the_versions_that_it_comes_from_pass_and_fail_through_the_whole_gate(
    found: Calibration, good: list[str], bad: list[str], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(found.text, encoding="utf-8")
    assert [check(uri, policy=path).document["status"] for uri in [good[0], versions.good(folder, 50)]] == [
        "passed"
    ] * 2
    assert [check(uri, policy=path).document["status"] for uri in bad] == ["failed"] * 2
    for version in (*found.good, *found.bad):
        document = check(version.uri, policy=path).document
        judgement = found.judgement(version)
        assert document["status"] == judgement.verdict.status
        assert [each["status"] for each in document["results"]] == [each.status for each in judgement.findings]


def test_the_report_shows_which_bad_version_each_rule_would_have_caught(found: Calibration) -> None:
    table = found.report.split("bad versions:")[1]
    for proposal in found.rules:
        said = re.search(rf"^  {proposal.candidate.rule.id} +(\S+)", table, flags=re.MULTILINE)
        assert said is not None
        assert (said.group(1) == "caught") == proposal.caught[0]
    assert re.search(r"^  the whole policy +failed$", table, flags=re.MULTILINE)
    assert "warning" not in found.report


def test_a_bad_version_that_no_rule_tells_apart_is_warned_of(good: list[str], probe: Path, folder: Path) -> None:
    like_a_good_one = versions.good(folder, 60)
    found = calibrate(good, bad=[like_a_good_one], probe=probe)
    assert f"warning: no rule tells features:{folder / 'good-60.npz'} from the good versions" in found.report
    assert found.rules
    assert "tell none of the bad versions apart" in found.report


def test_one_version_says_plainly_that_it_is_too_thin(good: list[str], probe: Path) -> None:
    found = calibrate(good[:1], probe=probe)
    for text in (found.text, found.report):
        assert "TOO THIN: one good version." in text
        assert "variation" in text
        assert "Calibrate on 5 good versions or more" in text
    assert "sampling error" in found.text
    assert "assurance" not in found.text  # nothing is promised


def test_few_versions_are_too_thin_and_say_how_wide_that_makes_the_bounds(good: list[str], probe: Path) -> None:
    found = calibrate(good[:3], probe=probe)
    assert "TOO THIN: 3 good versions" in found.text
    assert f"{found.shares.factor:.3g} spreads from the mean" in " ".join(found.text.replace("#", "").split())
    assert "TOO THIN" not in calibrate(good[:5], probe=probe).text


def test_like_a_policy_takes_its_rules_and_words_and_sets_the_bounds_anew(
    good: list[str], probe: Path, tmp_path: Path
) -> None:
    path = tmp_path / "like.yaml"
    path.write_text(LIKE, encoding="utf-8")
    found = calibrate(good, probe=probe, like=path)
    policy = loaded(found.text, tmp_path).policy
    rules = {rule.id: rule for rule in policy.rules}
    assert policy.metadata.name == "mine"
    assert policy.waivers == ()
    assert (rules["rank"].severity, rules["rank"].why, rules["rank"].paper) == ("warn", "few: so # what", "Mine")
    assert rules["rank"].min != 0.1
    assert rules["rank"].max is None
    assert rules["near"].params == {"k": 5}
    assert str(rules["near"].relative and rules["near"].relative.max_drop) == "5%"
    assert rules["drop"].relative is not None
    assert rules["alike"].min == 0.5
    assert found.asked.like is not None
    assert "not calibrated, copied as they were:" in found.report
    assert "Its waivers were for other bounds" in found.text


def test_what_cannot_be_bounded_of_a_rule_keeps_the_rest_of_it(good: list[str], probe: Path, tmp_path: Path) -> None:
    path = tmp_path / "like.yaml"
    path.write_text(LIKE, encoding="utf-8")
    found = calibrate(good, probe=probe, like=path)
    left_out = {each.candidate.rule.id for each in found.left_out}
    assert "flat" in left_out  # too few rows for it to answer
    flat = next(rule for rule in loaded(found.text, tmp_path).policy.rules if rule.id == "flat")
    assert flat.max is None
    assert flat.slices is not None


def test_the_rules_of_a_pack_are_measured_at_the_layer_that_is_named(good: list[str], probe: Path) -> None:
    found = calibrate(good, probe=probe, like="embedding", layers={"embedding": "output"})
    assert {rule.id for rule in found.policy.rules} <= {rule.id for rule in load_policy("embedding").policy.rules}
    assert found.policy.layers["embedding"].path == "output"
    with pytest.raises(
        UsageError, match="--layer deep: no rule of embedding is about that layer; there are: embedding"
    ):
        calibrate(good, probe=probe, like="embedding", layers={"deep": "output"})


def test_with_holm_the_bounds_leave_room_for_its_wider_intervals(good: list[str], probe: Path, tmp_path: Path) -> None:
    path = tmp_path / "like.yaml"
    rules = "rules:\n" + "".join(
        f"  - {{id: {name}, metric: {name}, min: 0.001}}\n" for name in ("effective_rank", "ncc_accuracy")
    )
    path.write_text(HEAD + rules, encoding="utf-8")
    plain = edges(calibrate(good, probe=probe, like=path))
    path.write_text(f"{HEAD}defaults: {{multiplicity: holm}}\n{rules}", encoding="utf-8")
    wide = edges(calibrate(good, probe=probe, like=path))
    assert wide.keys() == plain.keys()
    assert all(wide[name] < plain[name] for name in plain)


def test_with_holm_everything_counts_that_the_rules_ask_for(good: list[str], probe: Path, tmp_path: Path) -> None:
    path = tmp_path / "like.yaml"
    path.write_text(
        f"""{HEAD}
baseline: {{uri: "{good[1]}"}}
defaults: {{multiplicity: holm}}
rules:
  - {{id: rank, metric: effective_rank, min: 0.001, max: 900, relative: {{max_drop: 99%}}}}
  - {{id: near, metric: knn_label_agreement, min: 0.001}}
  - id: sliced
    metric: participation_ratio
    min: 0.001
    slices: {{by: [site], min: 0.001, relative: {{max_drop: 99%}}, worst_gap: {{max: 900}}}}
  - {{id: alike, metric: knn_overlap, min: 0.001}}
""",
        encoding="utf-8",
    )
    rows = dict(np.load(probe.with_name("probe.npz")))
    np.savez(tmp_path / "probe.npz", **rows, site=np.repeat(["a", "b", "few"], [150, 140, 10]))
    spec = tmp_path / "probe.yaml"
    spec.write_text(probe.read_text(encoding="utf-8").replace(str(probe.parent), str(tmp_path)), encoding="utf-8")
    level = widest(of_a_policy(load_policy(path), load_probe_spec(spec), {}, {}))
    asked = check(good[0], policy=path, probe=str(spec)).document["results"]
    judged = [each for each in asked if each["status"] != "not_evaluated"]
    assert level == pytest.approx(1 - 0.05 / len(judged))
    assert {each["check"] for each in judged} == {"bound", "relative", "worst_gap"}
    assert len(judged) == 10
    assert len(asked) == 11  # and a slice of too few rows


def test_a_policy_that_would_not_be_valid_is_not_written(good: list[str], probe: Path, tmp_path: Path) -> None:
    path = tmp_path / "like.yaml"
    rules = "rules:\n  - {id: rank, metric: effective_rank, min: 0.001}\n"
    needing = "  - {id: gap, metric: max_class_regression, max: 1}\n"
    given = "baseline: {uri: '@champion'}\nreads: {logits: {path: output}}\n"
    path.write_text(f"{HEAD}{given}{rules}{needing}", encoding="utf-8")
    bare = tmp_path / "probe.yaml"
    bare.write_text(probe.read_text(encoding="utf-8").replace("label: label, ", ""), encoding="utf-8")
    with pytest.raises(UsageError, match=r"the policy would not be valid: .*add `label: NAME` .*; mend what --like"):
        calibrate(good, probe=bare, like=path)


def test_several_layers_are_told_apart_by_the_ids_of_their_rules(good: list[str], probe: Path) -> None:
    found = calibrate(good[:5], probe=probe, layers={"one": "output", "two": "input"})
    assert {rule.layer for rule in found.policy.rules} == {"one", "two"}
    assert all(rule.id.startswith(f"{rule.layer}-") for rule in found.policy.rules)


def test_the_same_model_does_not_count_twice(good: list[str], probe: Path, folder: Path) -> None:
    copy = folder / "copy.npz"
    shutil.copy(good[0].removeprefix("features:"), copy)
    with pytest.raises(UsageError, match="hold the same files: one training counts once"):
        calibrate([good[0], f"features:{copy}"], probe=probe)
    with pytest.raises(UsageError, match="hold the same files"):
        calibrate([good[0]], bad=[f"features:{copy}"], probe=probe)


def test_a_message_names_the_version_that_it_is_about(good: list[str], probe: Path, folder: Path) -> None:
    np.savez(folder / "nan.npz", features=np.full((versions.ROWS, 3), np.nan, dtype=np.float32))
    with pytest.raises(MetricError, match=r"^features:.*nan\.npz: layer 'output': nonfinite_rows"):
        calibrate([*good[:2], f"features:{folder / 'nan.npz'}"], probe=probe)
    with pytest.raises(GateError, match=r"missing\.npz"):
        calibrate([f"features:{folder / 'missing.npz'}"], probe=probe)


def test_nothing_to_bound_is_no_policy(good: list[str], probe: Path, tmp_path: Path) -> None:
    path = tmp_path / "like.yaml"
    path.write_text(f"{HEAD}rules:\n  - {{id: flat, metric: dead_unit_share, max: 1}}\n", encoding="utf-8")
    with pytest.raises(NothingEvaluatedError, match=r"no rule can be bounded by 2 good versions, .*flat: good-0"):
        calibrate(good[:2], probe=probe, like=path)
    path.write_text(
        f"{HEAD}baseline: {{uri: '@champion'}}\nrules:\n"
        "  - {id: drop, metric: effective_rank, relative: {max_drop: 2}}\n",
        encoding="utf-8",
    )
    with pytest.raises(NothingEvaluatedError, match="no rule of it has a `min` or a `max` that could be set anew"):
        calibrate(good[:2], probe=probe, like=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_alarm": 0.0}, "the false-alarm rate must lie between 0 and 0.5, found 0.0"),
        ({"false_alarm": 0.5}, "the false-alarm rate must lie between 0 and 0.5, found 0.5"),
        ({"false_alarm": float("nan")}, "the false-alarm rate must lie between 0 and 0.5"),
        ({"assurance": 1.0}, "the assurance must lie between 0 and 1, found 1.0"),
        ({"name": "two words"}, "a policy cannot be called 'two words'"),
        ({"probe": None}, "no probe set was named"),
        ({"layers": {"a": "output:middle"}}, "layers.a.pooling: should be `none`"),
        ({"layers": {"a b": "output"}}, "layers.a b"),
        ({"layers": {"output": "output"}}, "layers.output"),
        ({"reads": {"nothing": "output"}}, "reads.nothing"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    options: dict[str, object], message: str, good: list[str], probe: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        calibrate(good, **{"probe": probe, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("registered", "title"), [("digits", "digits"), ("my model", "my-model"), ("(x)", "x"), ("é", "calibrated")]
)
def test_a_policy_is_called_as_the_registered_model_as_far_as_that_can_be(
    found: Calibration, registered: str, title: str
) -> None:
    named = replace(found, name=None, good=(replace(found.good[0], name=registered), *found.good[1:]))
    assert named.title == title
    assert replace(named, name=None).policy.metadata.name == title


def test_no_version_at_all_is_refused(probe: Path) -> None:
    with pytest.raises(UsageError, match="no good version was named"):
        calibrate([], probe=probe)


def test_rules_that_need_labels_are_refused_without(good: list[str], tmp_path: Path) -> None:
    bare = versions.probe(tmp_path, label=False)
    with pytest.raises(UsageError, match="needs `label` of the probe set"):
        calibrate(good, probe=bare, like="embedding", layers={"embedding": "output"})
    assert "ncc-accuracy" not in calibrate(good, probe=bare).text


def test_a_notebook_calibrates_by_the_same_name() -> None:
    assert gate.calibrate is calibrate
