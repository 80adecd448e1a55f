from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gate.errors import LayerError, ModelError, RegistryError
from gate.features import LayerAddress
from gate.models.flavours.modules import ModuleProgram
from gate.models.quiet import quiet_mlflow
from tests.models.loaded import extractor, find, module, program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.conftest import Registry

MLMODEL = """\
flavors:
  pytorch: {model_data: data, code: null}
  python_function: {loader_module: mlflow.pytorch, data: data}
"""


@pytest.fixture
def folder(registry: Registry, tmp_path: Path) -> Path:  # noqa: ARG001 - its files lie in that registry
    """A copy of the files of encoder/1."""
    return find("models:/encoder/1", directory=tmp_path / "copy").path


def _uris(registry: Registry) -> list[str]:
    return [
        "models:/encoder/1",
        "models:/encoder@champion",
        f"models:/{registry.model_id}",
        f"runs:/{registry.run_id}/model",
    ]


def _on(module: nn.Module, inputs: np.ndarray[Any, Any]) -> Tensor:
    with torch.inference_mode():
        return torch.as_tensor(module(torch.from_numpy(inputs)))


def test_every_way_to_name_a_model_loads_the_same_files(registry: Registry, tmp_path: Path) -> None:
    models = [find(uri, directory=tmp_path) for uri in _uris(registry)]
    models += [find(str(models[0].path), directory=tmp_path), find(models[0].path.as_uri(), directory=tmp_path)]
    assert len({model.digest for model in models}) == 1
    for model in models:
        assert (model.flavour, model.serialization, model.trust) == ("pytorch", "pt2", "code-free")
        assert (model.run_id, model.model_id) == (registry.run_id, registry.model_id)
        made = module(str(model.path), directory=tmp_path)
        assert made.batch_size is None
        assert torch.allclose(_on(made.module, registry.inputs), _on(registry.network, registry.inputs), atol=1e-6)


@pytest.mark.usefixtures("registry")
def test_an_alias_is_resolved_to_the_version_that_it_names_now(tmp_path: Path) -> None:
    model = find("models:/encoder@champion", directory=tmp_path)
    assert (model.uri, model.resolved) == ("models:/encoder@champion", "models:/encoder/1")
    assert (model.name, model.version) == ("encoder", "1")


def test_a_model_outside_the_registry_has_no_name_and_no_version(registry: Registry, tmp_path: Path) -> None:
    uri = f"runs:/{registry.run_id}/model"
    model = find(uri, directory=tmp_path)
    assert (model.resolved, model.name, model.version) == (uri, None, None)


@pytest.mark.usefixtures("registry")
def test_two_downloads_into_one_directory_do_not_mix(tmp_path: Path) -> None:
    first, second = (find(f"models:/{name}/1", directory=tmp_path) for name in ("encoder", "single"))
    assert first.path != second.path
    assert first.digest != second.digest


@pytest.mark.parametrize("layer", ["backbone.0", "backbone.1", "backbone.2", "backbone", "head"])
def test_hooks_on_an_exported_program_see_what_hooks_on_the_eager_model_see(
    registry: Registry, tmp_path: Path, layer: str
) -> None:
    address = LayerAddress(layer, "flatten")
    exported, eager = module("models:/encoder/1", directory=tmp_path), ModuleProgram(registry.network, device="cpu")
    with extractor(exported, layer=address) as candidate, extractor(eager, layer=address) as reference:
        torch.testing.assert_close(candidate(registry.inputs)["layer"], reference(registry.inputs)["layer"])


def test_a_program_exported_for_one_row_is_run_row_by_row(registry: Registry, tmp_path: Path) -> None:
    made = program("models:/single/1", directory=tmp_path)
    assert made.batch_size == 1
    with extractor(made, out=LayerAddress("output")) as extract:
        rows = extract(registry.inputs)["out"]
    torch.testing.assert_close(rows, _on(registry.network, registry.inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("registry")
def test_a_program_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"exported in training mode \(aten\.\w+.* call model.eval\(\)"):
        program("models:/noisy/1", directory=tmp_path)


def test_attention_that_drops_in_an_exported_program_is_refused(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    folder = _exported(tmp_path, Attention(), (torch.ones(2, 3, 4),))
    with pytest.raises(ModelError, match="scaled_dot_product_attention"):
        program(str(folder), directory=tmp_path)


def test_a_pickle_is_refused_until_the_policy_allows_it(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a pickle.*write `run: \{allow_pickle: true\}` in the policy"):
        find("models:/encoder/2", directory=tmp_path)
    model = find("models:/encoder/2", directory=tmp_path, allow_pickle=True)
    assert (model.serialization, model.trust) == ("pickle", "pickle")
    made = module("models:/encoder/2", directory=tmp_path, allow_pickle=True)
    assert made.batch_size is None
    assert not made.module.training
    assert torch.equal(_on(made.module, registry.inputs), _on(registry.network, registry.inputs))


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.usefixtures("registry")
def test_loading_writes_nothing_and_leaves_the_process_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], allow_pickle: bool
) -> None:
    before = dict(os.environ), logging.getLogger("mlflow").level
    program(f"models:/encoder/{1 + allow_pickle}", directory=tmp_path, allow_pickle=allow_pickle)
    assert capfd.readouterr() == ("", "")
    assert (dict(os.environ), logging.getLogger("mlflow").level) == before


def test_settings_of_the_user_win_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "6")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with quiet_mlflow():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "6"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "20"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


# What the registry does not know.


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "models:/encoder/9",
            r"version=9\) not found; there are: models:/encoder/2, models:/encoder/1, models:/encoder@champion",
        ),
        ("models:/encoder@best", r"alias best not found.*; there are: models:/encoder/"),
        ("models:/encodr/1", r"not found; the nearest models are: encoder, "),
        (
            "models:/encoder/latest",
            r"names no fixed version.*write models:/encoder/<version> or models:/encoder@<alias>",
        ),
        ("models:/encoder/Production", r"names no fixed version"),
        ("models:/encoder", r"names no version: write models:/encoder/<version>"),
        ("models:/a/b/c", r"is not a model URI"),
        ("runs:/0/../../m", r"leads out of the place that it names"),
        ("runs:/0/%2e%2e/m", r"leads out of the place that it names"),
        ("models:/m-00000000000000000000000000000000", r"its files cannot be downloaded .* not found"),
        ("runs:/00000000000000000000000000000000/model", r"its files cannot be downloaded .* not found"),
    ],
)
@pytest.mark.usefixtures("registry")
def test_what_the_registry_does_not_have_is_said_once_with_what_it_has(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        find(uri, directory=tmp_path)


def test_a_path_that_the_run_does_not_have_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="Failed to download artifacts from path 'nope'"):
        find(f"runs:/{registry.run_id}/nope", directory=tmp_path)


def test_a_version_whose_registration_failed_is_refused(registry: Registry, tmp_path: Path) -> None:
    def status(value: str) -> None:
        with sqlite3.connect(registry.database) as connection:
            connection.execute("UPDATE model_versions SET status = ? WHERE name = 'single'", (value,))

    status("FAILED_REGISTRATION")
    try:
        with pytest.raises(RegistryError, match="this version is 'FAILED_REGISTRATION', expected 'READY'"):
            find("models:/single/1", directory=tmp_path)
    finally:
        status("READY")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("http://me:secret@127.0.0.1:9", r"in the registry 'http://\*\*\*@127.0.0.1:9'"),
        ("bogus://there", r"not supported by the store with URI: 'bogus://there'"),
        ("postgresql+nodriver://me:secret@127.0.0.1:9/x", r"it cannot be looked up in the registry"),
    ],
)
@pytest.mark.usefixtures("registry")
def test_a_registry_that_does_not_answer_is_named_quickly_and_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, message: str
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", store)
    start = time.monotonic()
    with pytest.raises(RegistryError, match=message) as caught:
        find("models:/encoder/1", directory=tmp_path)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 20


# What the files alone give away; nothing of the model is loaded.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no MLmodel file"),
        ("flavors: [", "is not readable YAML"),
        ("a: 1\na: 2", "is not readable YAML"),
        ("- 1", r"holds \[1\], expected a mapping"),
        ("run_id: x", "the flavours of this model are: none"),
        ("flavors: {spark: {}, fastai: {}}", "flavours of this model are: fastai, spark; the gate loads pytorch"),
        (
            MLMODEL.replace("code: null", "code: code"),
            r"brings code: 'code' \(flavour 'pytorch'\).*allow_code",
        ),
        (
            MLMODEL.replace("data: data}", "data: data, model_code_path: m.py}"),
            r"model_code_path: 'm.py'",
        ),
        (MLMODEL.replace("mlflow.pytorch", "evil"), r"loader_module is 'evil', a loader that the gate does not know"),
        (
            MLMODEL.replace("model_data: data", "model_data: ../data"),
            r"model_data is '../data', expected a path inside",
        ),
        (MLMODEL.replace("model_data: data", "model_data: /data"), r"model_data is '/data', expected a path inside"),
        (MLMODEL.replace("model_data: data", "model_data: other"), "'other', and there is nothing there"),
        (MLMODEL.replace("model_data: data, ", ""), "model_data is None"),
    ],
)
def test_a_folder_that_may_not_be_loaded_is_refused_from_its_mlmodel_file(
    tmp_path: Path, text: str | None, message: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model.pt2").write_bytes(b"never read")
    if text is not None:
        (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ModelError, match=message):
        find(str(tmp_path), directory=tmp_path, allow_pickle=True)


def test_a_folder_of_code_is_refused_even_if_no_flavour_mentions_it(folder: Path, tmp_path: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "mpmath.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match="the model brings a folder 'code'"):
        find(str(folder), directory=tmp_path)


def test_a_pickle_beside_the_exported_program_counts_as_a_pickle(folder: Path, tmp_path: Path) -> None:
    (folder / "data" / "model.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model.pth: this model is a pickle"):
        find(str(folder), directory=tmp_path)


@pytest.mark.parametrize("signature", ["inputs: '['", "inputs: '[]'", "inputs: 3", "outputs: x"])
def test_a_signature_that_says_nothing_is_no_fault(folder: Path, tmp_path: Path, signature: str) -> None:
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text[: text.index("signature:")] + f"signature: {{{signature}}}\n")
    assert find(str(folder), directory=tmp_path).serialization == "pt2"


# What is wrong inside the file of weights.


def _exported(tmp_path: Path, module: nn.Module, arguments: tuple[Tensor, ...]) -> Path:
    folder = tmp_path / "made"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    torch.export.save(torch.export.export(module, arguments), folder / "data" / "model.pt2")
    return folder


class Surprise:
    """Stands for any class that a pickle may name."""


def _with_pickled_object(path: Path) -> None:
    content = BytesIO()
    torch.save(Surprise(), content)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    member = next(name for name in members if name.endswith("sample_inputs/model.pt"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {member: content.getvalue()}).items():
            archive.writestr(name, data)


def test_a_pickled_object_inside_an_exported_program_is_refused(folder: Path, tmp_path: Path) -> None:
    _with_pickled_object(folder / "data" / "model.pt2")
    with pytest.raises(ModelError, match=r"not free of pickled objects.*sample_inputs/model.pt"):
        program(str(folder), directory=tmp_path)


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_a_damaged_program_is_refused(folder: Path, tmp_path: Path, allow_pickle: bool) -> None:
    (folder / "data" / "model.pt2").write_bytes(b"PK no archive")
    with pytest.raises(ModelError, match=r"model.pt2: the exported program"):
        program(str(folder), directory=tmp_path, allow_pickle=allow_pickle)


def test_a_program_of_two_inputs_is_shown_each_by_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    bilinear, (one, two) = nn.Bilinear(2, 2, 3), torch.rand(2, 4, 2)
    made = program(str(_exported(tmp_path, bilinear, (one, two))), directory=tmp_path)
    with extractor(made, out=LayerAddress("output")) as extract:
        found = extract({"input2": two.numpy(), "input1": one.numpy()})["out"]
    torch.testing.assert_close(found, bilinear(one, two).detach())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.ones((4, 2)), r"takes 2 inputs; name a column for each: columns: \{input: \[input1, input2\]\}"),
        ({"input1": np.ones((4, 2)), "x": np.ones((4, 2))}, r"gives the inputs \['input1', 'x'\], the model takes"),
        (("a", "b"), "takes 2 inputs|the model takes numbers"),
    ],
)
def test_inputs_that_are_not_those_of_the_program_are_refused(tmp_path: Path, inputs: Any, message: str) -> None:
    made = program(str(_exported(tmp_path, nn.Bilinear(2, 2, 3), (torch.ones(4, 2),) * 2)), directory=tmp_path)
    with extractor(made, out=LayerAddress("output")) as extract, pytest.raises(ModelError, match=message):
        extract(inputs)


@pytest.mark.parametrize("name", ["../../evil.py", "/etc/evil", "a\\..\\evil"])
def test_an_archive_with_a_path_out_of_it_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(folder / "data" / "model.pt2", "a") as archive:
        archive.writestr(name, b"canary")
    with pytest.raises(ModelError, match="a path out of it"):
        program(str(folder), directory=tmp_path)


def test_an_archive_that_unpacks_to_far_more_than_it_holds_is_refused(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "data" / "model.pt2", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/bomb", b"0" * 50_000_000)
    with pytest.raises(ModelError, match="more than 4 times its size"):
        program(str(folder), directory=tmp_path)


def _pickled(tmp_path: Path, content: bytes) -> Path:
    folder = tmp_path / "made"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL.replace("code: null", f"pytorch_version: '{torch.__version__}'"))
    (folder / "data" / "pickle_module_info.txt").write_text("pickle")
    (folder / "data" / "model.pth").write_bytes(content)
    return folder


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the pickled model cannot be loaded here: "):
        program(str(_pickled(tmp_path, b"")), directory=tmp_path, allow_pickle=True)


class Impostor:
    """Can do what MLflow asks of a model that it loads, and is none."""

    def eval(self) -> Self:
        return self


def test_a_pickle_of_something_else_than_a_module_is_refused(tmp_path: Path) -> None:
    content = BytesIO()
    torch.save(Impostor(), content)
    with pytest.raises(ModelError, match=r"holds 'Impostor', expected a torch.nn.Module"):
        program(str(_pickled(tmp_path, content.getvalue())), directory=tmp_path, allow_pickle=True)


# What is no model in a registry.


def test_precomputed_vectors_stand_for_a_model(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.ones((3, 2)))
    model = find(f"features:{tmp_path}/vectors.npy", directory=tmp_path)
    assert (model.flavour, model.serialization, model.trust) == ("features", "features", "code-free")
    assert model.path == tmp_path / "vectors.npy"
    assert model.digest == "sha256:" + hashlib.sha256((tmp_path / "vectors.npy").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("features:nowhere.npy", "there is no such file of precomputed vectors"),
        ("features:vectors.txt", r"the suffix is '.txt', expected one of .npy, .npz, .parquet"),
        ("nowhere/model", r"'nowhere/model': there is no such folder"),
        ("s3://bucket/model", "is no model URI that the gate knows"),
        ("models:encoder", "is no model URI that the gate knows"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find(uri, directory=tmp_path)


def test_a_wrong_layer_of_an_exported_program_lists_the_layers_with_their_shapes(
    registry: Registry, tmp_path: Path
) -> None:
    made = program("models:/encoder/1", directory=tmp_path)
    with (
        extractor(made, embedding=LayerAddress("backbone.9")) as extract,
        pytest.raises(LayerError, match=r"no layer 'backbone.9'.*'backbone.0' \(5, 4, 4, 4\)"),
    ):
        extract(registry.inputs)
