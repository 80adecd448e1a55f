"""Encoders of token sequences, trained on two pieces of one text; texts are drawn from ten topics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case, with_copies
from benchmarks.packs.served import pruned, with_number
from benchmarks.packs.training import Schedule, built, fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

WIDTH, HEADS = 64, 4
TOPICS, WORDS = 10, 200
PADDING = WORDS
LENGTHS = (4, 8, 16, 32)
OF_TOPIC = 0.7  # of the words of a text; the rest are words of every topic
TRAINING_TEXTS, PROBE_TEXTS = 1000, 300


@dataclass(frozen=True)
class Recipe:
    """How an encoder is built and trained."""

    layers: int = 2
    residual: bool = True
    negatives: bool = True
    longest: int = LENGTHS[-1]
    mixed_up: bool = False
    rectified: bool = False
    epochs: int = 6


HEALTHY = Recipe()
FAILURES = {
    "short texts only": replace(HEALTHY, longest=LENGTHS[1]),
    "no residual path": replace(HEALTHY, layers=4, residual=False),
    "no negatives": replace(HEALTHY, negatives=False),
    "pairs mixed up": replace(HEALTHY, mixed_up=True),
    "cut at zero": replace(HEALTHY, rectified=True),
}


class Block(nn.Module):
    """Attention and a perceptron, each added to what came in, or in place of it."""

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.mixed = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States (n, T, d) that have seen the real tokens of their text, `mask` (n, T)."""
        n, t, _ = states.shape
        queries, keys, values = self.mixed(self.norms[0](states)).reshape(n, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask[:, None, None, :])
        seen = self.out(seen.transpose(1, 2).reshape(n, t, WIDTH))
        states = states + seen if self.residual else seen
        found: Tensor = self.perceptron(self.norms[1](states))
        return states + found if self.residual else found


class Encoder(nn.Module):
    """Tokens to one vector a text: the mean over its real tokens."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS + 1, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTHS[-1], WIDTH))
        self.blocks = nn.ModuleList([Block(residual=recipe.residual) for _ in range(recipe.layers)])
        self.out = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU() if recipe.rectified else nn.Identity())

    def forward(self, texts: Tensor, *, ignore_padding: bool = True) -> Tensor:
        """Vectors (n, 64) of texts (n, T)."""
        mask = texts != PADDING if ignore_padding else torch.ones_like(texts, dtype=torch.bool)
        states = self.words(texts) + self.places[: texts.shape[1]]
        for block in self.blocks:
            states = block(states, mask)
        weights = mask[:, :, None].float()
        found: Tensor = self.out((states * weights).sum(dim=1) / weights.sum(dim=1))
        return found


@cache
def _texts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Texts (count, 48) and their topics; what the topics are about does not depend on the seed."""
    world = torch.Generator().manual_seed(0)
    common = 1 / torch.arange(1, WORDS + 1).float()
    own = torch.rand(TOPICS, WORDS, generator=world).pow(8)
    chances = (1 - OF_TOPIC) * common / common.sum() + OF_TOPIC * own / own.sum(dim=1, keepdim=True)
    draw = torch.Generator().manual_seed(seed)
    topics = torch.arange(count) % TOPICS
    return torch.multinomial(chances[topics], LENGTHS[-1], replacement=True, generator=draw), topics


@cache
def _probe() -> tuple[Tensor, dict[str, Tensor]]:
    """The same texts at every length, with topic, length and text of each row."""
    texts, topics = _texts(PROBE_TEXTS, 1)
    rows = torch.cat([_cut(texts, torch.full((len(texts),), length)) for length in LENGTHS])
    times = len(LENGTHS)
    lengths = torch.tensor(LENGTHS).repeat_interleave(len(texts))
    return rows, {
        "labels": topics.repeat(times),
        "lengths": lengths,
        "clusters": torch.arange(len(texts)).repeat(times),
    }


def _cut(texts: Tensor, lengths: Tensor) -> Tensor:
    return texts.masked_fill(torch.arange(texts.shape[1]) >= lengths[:, None], PADDING)


def cases(seed: int) -> Iterator[Case]:
    """The healthy encoder, the broken ones, and the healthy one served wrongly."""
    probe, columns = _probe()
    model = _trained(HEALTHY, seed)
    healthy = _vectors(model)
    yield _case("healthy", healthy)
    for name, recipe in FAILURES.items():
        yield _case(name, _vectors(_trained(recipe, seed)))
    with torch.inference_mode():
        yield _case("padding counted", model(probe, ignore_padding=False))
    yield _case("raw column", with_number(healthy, columns["lengths"].float()))
    yield _case("pruned", pruned(healthy))
    yield with_copies(_case("healthy", healthy))


def _case(model: str, features: Tensor) -> Case:
    probe, columns = _probe()
    return Case(model, {"embedding": features}, probe, columns, healthy=model == "healthy")


@torch.inference_mode()
def _vectors(model: Encoder) -> Tensor:
    found: Tensor = model(_probe()[0])
    return found


def _trained(recipe: Recipe, seed: int) -> Encoder:
    texts, _ = _texts(TRAINING_TEXTS, 0)
    model = built(lambda: Encoder(recipe), seed)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        return _loss(model, texts[rows], recipe, generator)

    return fit(model, loss, len(texts), seed, Schedule(epochs=recipe.epochs, batch=100))


def _loss(model: Encoder, texts: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    """Cross-entropy of the other piece of a text among the pieces of all texts of the batch."""
    other = torch.randperm(len(texts), generator=generator) if recipe.mixed_up else torch.arange(len(texts))
    first, second = (
        functional.normalize(model(_piece(each, recipe.longest, generator))) for each in (texts, texts[other])
    )
    if not recipe.negatives:
        return -(first * second).sum(dim=1).mean()
    return functional.cross_entropy(first @ second.T / 0.1, torch.arange(len(texts)))


def _piece(texts: Tensor, longest: int, generator: Generator) -> Tensor:
    """Words of each text in another order, and as many as chance has it."""
    order = torch.rand(texts.shape, generator=generator).argsort(dim=1)
    lengths = torch.randint(LENGTHS[0], longest + 1, (len(texts),), generator=generator)
    return _cut(texts.gather(1, order), lengths)[:, :longest]
