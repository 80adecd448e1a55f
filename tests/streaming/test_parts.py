"""Batches taken apart by layer, by model and by slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gate.errors import ProbeError
from gate.geometry.statistics import Batch
from gate.policy.schema import Probe
from gate.questions import Part
from gate.streaming import MOST_SLICES
from tests.streaming.made import OUTPUT, outputs, plan, probe, stream, vectors, written


def cut(*by: str, **keys: Any) -> dict[str, Any]:
    return {"metric": "effective_rank", "slices": {"by": list(by), "min": 0, **keys}}


def of_slice(found: list[dict[Part, Batch]], part: Part) -> list[str]:
    return [name for batch in found if part in batch for name in batch[part].ids]


def test_clusters_sublabels_and_targets_reach_the_rows(tmp_path: Path) -> None:
    x, count = np.ones((10, 3), dtype=np.float32), np.arange(10)
    path = written(tmp_path / "m.npz", x=x, patient=count // 4, fine=count % 3, dose=count / 2, score=count)
    columns: Any = {"input": "x", "cluster": "patient", "sublabel": "fine", "target": ["dose", "score"]}
    batches = outputs(path, Probe.model_validate({"uri": str(path), "columns": columns}))
    assert batches[0].class_codes("sublabels").names == ("0", "1", "2")
    assert torch.cat([batch.numbers("targets") for batch in batches])[:, 0].tolist() == [row / 2 for row in range(10)]
    clusters = torch.cat([batch.numbers("clusters") for batch in batches])
    assert clusters.unique_consecutive(return_counts=True)[1].tolist() == [4, 4, 2]  # across the borders of batches


def test_every_row_is_in_one_slice_of_each_cut_and_a_batch_may_lack_a_slice(tmp_path: Path) -> None:
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    languages, sites = list("aaaabbbbca"), list("1212121211")
    ids = [f"r{row}" for row in range(10)]
    path = written(tmp_path / "p.npz", x=x, id=ids, language=languages, site=sites, patient=[0] * 5 + [1] * 5)
    asked = plan(cut("language"), cut("language", "site"))
    found = stream(path, probe(path, input="x", id="id", cluster="patient"), asked)
    parts = {part for batch in found for part in batch}
    assert {part.slice for part in parts if len(part.slice) == 1} == {(("language", name),) for name in "abc"}
    assert len({part.slice for part in parts if len(part.slice) == 2}) == 5
    assert [Part("output", slice=(("language", "b"),)) in batch for batch in found] == [False, True, False]
    for part in parts - {OUTPUT}:
        wanted = [
            row
            for row in range(10)
            if all({"language": languages, "site": sites}[column][row] == value for column, value in part.slice)
        ]
        assert of_slice(found, part) == [ids[row] for row in wanted]
        features = torch.cat([batch[part].features for batch in found if part in batch])
        assert torch.equal(features, torch.from_numpy(x[wanted]))
        clusters = torch.cat([batch[part].numbers("clusters") for batch in found if part in batch])
        assert len(clusters.unique()) == len({row // 5 for row in wanted})  # the same cluster in every slice


def test_a_slice_has_the_classes_of_its_own_rows(tmp_path: Path) -> None:
    x = np.ones((8, 3), dtype=np.float32)
    path = written(tmp_path / "p.npz", x=x, y=list("abababca"), site=list("11112222"))
    found = stream(path, probe(path, input="x", label="y"), plan(cut("site")), batch_size=8)[0]
    assert found[OUTPUT].class_codes().names == ("a", "b", "c")
    for site, labels in (("1", "abab"), ("2", "abca")):
        codes = found[Part("output", slice=(("site", site),))].class_codes()
        assert [codes.names[code] for code in codes.values.tolist()] == list(labels)
        assert codes.names == tuple(sorted(set(labels)))


def test_layers_are_cut_only_as_their_own_rules_ask(tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", x=np.ones((8, 3), dtype=np.float32), site=list("11112222"))
    asked = plan(cut("site"), {"metric": "effective_rank", "layer": "input", "min": 0})
    found = stream(path, probe(path, input="x"), asked, batch_size=8)[0]
    assert {part.layer for part in found if part.slice} == {"output"}
    assert Part("input") in found


@pytest.mark.parametrize(
    ("keys", "slices"), [({"relative": {"max_drop": 1}}, True), ({}, False)], ids=["compared", "not compared"]
)
def test_the_baseline_is_cut_where_slices_are_compared(tmp_path: Path, keys: dict[str, Any], slices: bool) -> None:
    x = np.ones((8, 3), dtype=np.float32)
    path = written(tmp_path / "p.npz", x=x, site=list("11112222"))
    earlier = vectors(written(tmp_path / "v.npz", features=x))
    asked = plan({**cut("site", **keys), "relative": {"max_drop": 1}})
    found = stream(torch.nn.Identity(), probe(path, input="x"), asked, earlier, batch_size=8)[0]
    assert Part("output", "baseline") in found
    assert (Part("output", "baseline", (("site", "2"),)) in found) == slices


def test_a_column_of_too_many_values_is_no_column_to_cut_by(tmp_path: Path) -> None:
    count = MOST_SLICES + 1
    path = written(tmp_path / "p.npz", x=np.ones((count, 3), dtype=np.float32), site=list(range(count)))
    with pytest.raises(ProbeError, match=f"site cuts the probe set into more than {MOST_SLICES} slices"):
        stream(path, probe(path, input="x"), plan(cut("site")), batch_size=7)


def test_a_column_that_the_probe_set_lacks_cuts_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", x=np.ones((8, 3), dtype=np.float32), site=list("11112222"))
    with pytest.raises(ProbeError, match="there is no column 'sight'; of 2 columns, nearest first: site"):
        stream(path, probe(path, input="x"), plan(cut("sight")))


def test_a_row_without_a_value_to_cut_by_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", x=np.ones((3, 3), dtype=np.float32), site=["1", "", "2"])
    with pytest.raises(ProbeError, match="slices by 'site': is missing in row '1'"):
        stream(path, probe(path, input="x"), plan(cut("site")))


# Rows that are not measured but measured by.

DISTANCE: Any = {"metric": "mahalanobis_ood_auroc", "min": 0}
SPLITS = ["probe", "reference", "ood", "probe", "reference"] * 20


def test_rows_of_other_splits_come_apart_from_those_that_are_measured(tmp_path: Path) -> None:
    rows = np.arange(300, dtype=np.float32).reshape(100, 3)
    ids, labels = [f"r{row}" for row in range(100)], np.arange(100) % 2
    path = written(tmp_path / "p.npz", x=rows, id=ids, label=labels, split=SPLITS)
    found = stream(path, probe(path, input="x", id="id", label="label", split="split"), plan(DISTANCE), batch_size=8)
    for split in ("probe", "reference", "ood"):
        batches = [batch[OUTPUT] for batch in found if batch[OUTPUT].split == split]
        wanted = [row for row in range(100) if SPLITS[row] == split]
        assert [name for batch in batches for name in batch.ids] == [ids[row] for row in wanted]
        assert torch.equal(torch.cat([batch.features for batch in batches]), torch.from_numpy(rows[wanted]))
        names = [batch.class_codes().names[code] for batch in batches for code in batch.class_codes().values]
        assert names == [str(labels[row]) for row in wanted]


def test_slices_hold_rows_that_are_measured_alone(tmp_path: Path) -> None:
    rows = np.arange(300, dtype=np.float32).reshape(100, 3)
    path = written(tmp_path / "p.npz", x=rows, split=SPLITS, site=["a"] * 100)
    found = stream(path, probe(path, input="x", split="split"), plan(cut("site")), batch_size=8)
    assert len(of_slice(found, Part("output", slice=(("site", "a"),)))) == SPLITS.count("probe")


def test_a_second_view_is_the_probe_set_under_a_shift(tmp_path: Path) -> None:
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    path = written(tmp_path / "p.npz", x=rows, y=-rows, label=np.arange(10) % 2)
    spec = probe(path, input="x", pair="y", label="label")
    asked = {"metric": "within_between_ratio.null_space_shift", "max": 1}
    probed: Any = {"uri": str(path), "columns": {"input": "x", "pair": "y", "label": "label"}}
    found = stream(torch.nn.Identity(), spec, plan(asked, probe=probed))
    shifted = torch.cat([batch[OUTPUT].features for batch in found if batch[OUTPUT].split == "shifted"])
    assert torch.equal(shifted, -torch.from_numpy(rows))
    unasked = stream(torch.nn.Identity(), spec, plan(cut("label"), probe=probed))
    assert {batch[OUTPUT].split for batch in unasked} == {"probe"}


def test_every_model_comes_with_its_own_weights(tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", x=np.eye(3, dtype=np.float32), label=np.arange(3))
    heads = [torch.nn.Sequential(torch.nn.Linear(3, 3)) for _ in range(2)]
    asked = plan(
        {"metric": "ncc_head_disagreement", "relative": {"max_rise": 1}},
        reads={"head": {"path": "0"}, "logits": {"path": "output"}},
    )
    found = stream(heads[0], probe(path, input="x", label="label"), asked, heads[1])[0]
    for part, head in zip((OUTPUT, Part("output", "baseline")), heads, strict=True):
        assert torch.equal(found[part].weights["head.weight"], head.get_parameter("0.weight"))
        assert torch.equal(found[part].weights["head.bias"], head.get_parameter("0.bias"))
