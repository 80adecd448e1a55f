"""`gate layers` from the command line to the list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
