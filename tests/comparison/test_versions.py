"""Two versions on the same rows, from files of vectors to the document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gate
from gate.errors import GateError, LayerError, UsageError
from gate.geometry import catalogue
from tests.comparison import files

ENTRIES = catalogue.load()
OPPOSITE = {"worse": "better", "better": "worse", "different": "different", "no_difference": "no_difference"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("versions")
    files.version(path, "a", files.healthy())
    files.version(path, "b", files.squeezed(files.healthy()))
    files.probe(path)
    return path


def compared(folder: Path, a: str = "a", b: str = "b", **options: Any) -> dict[str, Any]:
    uris = (f"features:{folder / a}.npy", f"features:{folder / b}.npy")
    return gate.compare(*uris, **{"probe": str(folder / "probe.yaml"), **options}).document


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """A and B, as they are compared by default; look, but change nothing."""
    return compared(folder)


@pytest.fixture(scope="module")
def long(folder: Path) -> dict[str, Any]:
    """The same with every read-out and with logits."""
    return compared(folder, long=True, reads={"logits": "output"})


def by_metric(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["metric"]: each for each in document["differences"]}


def test_a_difference_is_that_of_plain_arrays_with_a_baseline(folder: Path, found: dict[str, Any]) -> None:
    a, b = (np.load(folder / f"{name}.npy") for name in "ab")
    measured = gate.measure(b, baseline=a, labels=files.labels(), ids=files.ids())
    differences = by_metric(found)
    assert len(differences) > 10
    for metric, each in differences.items():
        change = measured[metric].change
        assert change is not None
        assert each["b"]["value"] == pytest.approx(measured[metric].value, rel=1e-6, abs=1e-9)
        assert each["difference"]["value"] == pytest.approx(change.value, rel=1e-5, abs=1e-7)
        assert each["difference"]["interval"] == pytest.approx(change.interval, rel=1e-4, abs=1e-6)
    assert differences["effective_rank"]["a"]["value"] == pytest.approx(
        gate.measure(a, metrics=["effective_rank"])["effective_rank"].value, rel=1e-6
    )


def test_the_other_way_round_everything_is_reversed(folder: Path, found: dict[str, Any]) -> None:
    there, back = by_metric(found), by_metric(compared(folder, "b", "a"))
    assert there.keys() == back.keys()
    assert {each["outcome"] for each in there.values()} >= {"worse", "different"}
    for metric, each in there.items():
        assert back[metric]["outcome"] == OPPOSITE[each["outcome"]], metric
        assert back[metric]["difference"]["value"] == pytest.approx(-each["difference"]["value"], abs=1e-12)
        assert (back[metric]["a"], back[metric]["b"]) == (each["b"], each["a"])


def test_an_outcome_follows_from_the_interval_and_the_direction_of_the_metric(long: dict[str, Any]) -> None:
    for each in long["differences"]:
        low, high = each["difference"]["interval"]
        name, _, readout = each["metric"].partition(".")
        better = ENTRIES[name].direction(readout or "value")
        if low <= 0 <= high:
            expected = "no_difference"
        elif better == "range":
            expected = "different"
        else:
            expected = "better" if (better, low > 0) in (("higher", True), ("lower", False)) else "worse"
        assert (each["outcome"], each["better"]) == (expected, better), each["metric"]


def test_what_changed_most_comes_first_within_each_outcome(long: dict[str, Any]) -> None:
    found = long["differences"]
    order = ("worse", "better", "different", "no_difference")
    assert [order.index(each["outcome"]) for each in found] == sorted(order.index(each["outcome"]) for each in found)
    for outcome in order:
        strengths = [
            abs(each["difference"]["value"]) / each["difference"]["standard_error"]
            for each in found
            if each["outcome"] == outcome and each["difference"]["standard_error"]
        ]
        assert strengths == sorted(strengths, reverse=True)


def test_paired_intervals_are_narrower_than_those_of_unrelated_rows(folder: Path) -> None:
    files.version(
        folder, "near", files.healthy() + np.random.default_rng(1).normal(size=(files.ROWS, files.WIDTH)) / 20
    )
    each = by_metric(compared(folder, b="near"))["effective_rank"]
    half = {key: np.diff(each[key]["interval"])[0] / 2 for key in ("a", "b", "difference")}
    assert half["difference"] < 0.5 * np.hypot(half["a"], half["b"])


def test_every_metric_is_compared_or_says_why_not(found: dict[str, Any]) -> None:
    document = found
    entries = [*document["differences"], *document["between"], *document["not_compared"]]
    assert sorted(each["metric"] for each in entries) == sorted(catalogue.load())
    between = {each["metric"] for each in document["between"]}
    assert {"cka_debiased", "knn_overlap", "backward_map_r2", "cross_compat_gain"} <= between
    reasons = {each["metric"]: each["reason"] for each in document["not_compared"]}
    assert reasons["negative_flip_rate"] == "missing_input: it needs logits"
    assert reasons["mahalanobis_ood_auroc"] == "missing_input: it needs ood and reference"
    assert reasons["nrc1"] == "missing_input: it needs targets"
    assert document["counts"]["not_compared"] == len(reasons)


def test_outputs_that_are_read_add_what_compares_predictions(folder: Path) -> None:
    document = compared(folder, reads={"logits": "output"})
    assert {"function_space_distance", "negative_flip_rate"} <= {each["metric"] for each in document["between"]}
    assert "ece" in by_metric(document)
    assert document["reads"] == {"logits": {"path": "output", "pooling": "none"}}


def test_read_outs_are_compared_on_request_and_those_of_two_versions_stand_apart(
    long: dict[str, Any], found: dict[str, Any]
) -> None:
    assert {"effective_rank.share", "collapse_index.cone"} <= by_metric(long).keys()
    between = {each["metric"] for each in long["between"]}
    assert {"knn_overlap.raw", "prediction_entropy_ratio.entropy_shift"} <= between
    assert not any("." in metric for metric in by_metric(found))


def test_of_all_read_outs_those_that_can_be_asked_are_and_the_others_say_what_they_need(long: dict[str, Any]) -> None:
    entries = [*long["differences"], *long["between"], *long["not_compared"]]
    names = {each["metric"] for each in entries}
    reasons = {each["metric"]: each["reason"] for each in long["not_compared"]}
    for name, entry in ENTRIES.items():
        addresses = {f"{name}.{readout}" for readout in entry.readouts}
        assert addresses <= names or (name in reasons and not addresses & names), name
    assert reasons["ridge_probe_accuracy.pretext"] == "missing_input: it needs pretext"
    assert reasons["ridge_probe_accuracy.r2"] == "missing_input: it needs targets"
    assert reasons["group_variance_share"] == reasons["group_variance_share.raw"] == "missing_input: it needs groups"


def test_a_read_out_is_compared_though_the_value_of_its_metric_lacks_an_input(folder: Path) -> None:
    spec = folder / "targets.yaml"
    values = files.healthy()[:, 0] + np.random.default_rng(3).normal(size=files.ROWS) / 10
    np.savez(folder / "targets.npz", x=files.healthy().astype(np.float32), id=files.ids(), target=values)
    spec.write_text(f"uri: {folder / 'targets.npz'}\ncolumns: {{input: x, id: id, target: target}}\n")
    document = compared(folder, probe=str(spec), long=True)
    assert "ridge_probe_accuracy.r2" in by_metric(document)
    reasons = {each["metric"]: each["reason"] for each in document["not_compared"]}
    assert reasons["ridge_probe_accuracy"] == "missing_input: it needs labels"


def test_what_is_the_same_at_every_layer_is_said_once(folder: Path, found: dict[str, Any]) -> None:
    document = compared(folder, layers={"one": "output", "two": "input"})
    assert document["layers"] == {
        "one": {"path": "output", "pooling": "none"},
        "two": {"path": "input", "pooling": "none"},
    }
    assert {each["layer"] for each in document["differences"]} == {None}  # a file of vectors has one layer
    assert by_metric(document).keys() == by_metric(found).keys()
    assert {each["layer"] for each in found["differences"]} == {"output"}


def test_a_policy_gives_probe_layers_parameters_and_level(folder: Path) -> None:
    policy = folder / "policy.yaml"
    policy.write_text(
        "apiVersion: gate/v1\nkind: Policy\nmetadata: {name: own, version: '3'}\n"
        f"probe: {{uri: {folder / 'probe.npz'}, columns: {{input: x, label: label, id: id}}}}\n"
        "scope: {models: [something-else]}\n"
        "layers: {vectors: {path: output}}\ndefaults: {confidence: 0.9}\n"
        "rules:\n"
        "  - {id: a, metric: knn_label_agreement, layer: vectors, min: 1, params: {k: 5}}\n"
        "  - {id: b, metric: knn_label_agreement.raw, layer: vectors, min: 1, params: {k: 3}}\n"
        "  - {id: c, metric: effective_rank, layer: vectors, min: 999}\n"
    )
    document = compared(folder, probe=None, policy=str(policy))
    assert (document["policy"], list(document["layers"])) == ("own@3", ["vectors"])
    neighbours = [each for each in document["differences"] if each["metric"] == "knn_label_agreement"]
    assert sorted(each["params"]["k"] for each in neighbours) == [3, 5]
    assert {each["difference"]["confidence"] for each in document["differences"]} == {0.9}
    assert list(compared(folder, policy=str(policy), layers={"mine": "output"})["layers"]) == ["mine"]


def test_differences_that_hold_at_once_are_fewer_and_wider(folder: Path) -> None:
    rows = files.healthy() * np.linspace(1, 1.06, files.WIDTH)
    files.version(folder, "mild", rows + np.random.default_rng(2).normal(size=rows.shape) / 4)
    alone = compared(folder, b="mild", long=True)
    at_once = compared(folder, b="mild", long=True, multiplicity="holm")
    assert at_once["counts"]["no_difference"] > alone["counts"]["no_difference"]
    assert at_once["multiplicity"] == "holm"
    widths = {each["metric"]: np.diff(each["difference"]["interval"])[0] for each in alone["differences"]}
    assert all(np.diff(each["difference"]["interval"])[0] >= widths[each["metric"]] for each in at_once["differences"])
    strictest = max(each["difference"]["confidence"] for each in at_once["differences"])
    assert 0.95 < strictest < 1


def test_the_rows_that_drive_a_change_push_it_to_the_side_that_it_went_to(found: dict[str, Any]) -> None:
    for each in found["differences"]:
        for row in each["rows"]:
            assert row["influence"] * each["difference"]["value"] > 0
            assert row["id"] in files.ids()
    rank = by_metric(found)["effective_rank"]["rows"]
    assert len(rank) == 20
    assert [abs(row["influence"]) for row in rank] == sorted((abs(row["influence"]) for row in rank), reverse=True)


def test_the_document_is_json_without_nan(folder: Path, long: dict[str, Any]) -> None:
    document = long
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "gate.comparison/v1"
    assert (document["a"]["resolved"], document["probe"]["rows"]) == (f"features:{folder / 'a.npy'}", files.ROWS)
    outcomes = [each["outcome"] for each in document["differences"]]
    assert {each: outcomes.count(each) for each in OPPOSITE} | {
        "not_compared": len(document["not_compared"])
    } == document["counts"]


def test_the_same_version_twice_is_refused(folder: Path) -> None:
    (folder / "copy.npy").write_bytes((folder / "a.npy").read_bytes())
    with pytest.raises(
        UsageError,
        match=r"a\.npy and features:.*copy\.npy are the same version, there is nothing to compare; name two",
    ):
        compared(folder, b="copy")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"probe": None}, UsageError, "no rows to compare on"),
        ({"layers": {"output": "x"}}, UsageError, "layers.output: is the name of a built-in layer"),
        (
            {"layers": {"x": "output:avg"}},
            UsageError,
            r"layers.x.pooling: should be `none`.*`spatial_mean`, found 'avg'",
        ),
        (
            {"reads": {"logit": "output"}},
            UsageError,
            "reads.logit: there is no key `logit`. Did you mean `logits`",
        ),
        ({"layers": {"x": "deep"}}, LayerError, "has no layer 'deep'"),
        ({"a": "missing"}, GateError, "no such file"),
        ({"b": "broken"}, GateError, "not finite|nonfinite"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    folder: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    broken = files.healthy()
    broken[7, 3] = np.nan
    files.version(folder, "broken", broken)
    with pytest.raises(error, match=match):
        compared(folder, **options)


def test_nothing_to_compare_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "load", lambda: {"nrc1": ENTRIES["nrc1"]})
    with pytest.raises(GateError, match=r"no number of .* could be compared: missing_input: it needs targets"):
        compared(folder)
