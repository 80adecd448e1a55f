"""The flavour transformers: the model itself, with its own tokenizer or image processor before it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any

from gate.errors import ModelError
from gate.inputs import described
from gate.models.flavours.modules import MASK, ROWS_AT_ONCE, Fed, ModuleProgram, explained
from gate.models.flavours.reading import installed, quiet_transformers, readable, require_all_weights
from gate.models.flavours.sentence_transformers import TEXTS_AT_ONCE
from gate.pooling import structure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from gate.inputs import Inputs
    from gate.models.mlmodel import Declaration
    from gate.models.opening import How
    from gate.program import Outputs

ATTENTIONS = "attentions."
_LARGEST_LENGTH = 1 << 20  # what a tokenizer says is larger where it knows no limit
_FROM_PADDING = {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
_IMAGE_PROCESSORS = ("image_processor", "feature_extractor")


class TransformersProgram(ModuleProgram):
    """A module of transformers; its attention maps (b, heads, t, t) are layers as well, `attentions.0` and so on."""

    def __init__(self, module: Any, **options: Any) -> None:  # noqa: ANN401 - what transformers gives
        super().__init__(module, **options)
        count = getattr(module.config, "num_hidden_layers", 0)
        self._attentions = tuple(f"{ATTENTIONS}{index}" for index in range(count))
        self.layers = [*self.layers, *self._attentions]

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """See Program."""
        wanted = [path for path in paths if path in self._attentions]
        if not wanted:
            return super().run(inputs, paths)
        self._form_maps()
        found = super().run(inputs, [path for path in paths if path not in wanted])
        maps = getattr(found.given["output"][0], "attentions", None)
        if maps is None:
            raise ModelError(f"the model gives no attention maps, and {wanted[0]!r} is asked for")
        own = {path: [maps[int(path.removeprefix(ATTENTIONS))]] for path in wanted}
        return type(found)({**found.given, **own}, found.mask)

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """See Program. Maps are among the layers where the model gives them when it is asked to."""
        shapes = super().shapes(inputs)
        maps = None
        with suppress(ModelError), explained(inputs):
            self._form_maps()
            maps = getattr(self._forward(inputs)[1], "attentions", None)
        own = zip(self._attentions, maps or (), strict=False)
        return {**shapes, **{path: structure(each) for path, each in own if each is not None}}

    def _form_maps(self) -> None:
        own_module: Any = self.module
        own_module.set_attn_implementation("eager")  # the others never form the maps
        own_module.config.output_attentions = True


def opened(declared: Declaration, folder: Path, how: How) -> ModuleProgram:
    """The model of a pipeline, in the class that it was saved in.

    Raises:
        ModelError: The package is missing, the class is none of transformers, or the model cannot be loaded.
    """
    with installed("transformers", "transformers"):
        import transformers

    from safetensors import SafetensorError

    quiet_transformers()
    name = declared.settings.get("pipeline_model_type")
    kind = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise ModelError(
            f"{folder / 'MLmodel'}: pipeline_model_type is {name!r}, expected a model class of transformers"
        )
    with readable(declared.weights, "the model of transformers", SafetensorError):
        loads: Any = kind  # its types leave out that it gives a report as well
        module, report = loads.from_pretrained(
            str(declared.weights),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=declared.serialization == "safetensors",
            output_loading_info=True,
            dtype="float32",  # and not that of the file; what the policy asks for comes after it
        )
    require_all_weights(declared.weights, report)
    tokenizer, images = _tokenizer(folder, declared), _image_processor(folder)
    return TransformersProgram(
        module,
        device=how.device,
        precision=how.precision,
        feed=_feeder(module, tokenizer, images, how.device),
        at_once=ROWS_AT_ONCE if tokenizer is None else TEXTS_AT_ONCE,
    )


def _tokenizer(folder: Path, declared: Declaration) -> Any:  # noqa: ANN401 - what transformers gives
    from transformers import AutoTokenizer

    # Older versions of MLflow save a whole pipeline into one folder.
    for place in (folder / "components" / "tokenizer", declared.weights):
        if any((place / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
            with readable(place, "the tokenizer"):
                found = AutoTokenizer.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
            # On the right, padding comes after the real tokens: their positions, and what they see, are those without.
            found.padding_side = "right"
            if found.pad_token is None:
                found.pad_token = found.eos_token
            return found
    return None


def _image_processor(folder: Path) -> Any:  # noqa: ANN401 - what transformers gives
    from transformers import AutoImageProcessor

    processors: Any = AutoImageProcessor

    for place in (folder / "components" / name for name in _IMAGE_PROCESSORS):
        if (place / "preprocessor_config.json").is_file():
            with readable(place, "the image processor"):
                return processors.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
    return None


def _feeder(module: Any, tokenizer: Any, images: Any, device: str) -> Callable[[Inputs], Fed]:  # noqa: ANN401
    limit = min(getattr(tokenizer, "model_max_length", None) or _LARGEST_LENGTH, _positions(module))
    takes_mask = MASK in signature(module.forward).parameters

    def fed(inputs: Inputs) -> Fed:
        if isinstance(inputs, tuple) and isinstance(inputs[0], str):
            if tokenizer is None:
                raise ModelError("the model was saved without a tokenizer, and the probe set holds texts")
            cut = {"truncation": True, "max_length": limit} if limit < _LARGEST_LENGTH else {}
            given = tokenizer(list(inputs), padding=True, return_tensors="pt", return_attention_mask=True, **cut)
            if not takes_mask and not bool(given[MASK].all()):
                raise ModelError(
                    f"the model takes no {MASK}, so that padding would count; write `run: {{batch_size: 1}}`"
                )
        elif isinstance(inputs, tuple):
            if images is None:
                raise ModelError("the model was saved without an image processor; give the probe set a `transform`")
            given = images(list(inputs), return_tensors="pt", input_data_format="channels_last")
        else:
            given = _tensors(module, inputs)
        placed = {
            name: each.to(device, module.dtype if each.is_floating_point() else None) for name, each in given.items()
        }
        mask = placed.get(MASK)
        kwargs = placed if takes_mask else {name: each for name, each in placed.items() if name != MASK}
        return Fed(kwargs=kwargs, mask=mask, shown=placed.get("pixel_values"))

    return fed


def _positions(module: Any) -> int:  # noqa: ANN401 - what transformers gives
    """Tokens that the model has positions for."""
    config = module.config
    most = getattr(config, "max_position_embeddings", None) or _LARGEST_LENGTH
    # Models after RoBERTa count positions from behind that of padding.
    return most - config.pad_token_id - 1 if config.model_type in _FROM_PADDING else most


def _tensors(module: Any, inputs: Inputs) -> dict[str, Any]:  # noqa: ANN401
    import torch

    if isinstance(inputs, Mapping):
        if any(isinstance(each, tuple | Mapping) for each in inputs.values()):
            raise ModelError(f"the model takes texts, or arrays by name; the probe set holds {described(inputs)}")
        return {name: torch.tensor(each) for name, each in inputs.items()}
    return {module.main_input_name: torch.tensor(inputs)}
