"""The head of a classifier against the geometry of its features."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.methods.domains import small_class
from gate.geometry.methods.held_out import HeldOut, judge, share, unrepeated
from gate.geometry.methods.probing import require_spread
from gate.geometry.methods.standard_probe import cosine_pull, nearest_mean_pull, nearest_mean_scores
from gate.geometry.registry import Answers, lower, metric
from gate.geometry.statistics import CategoryFolds, ClassFolds, Codes, Sample, output_names
from gate.geometry.statistics.columns import place

_SMALL = 10  # rows of a class in the folds that its mean is fitted on


@metric(
    unit="share of rows",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"row_scaling", "channel_scaling", "linear_map"},
    kinds={"classifier"},
    domain="10 rows of each class in the other folds",
    elsewhere=("The package neural-collapse (2025-02) counts agreement and leaves the bias of the head out."),
    paper="NC4 of Papyan, Han and Donoho 2020, Prevalence of neural collapse; held-out means and the bias are ours",
    reads={"logits", "head"},
    readouts={
        "per_class": lower("the class on which they disagree most"),
        "cos": lower("disagreement with the mean of the largest cosine"),
    },
    limits=dict.fromkeys(("value", "per_class", "cos"), (0.0, 1.0)),
    ranges={"temperature": (0.01, 1)},
)
def ncc_head_disagreement(folds: ClassFolds, sample: Sample, *, temperature: float = 0.05) -> Answers:
    """How often the head decides otherwise than the nearest class mean (NC4).

    Share of held-out rows with argmax(W h + b) other than the class whose mean over the other folds is nearest: means
    that hold the row itself would pull it towards its class. The decision is that of `logits`, else of "head.weight"
    and "head.bias"; classes of the head without rows are left out.

    Args:
        folds: Moments of each class of features (n, d), fold by fold.
        sample: The sampled rows, held out fold by fold.
        temperature: Of the softmax over cosines whose mean is set against that of the head, in the detail of `cos`.

    Returns:
        Share of rows in [0, 1], and read-outs.

    Raises:
        MetricError: The head is not (C, d) and (C,), or it is open which output is whose.
    """
    names = folds.classes[0].names
    require_spread(folds.without()[0])
    head, rows, few = _decisions(sample, names), unrepeated(sample), _few(folds)
    if few is not None or isinstance(head, Refusal) or isinstance(rows, Refusal):
        return next(each for each in (head, few, rows) if isinstance(each, Refusal))
    scores, cosines = nearest_mean_scores(folds, sample), nearest_mean_scores(folds, sample, cosine=True)
    labels, decided = sample.class_codes(names), head.argmax(dim=1)
    found = judge(sample, rows, names, decided, scores, nearest_mean_pull(folds, sample, labels))
    by_angle = judge(sample, rows, names, decided, cosines, cosine_pull(folds, sample, labels, cosines))
    value = _disagreement(found)
    return {
        "value": replace(value, detail=found.note),
        "per_class": _worst_class(found, labels[rows]),
        "cos": _with_marginals(_disagreement(by_angle), head[rows], cosines[rows], names, temperature),
    }


def _few(folds: ClassFolds) -> Refusal | None:
    """The refusal when the mean of a class would rest on fewer than 10 rows of the other folds."""
    classes = CategoryFolds(folds.classes)
    fits = [classes.without(fold) for fold in range(len(folds.classes))]
    return small_class(min(fits, key=lambda fit: fit.smallest), _SMALL)


def _decisions(sample: Sample, names: tuple[str, ...]) -> Tensor | Refusal:
    """What the head gives for each of the classes, (m, C)."""
    found = _outcomes(sample)
    if isinstance(found, Refusal):
        return found
    outputs = _outputs(sample, names, found.shape[1])
    absent = sorted({*names} - {*outputs})
    if absent:
        return missing_input(f"an output for class {absent[0]!r}; name them by `outputs`, found {list(outputs)[:10]}")
    return found[:, place(names, outputs, found.device)].double()


def _outcomes(sample: Sample) -> Tensor | Refusal:
    """The logits as they are, else W h + b, (m, outputs)."""
    found = sample.rows.columns.get("logits")
    if isinstance(found, Tensor):
        return found
    weight, bias = (sample.rows.weights.get(name) for name in ("head.weight", "head.bias"))
    if weight is None:
        return missing_input("logits or head.weight")
    _require_shapes(weight, bias)
    d = sample.features.shape[1]
    if weight.shape[1] != d:
        return Refusal("not_applicable", f"dim_mismatch: head.weight reads {weight.shape[1]} features, found {d}")
    scores = sample.features.double() @ weight.double().T
    return scores if bias is None else scores + bias.double()


def _require_shapes(weight: Tensor, bias: Tensor | None) -> None:
    """Refuses a head that broadcasting would answer for all the same."""
    if weight.ndim != 2 or 0 in weight.shape:
        raise MetricError(f"shape_mismatch: head.weight must be (C, d), found {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise MetricError(
            f"shape_mismatch: head.bias must be (C,) = ({len(weight)},) for head.weight {tuple(weight.shape)}, "
            f"found {tuple(bias.shape)}"
        )


def _outputs(sample: Sample, names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Class names of the outputs: as they are given, else as for every other metric of outputs."""
    given = sample.rows.outputs
    if given is None:
        return output_names(count, Codes(names, torch.empty(0, dtype=torch.int64)))
    if len(given) != count:
        raise MetricError(f"shape_mismatch: outputs name {len(given)} classes, the head has {count}")
    return given


def _disagreement(found: HeldOut) -> Readout:
    wrong = 1 - found.correct
    influence = found.spread(wrong - wrong.mean()) - found.pulled(torch.ones_like(wrong))
    return share(found, wrong.mean(), influence, len(wrong))


def _worst_class(found: HeldOut, labels: Tensor) -> Readout:
    """The largest disagreement among the rows of one class."""
    wrong = 1 - found.correct
    counts = torch.bincount(labels, minlength=len(found.names)).double()
    means = torch.zeros_like(counts).index_add_(0, labels, wrong) / counts
    worst = int(means.nan_to_num(-1.0).argmax())
    inside = (labels == worst).double() / (labels == worst).double().mean()
    influence = found.spread(inside * (wrong - means[worst])) - found.pulled(inside)
    judged = zip(found.names, means.tolist(), counts.tolist(), strict=True)
    return replace(
        share(found, means[worst], influence, int(counts[worst])),
        comparisons=int((counts > 0).sum()),
        method="Wilson, held-out rows, Bonferroni over classes",
        detail=f"class {found.names[worst]!r}",
        breakdown={name: mean for name, mean, count in judged if count},
    )


def _with_marginals(
    found: Readout, head: Tensor, cosines: Tensor, names: tuple[str, ...], temperature: float
) -> Readout:
    """The read-out with the mean softmax over prototypes less that of the head, by class."""
    gaps = (cosines / temperature).softmax(dim=1).mean(dim=0) - head.softmax(dim=1).mean(dim=0)
    return replace(
        found,
        detail=f"class shares of prototypes and head differ by {gaps.abs().sum().item() / 2:.3f} in total variation",
        breakdown=dict(zip(names, gaps.tolist(), strict=True)),
    )
