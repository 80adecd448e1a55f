"""`gate compare` from the command line to the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gate.cli import main
from tests.comparison import files

Asked = tuple[int, str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compared")
    files.version(path, "a", files.healthy())
    files.version(path, "b", files.squeezed(files.healthy()))
    files.probe(path)
    return path


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Exit code, stdout and stderr of the command in the folder of both versions."""
    monkeypatch.chdir(folder)
    for name in ("FORCE_COLOR", "GATE_POLICY", "GATE_PROBE"):
        monkeypatch.delenv(name, raising=False)

    def asked(*arguments: str, a: str = "features:a.npy", b: str = "features:b.npy") -> Asked:
        capsys.readouterr()
        return main(["compare", a, b, *arguments]), *capsys.readouterr()

    return asked


def test_two_versions_are_compared_and_the_exit_code_is_0_whichever_is_better(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("--probe", "probe.yaml", "--layer", "vectors=output", "--reads", "logits=output")
    assert (code, err) == (0, "")
    assert out.startswith("COMPARED  B features:")
    assert "layer vectors (output); logits read at output" in out
    assert "\nworse (" in out
    assert max(len(line) for line in out.splitlines()[3:]) <= 100
    backwards = ask("--probe", "probe.yaml", a="features:b.npy", b="features:a.npy")
    assert backwards[0] == 0
    assert "\nbetter (" in backwards[1]


def test_all_formats_are_written_from_one_comparison(ask: Callable[..., Asked], folder: Path) -> None:
    outputs = ["-o", "json=out/c.json", "-o", "markdown=c.md", "-o", "text"]
    code, out, err = ask("--probe", "probe.yaml", *outputs)
    assert (code, err) == (0, "wrote out/c.json\nwrote c.md\n")
    document = json.loads((folder / "out" / "c.json").read_text(), parse_constant=pytest.fail)
    assert document["schema"] == "gate.comparison/v1"
    page = (folder / "c.md").read_text()
    for each in document["differences"]:
        assert each["metric"] in out
        assert each["metric"].replace("_", "\\_") in page
    code, _, err = ask("--probe", "probe.yaml", "--quiet", *outputs[:4], "-o", "text=c.txt")
    assert (code, err) == (0, ""), "earlier comparisons are written over"
    assert ask("--probe", "probe.yaml", "--quiet", "-o", "text=c.txt")[0] == 0


def test_long_and_holm_reach_the_comparison(ask: Callable[..., Asked]) -> None:
    code, out, _ = ask("--probe", "probe.yaml", "--long", "--holm")
    assert code == 0
    assert "effective_rank.share" in out
    assert "all differences hold at once, at 95% (Holm)" in out


def test_a_policy_stands_in_for_the_flags_and_is_not_judged(ask: Callable[..., Asked], folder: Path) -> None:
    (folder / "policy.yaml").write_text(
        "apiVersion: gate/v1\nkind: Policy\nmetadata: {name: strict, version: '1'}\n"
        "probe: {uri: probe.npz, columns: {input: x, label: label, id: id}}\nlayers: {vectors: {path: output}}\n"
        "rules: [{id: r, metric: effective_rank, layer: vectors, min: 99999}]\n"
    )
    code, out, _ = ask("-p", "policy.yaml")
    assert code == 0
    assert "set up by policy strict@1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "error[usage]: there are no rows to compare on"),
        (["--probe", "missing.yaml"], 2, "error[usage]: probe spec 'missing.yaml' does not exist"),
        (["--probe", "probe.npz"], 2, "give a probe spec"),
        (
            ["--probe", "probe.yaml", "--layer", "vectors"],
            2,
            "--layer 'vectors': expected NAME=PATH or NAME=PATH:POOLING",
        ),
        (["--probe", "probe.yaml", "--layer", "v=output", "--layer", "v=input"], 2, "'v' is given twice"),
        (["--probe", "probe.yaml", "--reads", "logit=output"], 2, "reads.logit: there is no key `logit`"),
        (["--probe", "probe.yaml", "--layer", "v=deep"], 3, "error[layer]:"),
        (["--probe", "probe.yaml", "-o", "sarif"], 2, "there is no format 'sarif'. There are: text, json, markdown."),
        (["--probe", "probe.yaml", "-o", "json=probe.yaml"], 2, "is an input of this command"),
        (["--probe", "probe.yaml", "-o", "json=probe.npz"], 2, "is no json report of the gate"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    ask: Callable[..., Asked], folder: Path, arguments: list[str], code: int, message: str
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = ask(*arguments)
    assert (found[0], found[1]) == (code, "")
    assert message in found[2]
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_version_is_refused_as_usage(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("--probe", "probe.yaml", b="features:a.npy")
    assert (code, out) == (2, "")
    assert "are the same version, there is nothing to compare" in err


def test_a_version_that_is_not_there_could_not_be_evaluated(ask: Callable[..., Asked]) -> None:
    assert ask("--probe", "probe.yaml", a="features:none.npy")[0] == 3
    assert ask("--probe", "probe.yaml", b="features:none.npy")[0] == 3


def test_no_colour_where_nobody_looks(folder: Path) -> None:
    command = [sys.executable, "-m", "gate", "compare", "features:a.npy", "features:b.npy", "--probe", "probe.yaml"]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "FORCE_"))} | path
    shown = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in shown
    colour = plain | {"FORCE_COLOR": "1"}
    assert "\x1b[" in subprocess.run(command, cwd=folder, env=colour, capture_output=True, text=True, check=True).stdout
