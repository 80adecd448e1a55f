"""What the good messages of other tools have, ours have too: one test for each of their virtues."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from gate.errors import ProbeError
from gate.evidence import bundle, explaining, text
from gate.policy.waivers import Waiver
from gate.probes.probe_set import Columns, open_probe

COMPARED = bundle.load(Path(__file__).parent / "v1" / "compared.json")
REPORT = text.render(COMPARED)
FAILED = next(result for result in COMPARED["results"] if result["status"] == "fail")


def test_a_failure_names_file_rule_and_subject() -> None:
    assert re.search(
        r"^error\[rank\]: effective_rank of layer 'output' is .*\n +--> compared-base\.yaml:8:5$", REPORT, re.MULTILINE
    )


def test_a_failure_has_reason_title_description_and_solution_and_says_what_to_type_to_except_it() -> None:
    told = explaining.rule(COMPARED, FAILED["rule"])
    assert told.startswith(f"rule {FAILED['rule']}: fail")
    for label, content in (("why", FAILED["why"]), ("fix", FAILED["fix"])):
        assert re.search(rf"^  {label} +{re.escape(content.split()[0])}", told, re.MULTILINE)
    written = re.search(r"^  to waive +(\{.*?\})$", told, re.MULTILINE | re.DOTALL)
    assert written
    typed = (
        " ".join(written.group(1).split()).replace("YYYY-MM-DD", "2026-12-31").replace("WHY", "until the index is new")
    )
    waiver = Waiver.model_validate(YAML(typ="safe", pure=True).load(typed))
    assert waiver.rule == FAILED["rule"]
    assert waiver.is_about((COMPARED["model"]["resolved"], COMPARED["model"]["digest"]))


def test_a_failure_says_what_was_found_and_what_was_expected() -> None:
    assert re.search(r"is 2\.15 \[2\.09, 2\.21\], must be at least 9\n", REPORT)
    assert "short by 6.85 (95% interval, n = 500)" in REPORT


def test_a_fault_names_the_thing_itself(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", x=np.ones((3, 2)), id=["a", "b", "a"])
    probe = open_probe(str(tmp_path / "p.npz"), columns=Columns(input="x", id="id"))
    with pytest.raises(ProbeError, match=r"p\.npz: id 'a' occurs more than once; ids must be unique"):
        list(probe.batches(8))
    with pytest.raises(ProbeError, match=r"there is no column 'y'; of 2 columns, nearest first: "):
        open_probe(str(tmp_path / "p.npz"), columns=Columns(input="y"))


def test_a_failure_shows_its_line_with_weight_notes_and_help() -> None:
    frame = REPORT[REPORT.index("error[rank]") :]
    assert re.search(r"^8 \|     min: 9 .*\n  \|     \^{6} short by", frame, re.MULTILINE)
    for note in ("= why: ", "= fix: ", "= paper: Roy and Vetterli 2007", "= rows: digit-"):
        assert note in frame
