"""Rows with every column that a metric can ask for, so that one loop over the registry tests them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gate.geometry.statistics import COLUMNS, step_terms, token_means, token_terms
from tests.geometry import data

NAMES_OF_CLASSES = ("0", "1", "2", "3")
CHECKPOINTS = (("first", 0.5), ("second", 1.0), ("third", 1.5))
SPLITS = ("reference", "ood", "shifted")


def everything(n: int = 1200, d: int = 16, seed: int = 0) -> dict[str, Any]:
    """Arguments of `measure`: a healthy model with four classes, its baseline and head, all that is known of rows."""
    rows, labels = data.structured(n, d, 4, seed, signal=0.7)
    features = rows.double()
    g = data.generator(seed + 1000)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    fixed = data.generator(99)  # what belongs to a model is the same in every draw

    def constant(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=fixed, dtype=torch.float64)

    half, tone, size = (torch.rand(n, generator=g) < share for share in (0.5, 0.5, 0.3))
    for channel, coin in ((5, half), (3, tone), (4, size)):
        features[:, channel] += 1.2 * coin
    sublabels = 2 * labels + half.long()
    groups = torch.arange(n) % 3
    features[:, 2] += 0.4 * groups
    logits = 2.0 * torch.nn.functional.one_hot(labels, 4) + noise(n, 4)
    earlier = features @ data.rotation(d, 11) + 0.6 * noise(n, d)
    reference, reference_labels = data.structured(n, d, 4, 77, signal=0.7)
    return {
        "features": features,
        "labels": labels,
        "sublabels": sublabels,
        "groups": groups,
        "cues": torch.where(torch.rand(n, generator=g) < 0.7, labels, (labels + 1) % 4),
        "attributes": {
            "tone": tone.long(),
            "size": size.long(),
        },
        "tasks": {"parity": labels % 2, "side": (features[:, 0] > 0.3).long()},
        "pretext": (features[:, 1] > 0.3).long(),
        "lengths": torch.randint(4, 200, (n,), generator=g).double(),
        "targets": features[:, :4] @ data.rotation(4, 4) + 0.3 * noise(n, 4),
        "logits": logits,
        "view_logits": {"left": logits + noise(n, 4), "right": logits + 2 * noise(n, 4)},
        "baseline": earlier,
        "earlier": {"first": earlier + 0.5 * data.isotropic(n, d, seed + 2000)},
        "baseline_logits": 1.5 * torch.nn.functional.one_hot(labels, 4) + noise(n, 4),
        "before": features + 0.5 + 0.2 * noise(n, d),
        "depths": {"first": noise(n, 8) + features[:, :8], "second": features + 0.5 * noise(n, d)},
        "trivial": {"random weights": (features @ constant(d, d)).tanh()},
        "encoded": noise(n, 8),
        "channel_mass": features.abs() * (1 + torch.rand(n, d, generator=g, dtype=torch.float64)),
        "latent_means": noise(n, 6) * torch.tensor([1.0, 0.8, 0.6, 0.3, 0.05, 0.02], dtype=torch.float64),
        "latent_log_variances": torch.tensor([-4.0, -3, -2, -1, -0.05, 0], dtype=torch.float64)
        + 0.02 * noise(n, 6).abs(),
        "codes": (noise(n, 12).abs() * 9).long().clamp_max(31),
        "reference": {"features": reference.double(), "labels": reference_labels},
        "ood": {"features": 1.6 * noise(n, d) + 0.3},
        "shifted": {"features": features[: n // 2] + 0.2 + 0.3 * noise(n // 2, d)},
        "weights": {
            "head.weight": constant(4, d),
            "head.bias": constant(4),
            "codebook": constant(32, 6),
        },
        **tokens_of(features, noise),
        "history": {name: part * torch.nn.functional.one_hot(labels, 4) + noise(n, 4) for name, part in CHECKPOINTS},
    }


def tokens_of(features: Tensor, noise: Callable[..., Tensor]) -> dict[str, Any]:
    """Terms of six tokens a row at two layers, their mean, and what is known of attention and edges."""
    n = len(features)
    content = features[:, None, :8] + 1.0
    shallow, deep = (share * content + noise(n, 6, 8) for share in (0.5, 1.0))
    spoken = torch.arange(6).expand(n, -1) >= 2
    steps = step_terms({"first": shallow[:, :, :2], "last": deep[:, :, :2]})  # fewer channels than tokens
    last = torch.cat([token_terms(deep, None, spoken), steps["last"]], dim=1)
    return {
        "tokens": {"first": token_terms(shallow, None, spoken), "last": last},
        "token_mean": token_means(deep),
        "baseline_tokens": {"last": token_terms(0.8 * content + (0.1 + 3 * noise(n, 1, 1).abs()) * noise(n, 6, 8))},
        "attention_filter": noise(n).abs(),
        "dirichlet": noise(n).square(),
    }


def changed(inputs: Mapping[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The same model with its features changed, on the probe set and on all other rows."""
    result = dict(inputs)
    result["features"] = change(inputs["features"])
    for split in SPLITS:
        if split in inputs:
            result[split] = {**inputs[split], "features": change(inputs[split]["features"])}
    return result


def taken(inputs: Mapping[str, Any], rows: Sequence[int] | Tensor) -> dict[str, Any]:
    """Some of the probe rows, in some order, with all their columns."""
    index = torch.as_tensor(rows)

    def pick(column: Any) -> Any:
        return {name: pick(part) for name, part in column.items()} if isinstance(column, Mapping) else column[index]

    per_row = {name: pick(column) for name, column in inputs.items() if name == "features" or name in COLUMNS}
    return {**inputs, **per_row}
