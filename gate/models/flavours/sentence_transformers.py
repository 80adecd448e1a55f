"""The flavour sentence_transformers: texts in, one vector each out; its layers are those of the encoder inside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gate.errors import ModelError
from gate.inputs import described
from gate.models.flavours.modules import MASK, Fed, ModuleProgram
from gate.models.flavours.reading import installed, quiet_transformers, readable, require_all_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from gate.inputs import Inputs
    from gate.models.mlmodel import Declaration
    from gate.models.opening import How

TEXTS_AT_ONCE = 64


def opened(declared: Declaration, folder: Path, how: How) -> ModuleProgram:
    """The encoder as `SentenceTransformer.encode` runs it, with the prompt that it was saved with.

    Raises:
        ModelError: The package is missing, or the model cannot be loaded.
    """
    del folder
    with installed("sentence-transformers", "sentence_transformers"):
        from sentence_transformers import SentenceTransformer

    from safetensors import SafetensorError

    quiet_transformers()
    with readable(declared.weights, "the sentence encoder", SafetensorError):
        encoder = SentenceTransformer(
            str(declared.weights),
            device=how.device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": declared.serialization == "safetensors", "dtype": "float32"},
        )
    _require_all_weights(encoder, declared.weights)
    return ModuleProgram(
        _embedding(encoder),
        device=how.device,
        precision=how.precision,
        feed=lambda inputs: _fed(encoder, inputs),
        at_once=TEXTS_AT_ONCE,
    )


def _require_all_weights(encoder: Any, path: Path) -> None:  # noqa: ANN401 - of a package without complete types
    """The encoder does not say what its files lack; the models inside of it do, when they are loaded again."""
    folders = [each["path"] for each in json.loads((path / "modules.json").read_text(encoding="utf-8"))]
    for folder, module in zip(folders, encoder, strict=True):
        inner: Any = getattr(module, "model", None)
        if hasattr(inner, "from_pretrained") and (path / folder / "config.json").is_file():
            place = str(path / folder)
            _, report = type(inner).from_pretrained(place, local_files_only=True, output_loading_info=True)
            require_all_weights(path, report)


def _embedding(encoder: Any) -> nn.Module:  # noqa: ANN401 - of a package without complete types
    """The modules of the encoder, whose output is the vector of each text alone."""

    def keep_the_embedding(_module: object, _inputs: object, output: dict[str, Tensor]) -> Tensor:
        return output["sentence_embedding"][:, : encoder.truncate_dim]

    encoder.register_forward_hook(keep_the_embedding)
    return encoder  # type: ignore[no-any-return]


def _fed(encoder: Any, inputs: Inputs) -> Fed:  # noqa: ANN401 - of a package without complete types
    if not isinstance(inputs, tuple) or not isinstance(inputs[0], str):
        raise ModelError(f"the model takes texts, and the probe set holds {described(inputs)}; name a column of texts")
    prompt = encoder.prompts.get(encoder.default_prompt_name) if encoder.default_prompt_name else None
    tokens = encoder.preprocess(list(inputs), prompt=prompt)
    placed = {name: each.to(encoder.device) if hasattr(each, "to") else each for name, each in tokens.items()}
    if "input_ids" in placed and MASK not in placed:
        raise ModelError(f"the tokenizer of the model gives no {MASK}, so that padding would count; save it with one")
    return Fed((placed,), mask=placed.get(MASK))
