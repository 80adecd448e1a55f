"""What a policy may say, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gate.errors import PolicyError
from gate.policy.kinds import Margin
from gate.policy.loading import load_probe_spec
from gate.policy.rules import OwnBounds, slice_of
from gate.policy.schema import Policy
from gate.policy.transform import Transform

DIGEST = "sha256:" + "0a" * 32
ROLES = ("label", "group", "length", "id", "cluster", "sublabel")
WAIVER = {
    "rule": "rank",
    "model": "models:/encoder/41",
    "expires": "2027-03-31",
    "owner": "kenji@acme.example",
    "reason": "The tokenizer is new.",
}


def policy(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gate/v1",
        "kind": "Policy",
        "metadata": {"name": "encoder", "version": "1.0.0"},
        "rules": [{"id": "rank", "metric": "effective_rank", "min": 3}],
        **changes,
    }


def rule(**changes: Any) -> dict[str, Any]:
    return {"id": "rank", "metric": "effective_rank", "min": 3, **changes}


def faults(data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate(data)
    return {".".join(map(str, error["loc"])): error["msg"] for error in raised.value.errors()}


def test_everything_but_the_rules_has_the_defaults_of_the_design() -> None:
    read = Policy.model_validate(policy())
    assert (read.run.seed, read.run.precision, read.run.batch_size, read.run.isolation) == (
        0,
        "float32",
        "auto",
        "process",
    )
    assert (read.run.allow_pickle, read.run.allow_code) == (False, False)
    assert (read.run.seconds, read.run.bytes) == (3600.0, None)
    assert (read.defaults.confidence, read.defaults.inconclusive, read.defaults.severity) == (0.95, "block", "block")
    only = read.rules[0]
    assert (only.layer, only.min, only.max, only.severity, only.params) == ("output", 3.0, None, "block", {})
    assert (only.relative, only.slices, only.enforce_from, only.enabled, only.override) == (
        None,
        None,
        None,
        True,
        False,
    )
    assert (read.extends, read.scope.models, read.scope.aliases, read.waivers) == ((), ("*",), {}, ())
    assert (read.baseline, read.reads.given, read.defaults.multiplicity) == (None, {}, "none")


def test_a_whole_policy_is_read() -> None:
    read = Policy.model_validate(
        policy(
            probe={
                "uri": "p.parquet",
                "digest": DIGEST,
                "columns": {"input": ["a", "b"], "target": ["t", "u"], **dict(zip(ROLES, "ygnics", strict=True))},
                "shape": [1, 8, 8],
            },
            run={"seed": 7, "precision": "float32", "batch_size": 64, "allow_pickle": True, "isolation": "none"},
            layers={"embedding": {"path": "1", "pooling": "mean"}},
            rules=[rule(layer="embedding", max=9, why="w", fix="f", severity="warn")],
        )
    )
    assert read.probe is not None
    assert (read.probe.columns.input, read.probe.columns.target) == (("a", "b"), ("t", "u"))
    assert "".join(getattr(read.probe.columns, role) for role in ROLES) == "ygnics"
    assert read.probe.shape == (1, 8, 8)
    assert read.run.batch_size == 64
    assert (read.rules[0].layer, read.rules[0].max, read.rules[0].severity) == ("embedding", 9.0, "warn")


def test_the_rest_of_a_policy_is_read() -> None:
    slices = {"by": "language", "min": 2, "bounds": {"ja": {"min": 1}}, "required": ["en"], "worst_gap": {"max": 1}}
    read = Policy.model_validate(
        policy(
            scope={"models": ["text-*"], "aliases": {"challenger": "warn"}},
            reads={"logits": {"path": "output", "classes": ["cat", "dog"]}},
            layers={"embedding": {"path": "1"}},
            baseline={"uri": "@champion", "when_absent": "skip_relative", "layers": {"embedding": {"path": "2"}}},
            rules=[rule(layer="embedding", relative={"max_drop": "5%", "max_rise": 2}, slices=slices, paper="A 2020")],
            waivers=[{**WAIVER, "slices": {"language": "ja"}, "ticket": "RQ-204", "approver": "mai@acme.example"}],
        )
    )
    (only,), (waiver,) = read.rules, read.waivers
    assert only.relative is not None
    assert (only.relative.max_drop, only.relative.max_rise) == (Margin(5.0, percent=True), Margin(2.0, percent=False))
    assert only.slices is not None
    assert (only.slices.by, only.slices.min_rows, only.slices.required) == (("language",), 30, ("en",))
    assert only.slices.bounds_of((("language", "ja"),)) == (OwnBounds(min=1), ("bounds", "ja"))
    assert only.slices.bounds_of((("language", "en"),)) == (only.slices, ())
    assert read.reads.given["logits"].classes == ("cat", "dog")
    assert read.baseline is not None
    assert read.baseline.layers["embedding"].path == "2"
    assert (str(waiver.expires), waiver.slices, waiver.ticket) == ("2027-03-31", {"language": "ja"}, "RQ-204")


def test_the_default_severity_reaches_the_rules_that_name_none() -> None:
    rules = [rule(id="a"), rule(id="b", severity="block")]
    read = Policy.model_validate(policy(defaults={"severity": "warn"}, rules=rules))
    assert [each.severity for each in read.rules] == ["warn", "block"]


@pytest.mark.parametrize("bound", [True, "3", "0.5", nan, inf, -inf, [3], 10**400])
@pytest.mark.parametrize("key", ["min", "max"])
def test_a_bound_is_a_finite_number(key: str, bound: object) -> None:
    assert f"rules.0.{key}" in faults(policy(rules=[{"id": "r", "metric": "vci", key: bound}]))


def test_a_rule_without_a_bound_is_refused() -> None:
    found = faults(policy(rules=[{"id": "r", "metric": "vci"}]))
    assert found["rules.0"] == "needs at least one of `min`, `max`, `relative` and `slices`, found none"


@pytest.mark.parametrize(
    ("content", "where", "message"),
    [
        ({"relative": {}}, "relative", "needs at least one of `max_drop` and `max_rise`, found none"),
        ({"relative": {"to": "champion", "max_drop": 1}}, "relative.to", "Input should be 'baseline'"),
        ({"slices": {}}, "slices.by", "Field required"),
        ({"slices": {"by": "a"}}, "slices", "needs at least one of `min`, `max`, `bounds`, `relative` and `worst_gap`"),
        ({"slices": {"by": [], "min": 1}}, "slices.by", "should name at least one column"),
        (
            {"slices": {"by": "a", "min": 2, "max": 1}},
            "slices.max",
            "should be at least `min`, found min 2 and max 1",
        ),
        ({"slices": {"by": "a", "min": 1, "min_rows": 0}}, "slices.min_rows", "greater than or equal to 1"),
        ({"slices": {"by": "a", "worst_gap": {"max": -1}}}, "slices.worst_gap.max", "greater than or equal to 0"),
        ({"slices": {"by": "a", "worst_gap": {"max": nan}}}, "slices.worst_gap.max", "finite number"),
        (
            {"slices": {"by": "a", "bounds": {"x": {}}}},
            "slices.bounds.x",
            "needs at least one of `min` and `max`, found none",
        ),
        ({"slices": {"by": "a", "min": 1, "required": "en"}}, "slices.required", "valid tuple"),
        ({"slices": {"by": "a", "min": 1, "required": [3]}}, "slices.required.0", "valid string"),
        ({"slices": {"by": ["a", "b"], "min": 1, "required": ["a=1"]}}, "slices.required.0", "`a=VALUE, b=VALUE`"),
        ({"slices": {"by": ["a", "b"], "bounds": {"1": {"min": 1}}}}, "slices.bounds.1", "`a=VALUE, b=VALUE`"),
        (
            {"slices": {"by": "a", "bounds": {"x": {"min": 1}, "a=x": {"min": 0}}}},
            "slices.bounds.a=x",
            "'a=x' is the slice 'x' once more; keep one of the two",
        ),
        ({"enforce_from": "2027-1-15"}, "enforce_from", "should be a day such as 2027-01-31, found '2027-1-15'"),
        ({"enforce_from": "2027-02-30"}, "enforce_from", "should be a day such as 2027-01-31, found '2027-02-30'"),
        ({"enforce_from": 20270115}, "enforce_from", "should be a day such as 2027-01-31, found 20270115"),
        ({"enforce_from": datetime(2027, 1, 15, tzinfo=UTC)}, "enforce_from", "found 2027-01-15 00:00:00+00:00"),
        ({"min": 1, "override": True}, "override", "needs a `reason` beside it"),
        ({"min": 1, "override": "yes", "reason": "r"}, "override", "valid boolean"),
        ({"min": 1, "enabled": 0}, "enabled", "valid boolean"),
    ],
)
def test_what_a_rule_asks_for_is_whole(content: dict[str, Any], where: str, message: str) -> None:
    found = faults(policy(baseline={"uri": "@champion"}, rules=[{"id": "r", "metric": "effective_rank", **content}]))
    assert message in found[f"rules.0.{where}"]


@pytest.mark.parametrize(
    "margin",
    [
        "5",
        "five %",
        "-5%",
        "5%%",
        "% 5",
        ".5%",
        "5 percent",
        "",
        True,
        nan,
        inf,
        -0.1,
        10**400,
        [5],
        "9" * 400 + "%",
    ],
)
def test_a_margin_is_an_amount_or_a_percentage(margin: object) -> None:
    found = faults(
        policy(baseline={"uri": "@c"}, rules=[rule(relative={"to": "baseline", "max_drop": margin, "max_rise": 1})])
    )
    assert "should be a number of at least 0, or a percentage such as `5%`; found" in found["rules.0.relative.max_drop"]


@pytest.mark.parametrize(
    ("margin", "shown"), [(0, "0"), (0.02, "0.02"), ("5%", "5%"), ("0.5 %", "0.5%"), ("120%", "120%")]
)
def test_a_margin_is_shown_as_it_was_written(margin: object, shown: str) -> None:
    read = Policy.model_validate(policy(baseline={"uri": "@c"}, rules=[rule(relative={"max_drop": margin})]))
    assert read.rules[0].relative is not None
    assert str(read.rules[0].relative.max_drop) == shown


def test_a_percentage_is_one_of_the_size_of_the_baselines_value() -> None:
    assert Margin(5, percent=True).of(-80) == 4
    assert Margin(5, percent=False).of(-80) == 5


def test_a_slice_is_named_by_its_value_or_by_all_of_its_columns_in_any_order() -> None:
    assert slice_of(("language",), "ja") == slice_of(("language",), "language=ja") == (("language", "ja"),)
    assert slice_of(("language", "site"), "site=3, language=ja") == (("language", "ja"), ("site", "3"))
    assert slice_of(("language", "site"), "ja") is None
    assert slice_of(("language", "site"), "language=ja, language=de, site=3") is None
    assert slice_of(("language", "site"), "language=ja, site=3, day=1") is None


def test_min_above_max_is_refused_and_equal_bounds_are_not() -> None:
    assert "should be at least `min`, found min 3 and max 2" in faults(policy(rules=[rule(max=2)]))["rules.0.max"]
    assert Policy.model_validate(policy(rules=[rule(max=3)])).rules[0].max == 3.0


def test_rule_ids_are_unique() -> None:
    assert (
        faults(policy(rules=[rule(), rule()]))["rules.1.id"] == "'rank' is already the id of rules.0; give it another"
    )


def test_a_rule_names_a_layer_that_exists() -> None:
    layers = {"embedding": {"path": "1"}}
    found = faults(policy(layers=layers, rules=[rule(layer="embeding")]))
    assert found["rules.0.layer"] == "there is no layer 'embeding'. Did you mean `embedding`?"
    for built_in in ("input", "output"):
        assert Policy.model_validate(policy(rules=[rule(layer=built_in)])).rules[0].layer == built_in


def test_a_built_in_layer_cannot_be_redefined() -> None:
    assert "is the name of a built-in layer" in faults(policy(layers={"output": {"path": "1"}}))["layers.output"]


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ((), "extend"), (("metadata",), "tags"), (("scope",), "model"), (("run",), "threads"), (("defaults",), "alpha"),
        (("probe",), "expect"), (("probe", "columns"), "weight"), (("layers", "e"), "pool"),
        (("reads",), "gradients"),
        (("reads", "logits"), "class"), (("baseline",), "alias"), (("baseline", "layers", "e"), "pool"),
        (("rules", 0), "threshold"), (("rules", 0, "relative"), "max_loss"), (("rules", 0, "slices"), "column"),
        (("rules", 0, "slices", "relative"), "max_loss"), (("rules", 0, "slices", "worst_gap"), "min"),
        (("rules", 0, "slices", "bounds", "x"), "mni"), (("waivers", 0), "until"),
    ],
)  # fmt: skip
def test_keys_that_are_not_known_are_never_ignored(place: tuple[Any, ...], key: str) -> None:
    slices = {"by": "a", "bounds": {"x": {"min": 1}}, "relative": {"max_drop": 1}, "worst_gap": {"max": 1}}
    data = policy(
        **{name: {} for name in ("scope", "defaults", "run")},
        probe={"uri": "p.npz", "columns": {"input": "x"}},
        layers={"e": {"path": "1"}},
        reads={"logits": {"path": "output"}},
        baseline={"uri": "@champion", "layers": {"e": {"path": "1"}}},
        rules=[rule(relative={"max_drop": 1}, slices=slices)],
        waivers=[dict(WAIVER)],
    )
    Policy.model_validate(data)
    target: Any = data
    for part in place:
        target = target[part]
    target[key] = {"any": "thing"}
    assert ".".join(map(str, (*place, key))) in faults(data)


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ("run", {"precision": "float64"}),
        ("run", {"precision": "float16"}),
    ],
)
def test_values_of_later_versions_are_refused_by_name(block: str, content: dict[str, str]) -> None:
    ((key, value),) = content.items()
    assert f"'{value}' is not supported yet" in faults(policy(**{block: content}))[f"{block}.{key}"]


@pytest.mark.parametrize(
    ("block", "content", "where"),
    [
        ("run", {"seed": -1}, "run.seed"),
        ("run", {"seed": True}, "run.seed"),
        ("run", {"seed": 2**63}, "run.seed"),
        ("run", {"batch_size": 0}, "run.batch_size"),
        ("run", {"batch_size": 1_000_001}, "run.batch_size"),
        ("run", {"batch_size": True}, "run.batch_size"),
        ("run", {"batch_size": "all"}, "run.batch_size"),
        ("run", {"allow_pickle": "yes"}, "run.allow_pickle"),
        ("run", {"allow_pickle": 1}, "run.allow_pickle"),
        ("run", {"allow_code": "true"}, "run.allow_code"),
        ("run", {"isolation": "docker"}, "run.isolation"),
        ("run", {"timeout": 20}, "run.timeout"),
        ("run", {"timeout": "0s"}, "run.timeout"),
        ("run", {"timeout": "20 minutes"}, "run.timeout"),
        ("run", {"memory": "8"}, "run.memory"),
        ("run", {"memory": "8GiB"}, "run.memory"),
        ("defaults", {"confidence": 1.0}, "defaults.confidence"),
        ("defaults", {"confidence": 0.99991}, "defaults.confidence"),
        ("defaults", {"confidence": 95}, "defaults.confidence"),
        ("defaults", {"confidence": 0.05}, "defaults.confidence"),
        ("metadata", {"name": "a b", "version": "1"}, "metadata.name"),
        ("metadata", {"name": "a", "version": 3.1}, "metadata.version"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "digest": "sha256:12"}, "probe.digest"),
        ("probe", {"uri": "p", "columns": {"input": []}}, "probe.columns.input"),
        ("probe", {"uri": "p", "columns": {"input": ["a", "a"]}}, "probe.columns.input"),
        ("probe", {"uri": "p", "columns": {"input": 3}}, "probe.columns.input"),
        ("probe", {"uri": "p", "columns": {"input": "x", "cluster": ["a", "b"]}}, "probe.columns.cluster"),
        ("probe", {"uri": "p", "columns": {"input": "x", "sublabel": ""}}, "probe.columns.sublabel"),
        ("probe", {"uri": "p", "columns": {"input": "x", "target": []}}, "probe.columns.target"),
        ("probe", {"uri": "p", "columns": {"input": "x", "target": ["t", "t"]}}, "probe.columns.target"),
        ("probe", {"uri": "p", "columns": {"input": "x", "target": 3}}, "probe.columns.target"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "shape": [0]}, "probe.shape.0"),
        ("probe", {"uri": "p", "columns": {"input": "x", "pair": []}}, "probe.columns.pair"),
        ("probe", {"uri": "p", "columns": {"input": "x", "split": 3}}, "probe.columns.split"),
        ("probe", {"uri": "p", "columns": {"input": "x", "tasks": {}}}, "probe.columns.tasks"),
        ("probe", {"uri": "p", "columns": {"input": "x", "tasks": {"hue": 3}}}, "probe.columns.tasks"),
        ("probe", {"uri": "p", "columns": {"input": "x", "tasks": ["a", "a"]}}, "probe.columns.tasks"),
        ("probe", {"uri": "p", "columns": {"input": "x", "attributes": []}}, "probe.columns.attributes"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "transform": {"resize": 0}}, "probe.transform.resize"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "transform": {"crop": [3]}}, "probe.transform.crop"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "transform": {"channels": 4}}, "probe.transform.channels"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "transform": {"mean": [0.5]}}, "probe.transform"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "transform": {"std": [1, 1, 0]}}, "probe.transform.std.2"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "transform": {"scale": 0}}, "probe.transform.scale"),
        ("probe", {"uri": "s3://me:secret@b/p.csv", "columns": {"input": "x"}}, "probe.uri"),
        ("probe", {"uri": " ", "columns": {"input": "x"}}, "probe.uri"),
        ("layers", {"e": {"path": "1", "pooling": "avg"}}, "layers.e.pooling"),
        ("layers", {"e e": {"path": "1"}}, "layers.e e.[key]"),
        ("defaults", {"inconclusive": "ignore"}, "defaults.inconclusive"),
        ("defaults", {"multiplicity": "bonferroni"}, "defaults.multiplicity"),
        ("defaults", {"override": True}, "defaults.override"),
        ("scope", {"models": []}, "scope.models"),
        ("scope", {"models": "text-*"}, "scope.models"),
        ("scope", {"aliases": {"champion": "stop"}}, "scope.aliases.champion"),
        ("scope", {"aliases": {"champion": True}}, "scope.aliases.champion"),
        ("baseline", {}, "baseline.uri"),
        ("baseline", {"uri": "@c", "when_absent": "skip"}, "baseline.when_absent"),
        ("baseline", {"uri": "@c", "override": True}, "baseline.override"),
        ("reads", {"logits": "output"}, "reads.logits"),
        ("reads", {"logits": {"path": "output", "classes": [1, 2]}}, "reads.logits.classes.0"),
        ("extends", "embedding@1", "extends"),
        ("extends", [" "], "extends.0"),
    ],
)
def test_values_out_of_their_range_are_refused(block: str, content: dict[str, Any], where: str) -> None:
    assert where in faults(policy(**{block: content}))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("run.batch_size", "should be `auto` or a whole number of rows, from 1 to 1000000; found 0"),
        ("probe.columns.input", "should name at least one column, and none of them twice; found []"),
    ],
)
def test_a_refusal_says_what_was_found(where: str, message: str) -> None:
    data = policy(run={"batch_size": 0}, probe={"uri": "p", "columns": {"input": []}})
    assert message in faults(data)[where]


def test_a_column_may_be_named_or_left_out() -> None:
    for target, expected in (("t", "t"), (["t"], ("t",)), (None, None)):
        columns = {"input": "x", "cluster": None, "target": target}
        read = Policy.model_validate(policy(probe={"uri": "p", "columns": columns}))
        assert read.probe is not None
        assert (read.probe.columns.cluster, read.probe.columns.target) == (None, expected)


def test_columns_of_another_kind_are_refused_with_what_was_found() -> None:
    found = faults(policy(probe={"uri": "p", "columns": {"input": {"a": 1}}}))
    assert "should be the name of a column, or a list of such names; found {'a': 1}" in found["probe.columns.input"]


def test_an_unknown_metric_offers_the_nearest_one() -> None:
    found = faults(policy(rules=[rule(metric="effective_rnak")]))["rules.0.metric"]
    assert found.endswith("there is no metric 'effective_rnak'. Did you mean `effective_rank`?")


def test_the_largest_values_that_can_be_run_are_read() -> None:
    run, defaults = {"seed": 2**63 - 1, "batch_size": 1_000_000}, {"confidence": 0.9999}
    read = Policy.model_validate(policy(run=run, defaults=defaults))
    assert (read.run.seed, read.run.batch_size, read.defaults.confidence) == (2**63 - 1, 1_000_000, 0.9999)


@pytest.mark.parametrize("value", [True, nan, inf, 10**400, [1], {"a": 1}])
def test_a_parameter_is_a_finite_number_or_text(value: object) -> None:
    found = faults(policy(rules=[rule(metric="knn_label_agreement", params={"tau": value})]))
    assert "should be a finite number or text" in found["rules.0.params.tau"]


def test_a_policy_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Policy.model_validate(policy()).rules[0].min = 0.0


def test_columns_may_be_named_one_by_one_or_in_lists() -> None:
    columns = {"input": ["x", "text"], "pair": ["y", "other"], "tasks": ["a", "b"], "attributes": "c"}
    probe = Policy.model_validate(policy(probe={"uri": "p", "columns": columns})).probe
    assert probe is not None
    assert probe.columns.tasks == {"a": "a", "b": "b"}
    assert probe.columns.attributes == ("c",)
    assert probe.columns.given == {"input", "pair", "tasks", "attributes"}
    columns |= {"tasks": {"hue": "colour"}}  # type: ignore[dict-item]
    probe = Policy.model_validate(policy(probe={"uri": "p", "columns": columns})).probe
    assert probe is not None
    assert probe.columns.tasks == {"hue": "colour"}


def test_a_transform_has_the_defaults_of_its_page_and_says_what_is_wrong_with_it() -> None:
    def read(**transform: Any) -> Transform:
        probe = Policy.model_validate(
            policy(probe={"uri": "p", "columns": {"input": "x"}, "transform": transform})
        ).probe
        assert probe is not None
        assert probe.transform is not None
        return probe.transform

    assert read().model_dump(exclude_none=True) == {"channels": 3, "scale": 255, "interpolation": "bilinear"}
    assert (read(resize=256, crop=[224, 200]).resize, read(crop=[224, 200]).crop) == (256, (224, 200))
    data = {
        "uri": "p",
        "columns": {"input": "x"},
        "transform": {"channels": 1, "mean": [0.1, 0.2], "resize": [1, 99999]},
    }
    found = faults(policy(probe=data))["probe.transform.resize"]
    assert found == "Value error, should be a number of pixels, at most 16384, or [height, width]; found [1, 99999]"
    data["transform"] = {"channels": 1, "mean": [0.1, 0.2]}
    found = faults(policy(probe=data))["probe.transform"]
    assert found == "Value error, `mean` should have one number for each of 1 channels, found 2"


def test_a_policy_holds_no_password_and_its_refusal_neither(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("uri: https://me:secret@host/p.csv\ncolumns: {input: x}\n")
    with pytest.raises(
        PolicyError, match="holds a password, and every check keeps the policy in its evidence"
    ) as found:
        load_probe_spec(path)
    assert "secret" not in str(found.value)
    path.write_text("uri: sftp://me@host/a:b@c.csv\ncolumns: {input: x}\n")
    assert load_probe_spec(path).uri == "sftp://me@host/a:b@c.csv"
