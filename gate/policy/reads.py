"""The keys of a policy that say where a model is read."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from gate.policy.kinds import Keys, Text

Pooling = Literal["none", "mean", "cls", "last", "max", "flatten", "spatial_mean"]


class Layer(Keys):
    """Where features are read."""

    path: Text
    """A layer by its name, as `gate layers` lists them (of torch, those of `model.named_modules()`)."""
    pooling: Pooling = "none"
    """How the output of the layer becomes one row for each sample."""


class Output(Layer):
    """Where something else than features is read, for metrics that need it."""

    classes: tuple[Text, ...] = ()
    """Of `logits`: the classes that its columns stand for, in order; by default what the model of transformers calls
    them, 0, 1, … or the sorted labels. A single column needs them where labels are no numbers."""


class Layers(Keys):
    """Layers one after another."""

    paths: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Names of layers, as `gate layers` lists them, from shallow to deep."""


class Depths(Layers):
    """Layers one after another, each with one row for each sample."""

    pooling: Pooling = "none"
    """How the output of each becomes one row for each sample."""


class Attention(Keys):
    """Where attention maps are read."""

    path: Text
    """A layer that gives maps (n, heads, tokens, tokens); of models of transformers `attentions.0` and so on."""


class Weights(Keys):
    """Where weights of the model are read."""

    path: Text
    """A linear layer, or another one with a weight (rows, dimensions)."""


class Place(NamedTuple):
    """Where something is read, and how each sample becomes a row."""

    path: str
    pooling: str


class Reads(Keys):
    """What metrics may read of the model besides the features of a layer."""

    logits: Output | None = None
    """Outputs (n, classes) of the head; a single one is the logit of the second of two classes."""
    before: Output | None = None
    """Features before the layer."""
    latent_means: Output | None = None
    """Posterior means (n, z)."""
    latent_log_variances: Output | None = None
    """Posterior log variances (n, z)."""
    codes: Output | None = None
    """Code indices (n, T)."""
    depths: Depths | None = None
    """Features of earlier layers."""
    tokens: Layers | None = None
    """Token states (n, tokens, d) of layers; what is padding has no part in them."""
    attention: Attention | None = None
    """Attention maps of a layer."""
    head: Weights | None = None
    """The head itself: its weight (classes, d) and bias."""
    codebook: Weights | None = None
    """The codebook itself (codes, d)."""

    @property
    def given(self) -> dict[str, Output]:
        """The outputs that are named."""
        return {name: where for name, where in self if isinstance(where, Output)}

    @property
    def named(self) -> list[str]:
        """All that is named."""
        return [name for name, where in self if where is not None]

    @property
    def places(self) -> dict[str, Place]:
        """Column of the metrics → where it is read; of several layers one column each."""
        found = {name: Place(where.path, where.pooling) for name, where in self.given.items()}
        if self.depths is not None:
            found |= {f"depths.{path}": Place(path, self.depths.pooling) for path in self.depths.paths}
        if self.tokens is not None:
            found |= {f"tokens.{path}": Place(path, "token_terms") for path in self.tokens.paths}
            found["token_mean"] = Place(self.tokens.paths[-1], "token_mean")
        if self.attention is not None:
            found["attention_filter"] = Place(self.attention.path, "attention_filter")
        return found

    @property
    def weights(self) -> dict[str, str]:
        """Name → the layer whose weights are read."""
        return {name: where.path for name, where in self if isinstance(where, Weights)}
