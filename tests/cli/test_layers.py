"""`gate layers` from the command line to the list."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gate.cli import main
from tests.models import zoo

Asked = tuple[int, str, str]
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: p, version: "1"}
probe: {uri: pictures.npz, columns: {input: x}}
run: {isolation: none, allow_code: true, allow_pickle: true}
rules:
  - {id: rank, metric: effective_rank, min: 1}
"""
HALVED = """\
import mlflow


class Halved(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input / 2


mlflow.models.set_model(Halved())
"""
CONVOLUTIONAL = """
PATH    POOLING                OUTPUT FOR 2 ROWS
input   spatial_mean, flatten  (2, 1, 8, 8)
0       spatial_mean, flatten  (2, 4, 6, 6)
1       spatial_mean, flatten  (2, 4, 6, 6)
2       spatial_mean, flatten  (2, 4, 6, 6)
3       none                   (2, 144)
4       none                   (2, 10)
output  none                   (2, 10)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layers")
    zoo.save(path, "torch", "transformers", "code")
    (path / "halved.py").write_text(HALVED)
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(str(path / "halved"), python_model=str(path / "halved.py"), **zoo.PACKAGES)
    np.savez(path / "pictures.npz", x=zoo.pictures(5), flat=zoo.pictures(5).reshape(5, 64))
    (path / "pictures.yaml").write_text("uri: pictures.npz\ncolumns: {input: x}\n")
    pq.write_table(pa.table({"text": ["one", "two words", "three more words"]}), path / "texts.parquet")
    (path / "texts.yaml").write_text("uri: texts.parquet\ncolumns: {input: text}\n")
    (path / "policy.yaml").write_text(POLICY)
    (path / "flat.yaml").write_text(POLICY.replace("input: x", "input: flat"))
    return path


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Exit code, stdout and stderr of the command in the folder of the models."""
    monkeypatch.chdir(folder)

    def asked(*arguments: str) -> Asked:
        capsys.readouterr()
        return main(["layers", *arguments]), *capsys.readouterr()

    return asked


def test_every_layer_is_listed_with_its_output_and_the_poolings_that_suit_it(
    ask: Callable[..., Asked], folder: Path
) -> None:
    code, out, err = ask("pt2", "--probe", "pictures.yaml")
    assert (code, err) == (0, "")
    assert out == f"{folder}/pt2 (pytorch)\n{CONVOLUTIONAL}"


def test_states_of_tokens_are_pooled_over_tokens_and_structures_have_parts(ask: Callable[..., Asked]) -> None:
    code, out, _ = ask("transformers", "--probe", "texts.yaml", "--format", "json")
    assert code == 0
    found = {each["path"]: each for each in json.loads(out)["layers"]}
    assert found["encoder.layer.5"]["poolings"] == ["mean", "cls", "last", "max"]
    assert found["encoder.layer.5.attention"]["gives"] == "tuple((2, 4, 384), None)"
    assert found["encoder.layer.5.attention"]["poolings"] == ["mean", "cls", "last", "max"]
    assert found["embeddings.position_embeddings"]["poolings"] == []  # one row for all samples
    assert found["output"]["poolings"] == []  # two tensors
    assert found["output"]["reads"] == ""


def test_the_parts_of_an_output_and_maps_of_attention_are_listed(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("transformers", "--probe", "texts.yaml", "--format", "json")
    assert (code, err) == (0, "")
    listed = json.loads(out)["layers"]
    paths = [each["path"] for each in listed]
    assert paths[-9:] == [
        *(f"attentions.{index}" for index in range(6)),
        "output",
        "output.last_hidden_state",
        "output.pooler_output",
    ]
    found = {each["path"]: each for each in listed}
    assert found["output.last_hidden_state"]["gives"] == "(2, 4, 384)"
    assert found["output.last_hidden_state"]["poolings"] == ["mean", "cls", "last", "max"]
    assert (found["output.pooler_output"]["gives"], found["output.pooler_output"]["poolings"]) == ("(2, 384)", ["none"])
    assert found["attentions.5"] == {
        "path": "attentions.5",
        "gives": "(2, 12, 4, 4)",
        "poolings": [],
        "reads": "attention",
    }
    assert "attentions" not in found["output"]["gives"]


def test_a_part_of_a_path_chooses_layers(ask: Callable[..., Asked], folder: Path) -> None:
    code, out, err = ask("transformers", "--probe", "texts.yaml", "--match", "attentions.1")
    assert (code, err) == (0, "")
    assert out.endswith(
        "\n\nPATH          POOLING  OUTPUT FOR 2 ROWS\nattentions.1  -        (2, 12, 4, 4)  reads: attention\n"
    )
    code, out, _ = ask("pt2", "--probe", "pictures.yaml", "--match", "dense\n")
    assert (code, out) == (0, f"{folder}/pt2 (pytorch)\n\nNone of its 7 layers has 'dense\\n' in its path.\n")


@pytest.fixture
def told(ask: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """What the command makes of what the process of a model says."""

    def asked(facts: dict[str, Any], *more: str) -> Asked:
        monkeypatch.setattr("gate.layers._asked", lambda *_: {"rows": 2, "closed": "", **facts})
        return ask("pt2", "--probe", "pictures.yaml", *more)

    return asked


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "says None of its layers, expected a path and a shape of each"),
        ({"layers": ["output"]}, "says ['output'] of its layers"),
        ({"layers": {"output": [2, 4]}}, "says {'output': [2, 4]} of its layers"),
        ({"layers": {}, "rows": True}, "shown True rows, expected a whole number from 1 to 1048576"),
        ({"layers": {}, "rows": 0}, "shown 0 rows"),
        ({"layers": {}, "rows": 10**30}, "rows, expected a whole number from 1"),
        ({"layers": {}, "rows": 2.0}, "shown 2.0 rows"),
        ({"layers": {}, "closed": ["x"]}, "says ['x'] for the reason why it keeps no layers, expected a text"),
        ({"layers": {}, "closed": None}, "says None for the reason"),
    ],
)
def test_what_no_process_of_the_gate_says_is_not_believed(
    told: Callable[..., Asked], facts: dict[str, Any], words: str
) -> None:
    code, out, err = told(facts)
    assert (code, out) == (3, "")
    assert err.startswith("error[model]: the process of the model says ")
    assert words in err
    assert err.endswith("; do not trust it\n")


def test_long_and_many_names_take_little_room(told: Callable[..., Asked]) -> None:
    many = {"x" * 300_000: "(2, 4)", "input": "(2, 4)"} | {f"layer{n}": "(2, " * 99 for n in range(4000)}
    layers = {"output.first": "(2, 4)", "output": "dict(first: (2, 4))", **many}
    code, out, err = told({"layers": layers, "closed": "y" * 9999})
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[3].startswith("input ")
    assert lines[4].startswith("x" * 199 + "…  none  ")
    assert [line.split()[0] for line in lines[2001:2003]] == ["output.first", "output"]
    assert lines[2004] == "2004 more were left out; `--match TEXT` lists those with a text in their path."
    assert max(map(len, lines)) < 500
    code, out, _ = told({"layers": layers}, "--match", "layer399", "--format", "json")
    document = json.loads(out)
    assert [each["path"] for each in document["layers"]] == ["layer399", *(f"layer399{n}" for n in range(10))]
    assert document["left_out"] == 0


def test_names_with_line_breaks_forge_no_lines(told: Callable[..., Asked]) -> None:
    facts = {"layers": {"a\nb  none  (2, 4)": "(2,\n4)", "\x1b[2Jc": "(2, 4)"}, "closed": "it\nis"}
    code, out, _ = told(facts)
    assert code == 0
    assert out.count("\n") == 7
    assert "\na\\nb  none  (2, 4)  -        (2,\\n4)\n" in out
    assert "\n\\x1b[2Jc" in out
    assert out.endswith("\nThere are no others: it\\nis.\n")
    _, out, _ = told(facts, "--format", "json")
    assert "\x1b" not in out
    assert json.loads(out)["layers"][0]["path"] == "a\nb  none  (2, 4)"


def test_a_line_break_in_the_place_of_a_model_forges_no_heading(
    ask: Callable[..., Asked], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "pt2", tmp_path / "one\ntwo")
    code, out, _ = ask(str(tmp_path / "one\ntwo"), "--probe", "pictures.yaml", "--match", "output")
    assert code == 0
    assert out.startswith(f"{tmp_path}/one\\ntwo (pytorch)\n\n")


@pytest.mark.parametrize(("name", "policy", "path"), [("pickle", "policy.yaml", "4"), ("code", "flat.yaml", "net.0")])
def test_a_policy_says_how_the_model_runs(ask: Callable[..., Asked], name: str, policy: str, path: str) -> None:
    code, out, err = ask(name, "-p", policy)
    assert (code, err) == (0, "")
    assert f"\n{path} " in out


def test_a_model_that_keeps_no_layers_says_why(ask: Callable[..., Asked]) -> None:
    code, out, _ = ask("halved", "-p", "flat.yaml")
    assert code == 0
    assert "There are no others: " in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pickle", "--probe", "pictures.yaml"], 3, "write `run: {allow_pickle: true}`"),
        (["pt2", "--probe", "texts.yaml"], 3, "the model takes numbers"),
        (["pt2"], 2, "nothing says which rows the model is shown"),
        (["features:pictures.npz", "--probe", "pictures.yaml"], 3, "precomputed vectors have no layers"),
    ],
)
def test_what_cannot_be_listed_says_why(ask: Callable[..., Asked], arguments: list[str], code: int, words: str) -> None:
    found, out, err = ask(*arguments)
    assert (found, out) == (code, "")
    assert words in err
