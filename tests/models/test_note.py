"""No digest covers the note that MLflow writes into a download: nothing else may lie there, and no model reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gate.errors import ModelError
from gate.features import LayerAddress
from gate.models.digest import listed
from gate.models.finding import found
from gate.models.note import MOST, NOTE, is_note
from gate.models.opening import How, opened
from tests.models.loaded import extractor

if TYPE_CHECKING:
    from tests.models.conftest import Registry

WRITTEN = b"model_name: enc\nmodel_version: '1'\n"
ROWS = np.ones((2, 4), np.float32)


def reading(folder: Path, name: str = NOTE, content: bytes = WRITTEN) -> Path:
    """An ONNX graph that multiplies by what four bytes of a file beside it say."""
    import onnx
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": name, "offset": "0", "length": "4"}.items():
        weight.external_data.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 4]) for each in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}", encoding="utf-8")
    onnx.save(made, str(folder / "model.onnx"))
    (folder / name).write_bytes(content)
    return folder


def run(folder: Path) -> object:
    with extractor(opened(folder, How()), out=LayerAddress("output")) as extract:
        return extract(ROWS)["out"].tolist()


def test_what_mlflow_writes_is_a_note_however_a_model_is_named(registry: Registry, tmp_path: Path) -> None:
    import mlflow.artifacts

    seen = set()
    for number, name in enumerate(("encoder/1", "encoder@champion", registry.model_id)):
        (tmp_path / str(number)).mkdir()
        copy = mlflow.artifacts.download_artifacts(f"models:/{name}", dst_path=str(tmp_path / str(number)))
        content = Path(copy, NOTE).read_bytes()
        assert is_note(content)
        seen.add(content)
    assert len(seen) == 3  # the number in quotes, the bare number, and null


@pytest.mark.parametrize("name", ["x" * 256, "\N{PARTY POPPER}" * 256, "with 'quotes' and # more" * 10, "1", "null"])
def test_a_note_may_have_any_name_of_a_registered_model(tmp_path: Path, name: str) -> None:
    from mlflow.utils.yaml_utils import write_yaml

    content = {"model_name": name, "model_version": "12"}
    write_yaml(str(tmp_path), NOTE, content, ensure_yaml_extension=False)
    assert is_note((tmp_path / NOTE).read_bytes())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"EVIL WEIGHTS",
        b"\xff\xfe\x00",
        b"model_name: enc\n",
        WRITTEN + b"more: 1\n",
        WRITTEN + b"---\n" + WRITTEN,
        WRITTEN + b"#" * MOST,
        b"model_name: enc\n" + WRITTEN,
        b"model_name: {a: b}\nmodel_version: '1'\n",
        b"model_name: !!str [a]\nmodel_version: '1'\n",
        b"model_name: 1.5\nmodel_version: '1'\n",
        b"model_name: enc\nmodel_version: latest\n",
        b"model_name: enc\nmodel_version: [1]\n",
        b"model_name: enc\nmodel_version: null\n",
        b"? [a]\n: b\n? model_version\n: 1\n",
        b"[" * MOST,
        b'"\\UFFFFFFFF"',
        b'"\\U00110000"',
        b"a: &a [x]\nb: *c\n",
    ],
)
def test_anything_else_is_none_and_refused_wherever_a_model_is_read(tmp_path: Path, content: bytes) -> None:
    assert not is_note(content)
    folder = reading(tmp_path / "model", content=content)
    for look in (listed, lambda path: found(str(path), directory=tmp_path / "copies")):
        with pytest.raises(ModelError, match=rf"model/{NOTE}: .* it holds more than the name and the number"):
            look(folder)
    assert (folder / NOTE).read_bytes() == content


def test_a_note_below_the_root_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NOTE).write_bytes(b"EVIL WEIGHTS")
    assert list(listed(tmp_path)) == [f"data/{NOTE}"]


def test_a_model_in_a_folder_cannot_read_the_note_which_stays_where_it_is(tmp_path: Path) -> None:
    folder = reading(tmp_path / "model")
    assert run(folder) != run(reading(tmp_path / "other", content=b"EVIL"))  # what the gate would not notice
    model = found(str(folder), directory=tmp_path / "copies")
    assert (model.uri, model.resolved) == (str(folder), str(folder))
    assert model.path.is_relative_to(tmp_path / "copies")
    assert not (model.path / NOTE).exists()
    assert listed(model.path) == listed(folder)
    with pytest.raises(ModelError):
        run(model.path)
    assert (folder / NOTE).read_bytes() == WRITTEN


def test_a_folder_without_a_note_is_read_where_it_lies(tmp_path: Path) -> None:
    folder = reading(tmp_path / "model", "weights.bin")
    model = found(str(folder), directory=tmp_path / "copies")
    assert model.path == folder
    assert not (tmp_path / "copies").exists()
    run(model.path)


@pytest.mark.usefixtures("registry")
def test_a_model_of_a_registry_cannot_read_the_note(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = reading(tmp_path / "store")
    client = MlflowClient()
    client.create_registered_model("reader")
    client.create_model_version("reader", folder.as_uri())
    model = found("models:/reader/1", directory=tmp_path / "copies")
    assert not (model.path / NOTE).exists()
    with pytest.raises(ModelError):
        run(model.path)
    assert (folder / NOTE).read_bytes() == WRITTEN


def test_a_folder_that_cannot_be_copied_without_the_note_is_refused(tmp_path: Path) -> None:
    folder = reading(tmp_path / "model")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match=rf"{NOTE}.*cannot be copied .* remove that file"):
        found(str(folder), directory=tmp_path / "copies")


def test_a_link_in_place_of_the_note_is_refused(tmp_path: Path) -> None:
    folder = reading(tmp_path / "model")
    (folder / NOTE).rename(tmp_path / "elsewhere")
    (folder / NOTE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=f"model/{NOTE}: a symbolic link inside a model"):
        found(str(folder), directory=tmp_path / "copies")
