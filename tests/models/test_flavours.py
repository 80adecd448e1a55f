"""Every flavour: features are those that its own library computes, whatever the size of the batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from gate.errors import LayerError, ModelError
from gate.features import Extractor, LayerAddress
from gate.isolation import Isolated
from gate.models.flavours.arrays import cast
from gate.models.opening import How, opened
from gate.running import Job
from tests.models import zoo
from tests.models.loaded import extractor, find, program

if TYPE_CHECKING:
    from gate.inputs import Inputs

PICTURES = zoo.pictures()
ROWS = PICTURES.reshape(len(PICTURES), 64)
ALLOWED: Any = {"allow_pickle": True, "allow_code": True}
CLOSE: Any = {"rtol": 0, "atol": 1e-5}
SIZES: tuple[Any, ...] = (1, 7, 64, "auto")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    zoo.save(folder)
    return folder


def features(
    folder: Path, inputs: Inputs, layers: Mapping[str, LayerAddress], batch_size: int | Literal["auto"] = "auto"
) -> dict[str, Tensor]:
    with Extractor(program(str(folder), directory=folder, **ALLOWED), layers, batch_size=batch_size) as extract:
        return extract(inputs)


# Against the library.


def sentences() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(zoo.encoder_path()), device="cpu", local_files_only=True)
    return zoo.TEXTS, {"out": LayerAddress("output")}, {"out": torch.tensor(encoder.encode(list(zoo.TEXTS)))}


def transformers() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    """Texts one by one, so that nothing is padded."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (each.from_pretrained(zoo.encoder_path()) for each in (AutoModel, AutoTokenizer))
    poolings: Any = {
        "mean": lambda states: states.mean(dim=0),
        "cls": lambda states: states[0],
        "last": lambda states: states[-1],
        "max": lambda states: states.amax(dim=0),
    }
    layers = {name: LayerAddress("encoder.layer.3", name) for name in poolings}
    layers["whole"] = LayerAddress("output.last_hidden_state", "mean")
    expected: dict[str, list[Tensor]] = {name: [] for name in layers}
    for text in zoo.TEXTS:
        with torch.inference_mode():
            found = model(**tokenizer([text], return_tensors="pt"), output_hidden_states=True)
        for name, pooled in poolings.items():
            expected[name].append(pooled(found.hidden_states[4][0]))
        expected["whole"].append(found.last_hidden_state[0].mean(dim=0))
    return zoo.TEXTS, layers, {name: torch.stack(each) for name, each in expected.items()}


def vision() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:

    rng = np.random.default_rng(0)
    shown = tuple(rng.integers(0, 256, size=(20 + row, 30, 3), dtype=np.uint8) for row in range(12))
    return shown, {"cls": LayerAddress("output.last_hidden_state", "cls")}, {}


def convolutional() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    network = zoo.convolutional()
    with torch.inference_mode():
        inner = network[:2](torch.from_numpy(PICTURES))
        layers = {"out": LayerAddress("output"), "inner": LayerAddress("1", "spatial_mean")}
        expected = {"out": network(torch.from_numpy(PICTURES)), "inner": inner.mean(dim=(2, 3))}
    return PICTURES, layers, expected


def onnx() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    _, _, expected = convolutional()
    network = zoo.convolutional()
    with torch.inference_mode():
        flat = network[:4](torch.from_numpy(PICTURES))
    layers = {"out": LayerAddress("output"), "flat": LayerAddress("view_1")}
    return PICTURES, layers, {"out": expected["out"], "flat": flat}


def scikit() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    made = zoo.pipeline()
    rows = ROWS.astype(np.float64)
    paths = {
        "pca": made[:2].transform(rows),
        "logisticregression.decision_function": made.decision_function(rows),
        "logisticregression.predict_proba": made.predict_proba(rows),
        "standardscaler.transform": made[:1].transform(rows),
        "output": made.decision_function(rows),
    }
    layers = {path: LayerAddress(path) for path in paths}
    return ROWS, layers, {path: torch.tensor(each) for path, each in paths.items()}


def causal() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    poolings: Any = ("mean", "last", "max")
    return zoo.TEXTS, {name: LayerAddress("output.last_hidden_state", name) for name in poolings}, {}


def code() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 5)
    with torch.inference_mode():
        inner = linear(torch.from_numpy(ROWS))
    layers = {"out": LayerAddress("output"), "inner": LayerAddress("net.0")}
    return ROWS, layers, {"out": 2 * inner.tanh(), "inner": inner}


def keras() -> tuple[Inputs, dict[str, LayerAddress], dict[str, Tensor]]:
    model = zoo.dense()
    hidden = torch.relu(torch.tensor(ROWS) @ model.layers[0].kernel.value.detach())
    layers = {"hidden": LayerAddress("hidden"), "out": LayerAddress("output")}
    return ROWS, layers, {"hidden": hidden, "out": torch.tensor(np.asarray(model.predict(ROWS, verbose=0)))}


DIRECT = {
    "sentences": sentences,
    "transformers": transformers,
    "pt2": convolutional,
    "pickle": convolutional,
    "onnx": onnx,
    "sklearn": scikit,
    "cloudpickle": scikit,
    "code": code,
    "keras": keras,
}


@pytest.mark.parametrize("name", DIRECT)
def test_features_are_those_that_the_library_computes(models: Path, name: str) -> None:
    inputs, layers, expected = DIRECT[name]()
    found = features(models / name, inputs, layers)
    for layer, rows in expected.items():
        torch.testing.assert_close(found[layer].double(), rows.double(), **CLOSE)


@pytest.mark.parametrize("name", [*DIRECT, "vision", "causal"])
def test_features_do_not_depend_on_the_size_of_the_batches_and_come_in_order(models: Path, name: str) -> None:
    made = {**DIRECT, "vision": vision, "causal": causal}[name]
    inputs, layers, _ = made()
    found: list[dict[str, Tensor]] = [features(models / name, inputs, layers, size) for size in SIZES]
    for layer in layers:
        for other in found[1:]:
            torch.testing.assert_close(other[layer], found[0][layer], **CLOSE)


@pytest.mark.parametrize("name", [*DIRECT, "vision"])
def test_a_process_of_their_own_gives_the_same_features(models: Path, name: str) -> None:
    inputs, layers, _ = {**DIRECT, "vision": vision}[name]()
    job = Job(models / name, layers, pickle=True, code=True).document
    with Isolated(job, [models / name], features=layers) as isolated:
        found = isolated(inputs)
        assert isolated.confinement["missing"] == []
    for layer, rows in features(models / name, inputs, layers).items():
        torch.testing.assert_close(found[layer], rows, **CLOSE)


def test_pictures_go_through_the_processor_of_the_model(models: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel

    shown, layers, _ = vision()
    processors: Any = AutoImageProcessor
    processor = processors.from_pretrained(models / "vision" / "components" / "image_processor")
    model = AutoModel.from_pretrained(models / "vision" / "model").eval()
    with torch.inference_mode():
        expected = model(**processor(list(shown), return_tensors="pt")).last_hidden_state[:, 0]
    torch.testing.assert_close(features(models / "vision", shown, layers)["cls"], expected, **CLOSE)


def test_attention_maps_and_token_states_leave_padding_out(models: Path) -> None:
    from gate.geometry.statistics import attention_filter, token_terms

    layers = {
        "terms": LayerAddress("encoder.layer.3", "token_terms"),
        "mean": LayerAddress("encoder.layer.3", "token_mean"),
        "attention": LayerAddress("attentions.2", "attention_filter"),
    }
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(zoo.encoder_path(), attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(zoo.encoder_path())
    found = features(models / "transformers", zoo.TEXTS, layers)
    for row in (0, 12, 40):
        with torch.inference_mode():
            alone = model(
                **tokenizer([zoo.TEXTS[row]], return_tensors="pt"), output_hidden_states=True, output_attentions=True
            )
        states = alone.hidden_states[4]
        torch.testing.assert_close(found["terms"][row], token_terms(states)[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["mean"][row], states[0].double().mean(dim=0), **CLOSE)
        expected = attention_filter(alone.attentions[2])
        torch.testing.assert_close(found["attention"][row], expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "path", "shapes"),
    [
        ("pt2", "4", {"head.weight": (10, 144), "head.bias": (10,)}),
        ("sklearn", "logisticregression", {"head.weight": (10, 16), "head.bias": (10,)}),
        ("onnx", "linear", {"head.weight": (10, 144), "head.bias": (10,)}),
        ("keras", "hidden", {"head.weight": (6, 64), "head.bias": (6,)}),
        ("code", "net.0", {"head.weight": (5, 64), "head.bias": (5,)}),
    ],
)
def test_the_weights_of_a_head_are_found_by_its_name(models: Path, name: str, path: str, shapes: Any) -> None:
    made = program(str(models / name), directory=models, **ALLOWED)
    extract = extractor(made, weights={"head": path}, out=LayerAddress("output"))
    assert {key: tuple(tensor.shape) for key, tensor in extract.weights.items()} == shapes
    if name in ("pt2", "onnx"):
        torch.testing.assert_close(
            extract.weights["head.weight"], zoo.convolutional().get_parameter("4.weight").detach()
        )


@pytest.mark.usefixtures("models")
def test_the_head_of_two_classes_has_a_row_for_each(tmp_path: Path) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    classes = np.array(["yes", "no"])[np.arange(len(ROWS)) % 2]
    head = LogisticRegression(max_iter=500).fit(ROWS, classes)
    mlflow.sklearn.save_model(head, str(tmp_path / "m"), **zoo.PACKAGES)
    made = opened(tmp_path / "m", How())
    with extractor(made, weights={"head": "model"}, odds=LayerAddress("model.decision_function")) as extract:
        odds = extract(ROWS)["odds"]
    weight, bias = (extract.weights[f"head.{part}"].double() for part in ("weight", "bias"))
    shares = (torch.from_numpy(ROWS).double() @ weight.T + bias).softmax(dim=1)
    torch.testing.assert_close(shares, torch.from_numpy(head.predict_proba(ROWS)).double(), **CLOSE)
    expected = torch.from_numpy(head.decision_function(ROWS))[:, None]
    torch.testing.assert_close(odds.double(), expected.double(), **CLOSE)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("classes", [3, 4])
def test_weights_of_pairs_of_classes_are_no_head(tmp_path: Path, classes: int) -> None:
    import mlflow.sklearn
    from sklearn.svm import SVC

    fitted = SVC(kernel="linear").fit(ROWS, np.arange(len(ROWS)) % classes)
    mlflow.sklearn.save_model(fitted, str(tmp_path / "m"), **zoo.PACKAGES)
    with pytest.raises(LayerError, match=r"is SVC, expected a linear step with coef_ \(C, d\), a row a class"):
        extractor(opened(tmp_path / "m", How()), weights={"head": "model"}, out=LayerAddress("output"))


@pytest.mark.parametrize("name", ["pt2", "sklearn", "onnx", "keras", "code"])
def test_a_head_that_is_none_is_refused_with_what_it_is(models: Path, name: str) -> None:
    made = program(str(models / name), directory=models, **ALLOWED)
    for path in ("nowhere", next(iter(made.layers))):
        if name in ("keras", "code") and path != "nowhere":
            continue
        with pytest.raises(LayerError, match=r"expected|no Dense and no Embedding"):
            extractor(made, weights={"head": path}, out=LayerAddress("output"))


# What a flavour does not have.


@pytest.mark.parametrize("name", [*DIRECT, "vision"])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(models: Path, name: str) -> None:
    inputs, _, _ = {**DIRECT, "vision": vision}[name]()
    with pytest.raises(LayerError, match=r"no layer 'nowhere'.*the nearest of its|no layer 'nowhere'.*name 'output'"):
        features(models / name, inputs, {"embedding": LayerAddress("nowhere")})


@pytest.mark.parametrize("name", ["pt2", "onnx", "sklearn", "code", "keras"])
def test_texts_are_no_input_of_a_model_of_numbers(models: Path, name: str) -> None:
    with pytest.raises(ModelError):
        features(models / name, zoo.TEXTS, {"out": LayerAddress("output")})


@pytest.mark.parametrize("name", ["sentences", "transformers"])
def test_numbers_are_no_input_of_a_model_of_texts(models: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"takes texts|does not run"):
        features(models / name, ROWS, {"out": LayerAddress("output")})


@pytest.mark.parametrize("name", ["onnx", "sklearn", "code", "keras"])
def test_a_precision_that_only_torch_has_is_refused(models: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"run.precision is 'bfloat16', and"):
        program(str(models / name), directory=models, precision="bfloat16", **ALLOWED)


@pytest.mark.parametrize("precision", ["bfloat16", "autocast"])
def test_lower_precision_gives_nearly_the_same_features(models: Path, precision: Any) -> None:
    inputs, layers, expected = convolutional()
    made = program(str(models / "pickle"), directory=models, precision=precision, **ALLOWED)
    with Extractor(made, layers) as extract:
        found = extract(inputs)["out"]
    assert found.dtype == torch.bfloat16
    difference = (found.float() - expected["out"]).abs().max()
    assert 0 < difference < 0.05 * expected["out"].abs().max()


# What only a permission lets in.


@pytest.mark.parametrize(
    ("name", "permission"), [("pickle", "allow_pickle"), ("cloudpickle", "allow_pickle"), ("code", "allow_code")]
)
def test_what_runs_code_needs_a_permission(models: Path, name: str, permission: str) -> None:
    other: Any = {each: True for each in ("allow_pickle", "allow_code") if each != permission}
    with pytest.raises(ModelError, match=rf"write `run: \{{{permission}: true\}}` in the policy"):
        find(str(models / name), directory=models, **other)
    assert find(str(models / name), directory=models, **{permission: True}).trust == permission.removeprefix("allow_")


@pytest.mark.parametrize("name", ["sentences", "transformers", "vision", "causal", "pt2", "onnx", "sklearn", "keras"])
def test_what_holds_weights_alone_is_free_of_code(models: Path, name: str) -> None:
    assert find(str(models / name), directory=models).trust == "code-free"


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_types_that_skops_does_not_vouch_for_are_refused(tmp_path: Path, allow_pickle: bool) -> None:
    import mlflow.sklearn
    from sklearn.preprocessing import FunctionTransformer

    made, own = FunctionTransformer(zoo.halved), "tests.models.zoo.halved"
    mlflow.sklearn.save_model(made, str(tmp_path / "m"), skops_trusted_types=[own], **zoo.PACKAGES)
    with pytest.raises(ModelError, match=rf"holds the types {own}, which skops does not vouch for"):
        program(str(tmp_path / "m"), directory=tmp_path, allow_pickle=allow_pickle)


# What a library would do without a word.


def test_weights_that_are_not_in_the_files_are_not_drawn_by_chance(models: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(models / "transformers", tmp_path / "m")
    mlmodel = (copy / "MLmodel").read_text().replace("BertModel", "BertForSequenceClassification")
    (copy / "MLmodel").write_text(mlmodel)
    with pytest.raises(ModelError, match=r"of the weights of the model are not in its files.*classifier"):
        program(str(copy), directory=tmp_path)


def test_a_class_that_is_no_model_is_refused(models: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(models / "transformers", tmp_path / "m")
    (copy / "MLmodel").write_text((copy / "MLmodel").read_text().replace("BertModel", "AutoTokenizer"))
    with pytest.raises(ModelError, match="pipeline_model_type is 'AutoTokenizer', expected a model class"):
        program(str(copy), directory=tmp_path)


def test_padding_is_left_out_whatever_the_tokenizer_says_of_its_mask(models: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(models / "transformers", tmp_path / "m")
    settings = copy / "components" / "tokenizer" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_input_names": ["input_ids"]}))
    _, layers, expected = transformers()
    found = features(copy, zoo.TEXTS, layers)
    torch.testing.assert_close(found["mean"], expected["mean"], **CLOSE)


def test_a_model_that_was_saved_in_half_precision_is_computed_in_the_precision_that_is_asked_for(
    models: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel

    copy = shutil.copytree(models / "transformers", tmp_path / "m")
    AutoModel.from_pretrained(zoo.encoder_path()).to(torch.bfloat16).save_pretrained(copy / "model")
    found = features(copy, zoo.TEXTS[:4], {"out": LayerAddress("encoder.layer.3", "mean")})["out"]
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.to(torch.bfloat16).float())


@pytest.mark.parametrize("height", [1, 3, 31])
def test_a_picture_of_any_height_keeps_its_colours(models: Path, height: int) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor

    shown = np.random.default_rng(0).integers(0, 256, size=(height, 20, 3), dtype=np.uint8)
    processors: Any = AutoImageProcessor
    processor = processors.from_pretrained(models / "vision" / "components" / "image_processor")
    expected = processor(Image.fromarray(shown), return_tensors="pt")["pixel_values"]
    found = features(models / "vision", (shown,), {"in": LayerAddress("input", "flatten")})["in"]
    torch.testing.assert_close(found, expected.flatten(1), **CLOSE)


def test_columns_come_to_a_model_in_its_own_order(tmp_path: Path) -> None:
    import mlflow.sklearn
    import pandas as pd
    from sklearn.preprocessing import StandardScaler

    people = pd.DataFrame({"income": [3e4, 5e4, 9e4, 2e4], "age": [20.0, 30.0, 50.0, 60.0]})
    scaler = StandardScaler().fit(people)
    mlflow.sklearn.save_model(scaler, str(tmp_path / "m"), **zoo.PACKAGES)
    rows = people[["age", "income"]].to_numpy()
    for columns in (("age", "income"), ("age", "size")):
        made = opened(tmp_path / "m", How(columns=columns))
        with extractor(made, out=LayerAddress("output")) as extract:
            if "size" in columns:
                with pytest.raises(ModelError, match=r"takes the columns \['income', 'age'\], the probe set gives"):
                    extract(rows)
            else:
                torch.testing.assert_close(extract(rows)["out"], torch.tensor(scaler.transform(people)), **CLOSE)


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (np.array([0.2, 0.9]), "int64", "takes int64, the probe set holds float64; give it whole numbers"),
        (np.array([300, -1]), "uint8", "takes uint8, and the probe set holds -1 to 300; rescale its input"),
    ],
)
def test_numbers_are_not_turned_into_other_numbers(values: Any, dtype: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        cast(values, np.dtype(dtype))
    assert cast(np.array([1, 2]), np.dtype("float32")).tolist() == [1.0, 2.0]


def test_weights_of_a_node_that_is_more_than_a_product_are_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    value = helper.make_tensor_value_info
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="head", alpha=0.5)
    graph = helper.make_graph([node], "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])], [weight])
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    made = program(str(tmp_path), directory=tmp_path)
    with pytest.raises(LayerError, match=r"a node Gemm .*expected a plain Gemm or MatMul"):
        extractor(made, weights={"head": "head"}, out=LayerAddress("output"))
