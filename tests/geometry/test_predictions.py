from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.metrics import balanced_accuracy_score, log_loss, precision_score, recall_score
from torch import Tensor

from gate.errors import MetricError
from gate.estimate import Estimate
from gate.geometry.methods import rates, strata
from gate.geometry.statistics import Batch, Codes, Ledger, Sample, sample
from gate.measurement import measure
from tests.geometry import data, inputs

NAMES = ("ece", "worst_class_recall", "prediction_entropy_ratio", "worst_group_accuracy")


def ask(address: str, logits: Tensor, **columns: Any) -> Estimate:
    features = columns.pop("features", torch.arange(len(logits), dtype=torch.float64)[:, None])
    return measure(features, logits=logits, metrics=[address], **columns)[address]


def value(address: str, logits: Tensor, **columns: Any) -> float:
    found = ask(address, logits, **columns)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def hard(predictions: Any, c: int) -> Tensor:
    """Outputs that are certain of one class."""
    return 2000.0 * torch.nn.functional.one_hot(torch.as_tensor(predictions), c).double()


def calibrated(n: int, c: int, seed: int, sharpness: float = 1.5) -> tuple[Tensor, Tensor]:
    """Outputs of which the labels are drawn: a model that is exactly as sure as it should be."""
    g = data.generator(seed)
    logits = sharpness * torch.randn(n, c, generator=g, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=g)[:, 0]


def of_recalls(recalls: list[float], per_class: int) -> tuple[Tensor, Tensor]:
    """Outputs and labels with these recalls; what is wrong goes to the next class."""
    c = len(recalls)
    labels = torch.arange(c).repeat_interleave(per_class)
    right = torch.cat([torch.arange(per_class) < round(recall * per_class) for recall in recalls])
    return hard(torch.where(right, labels, (labels + 1) % c), c), labels


# The ledger


def batches(cuts: list[int], n: int = 500) -> list[Batch]:
    """Shards that have not all seen every label and tag."""
    logits, labels = calibrated(n, 6, 3)
    labels = labels.sort().values
    tags = [f"tag {row // 100}" for row in range(n)]
    edges = [0, *cuts, n]
    return [
        Batch.of(
            torch.zeros(b - a, 1),
            ids=[str(row) for row in range(a, b)],
            logits=1e4 + logits[a:b],
            baseline_logits=logits[a:b].flip(1),
            labels=labels[a:b],
            attributes={"tag": tags[a:b]},
            history={"first": logits[a:b] * 0.5},
        )
        for a, b in itertools.pairwise(edges)
    ]


def contents(ledger: Ledger) -> dict[str, Any]:
    found: dict[str, Any] = {"shares": ledger.shares, "n": ledger.n}
    for name in ledger.parts[0]:
        codes = ledger.codes(name)
        found[name] = [codes.names[code] for code in codes.values] if codes else ledger.numbers(name)
    return found


def assert_equal(first: Ledger, second: Ledger) -> None:
    mine, other = contents(first), contents(second)
    assert mine.keys() == other.keys()
    for name, column in mine.items():
        if isinstance(column, Tensor):
            torch.testing.assert_close(column, other[name], rtol=1e-12, atol=1e-12, equal_nan=True)
        else:
            assert column == other[name], name


@pytest.mark.parametrize("cuts", [[250], [1, 3, 400], list(range(1, 60))], ids=["halves", "uneven", "single rows"])
def test_merging_any_split_of_a_ledger_equals_one_pass(cuts: list[int]) -> None:
    whole = Ledger.of(batches([])[0])
    parts = [Ledger.of(batch) for batch in batches(cuts)]
    assert_equal(reduce(Ledger.merge, parts), whole)
    assert_equal(reduce(Ledger.merge, reversed(parts)), whole)


def test_a_ledger_merges_associatively_and_stays_in_few_pieces() -> None:
    a, b, c = (Ledger.of(batch) for batch in batches([20, 300]))
    assert_equal(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert len(reduce(Ledger.merge, [Ledger.of(batch) for batch in batches(list(range(1, 500)))]).parts) <= 9


def test_a_ledger_never_keeps_the_outputs() -> None:
    ledger = Ledger.of(batches([])[0])
    assert all(column.ndim == 1 for column in ledger.parts[0].values() if isinstance(column, Tensor))
    assert ledger.shares.shape == (6,)


def test_numbers_of_a_ledger_are_those_of_scipy_far_from_zero() -> None:
    batch = batches([])[0]
    ledger = Ledger.of(batch)
    order = batch.hashes.argsort().numpy()
    logits = batch.numbers("logits").numpy()[order]
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    entropies = stats.entropy(probabilities, axis=1)
    np.testing.assert_allclose(ledger.numbers("entropy").numpy(), entropies, rtol=1e-9)
    np.testing.assert_allclose(ledger.numbers("confidence").numpy(), probabilities.max(axis=1), rtol=1e-9)
    earlier = batch.numbers("baseline_logits").double().softmax(dim=1).numpy()[order]
    divergence = stats.entropy(earlier, probabilities, axis=1)
    np.testing.assert_allclose(ledger.numbers("divergence").numpy(), divergence, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(ledger.shares.numpy(), probabilities.mean(axis=0), rtol=1e-9)


def test_the_sampled_rows_are_found_by_their_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "CAPACITY", 40)
    batch = batches([])[0]
    ledger, kept = Ledger.of(batch), Sample.of(batch)
    places = ledger.places(kept)
    assert torch.equal(ledger.numbers("hash")[places], kept.rows.hashes)
    expected = kept.rows.numbers("logits").argmax(dim=1)
    assert torch.equal(ledger.predictions()[places], expected)


def test_values_come_from_all_rows_and_influence_from_the_sampled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = calibrated(2000, 3, 5)
    before = ask("worst_class_recall.uar", logits, labels=labels)
    monkeypatch.setattr(sample, "CAPACITY", 300)
    after = ask("worst_class_recall.uar", logits, labels=labels)
    assert after.value == before.value
    assert after.interval == pytest.approx(before.interval)
    assert after.influence is not None
    assert len(after.influence.ids) == 300


def test_shards_of_two_models_or_with_other_columns_are_not_merged() -> None:
    def ledger(c: int, **columns: Any) -> Ledger:
        return Ledger.of(Batch.of(torch.zeros(2, 1), ids=["a", "b"], logits=torch.zeros(2, c), **columns))

    with pytest.raises(MetricError, match=r"one order of classes, found 2 classes from '0' and 3 from '0'"):
        ledger(2).merge(ledger(3))
    with pytest.raises(MetricError, match="some rows have groups and others have none"):
        ledger(2).merge(ledger(2, groups=["x", "y"])).numbers("hash")


def test_outputs_that_do_not_fit_the_logits_are_refused() -> None:
    rows = torch.zeros(4, 1)
    with pytest.raises(MetricError, match="outputs name 2 classes, logits have 3 columns"):
        measure(rows, logits=torch.zeros(4, 3), outputs=["a", "b"], metrics=["ece"])
    with pytest.raises(MetricError, match="outputs must be distinct, 'a' occurs more than once"):
        measure(rows, logits=torch.zeros(4, 2), outputs=["a", "a"], metrics=["ece"])


def test_a_label_that_no_output_stands_for_is_an_error() -> None:
    logits, labels = calibrated(1200, 3, 0)
    names = [{0: "ant", 1: "bee", 2: "wasp"}[int(label)] for label in labels]
    for name in ("ece", "worst_class_recall", "worst_group_accuracy"):
        found = ask(name, logits, labels=names, outputs=["ant", "bee", "fly"], groups=labels)
        assert found.status == "error"
        assert "no output stands for 1 of the labels ('wasp')" in str(found.reason)
    assert ask("prediction_entropy_ratio", logits, labels=names, outputs=["ant", "bee", "fly"]).status == "ok"


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_one_column_choose_between_no_classes(name: str) -> None:
    found = ask(name, torch.zeros(2000, 1), labels=[0] * 2000, groups=[0] * 2000)
    assert found.status == "not_applicable"
    assert "wrong_model_kind: logits have one column" in str(found.reason)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_are_not_finite_are_an_error(name: str) -> None:
    logits, labels = calibrated(1200, 3, 0)
    logits[5, 1] = -torch.inf
    found = ask(name, logits, labels=labels, groups=labels)
    assert found.status == "error"
    assert "nonfinite_rows: 1 of 1200 rows of logits" in str(found.reason)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 1e300])
def test_no_size_of_the_outputs_overflows(scale: float) -> None:
    given = inputs.everything()
    given["logits"] = given["logits"].double() * scale
    for found in measure(metrics=list(NAMES), **given).values():
        assert found.status in ("ok", "inconclusive", "not_applicable"), (found.metric, found.reason)
        if found.metric != "ece.nll":
            assert found.value is None or math.isfinite(found.value), found.metric


# ece


def brute_ece(confidence: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    order = np.argsort(confidence)
    groups = np.array_split(order, 15)
    gaps = (len(group) * abs(right[group].mean() - confidence[group].mean()) for group in groups)
    return float(sum(gaps)) / len(order)


def with_confidence(confidence: float, accuracy: float, n: int = 1000) -> tuple[Tensor, Tensor]:
    logits = torch.tensor([math.log(confidence), math.log(1 - confidence)], dtype=torch.float64).expand(n, 2)
    return logits, (torch.arange(n) >= round(accuracy * n)).long()


def test_a_model_surer_than_it_is_right_has_that_gap_as_its_error() -> None:
    logits, labels = with_confidence(0.9, 0.6)
    assert value("ece.raw", logits, labels=labels) == pytest.approx(0.3, abs=1e-9)
    assert value("ece", logits, labels=labels) == pytest.approx(0.3 - math.sqrt(2 / math.pi * 0.09 / 1000), abs=1e-9)
    assert value("ece.sq", logits, labels=labels) == pytest.approx(0.09 - 0.24 / 999, abs=1e-9)


def test_equal_confidences_share_a_bin_and_have_no_error_when_they_are_right() -> None:
    logits, labels = with_confidence(0.7, 0.7)
    assert value("ece.raw", logits, labels=labels) == pytest.approx(0, abs=1e-9)


def test_ece_is_that_of_a_loop_over_bins() -> None:
    logits, labels = calibrated(1505, 4, 2)
    logits = logits * 1.7
    probabilities = logits.softmax(dim=1).numpy()
    right = (logits.argmax(dim=1) == labels).double().numpy()
    assert value("ece.raw", logits, labels=labels) == pytest.approx(
        brute_ece(probabilities.max(axis=1), right), abs=2e-3
    )
    logits, labels, probabilities, right = logits[:1500], labels[:1500], probabilities[:1500], right[:1500]
    expected = brute_ece(probabilities.max(axis=1), right)
    assert value("ece.raw", logits, labels=labels) == pytest.approx(expected, abs=1e-12)
    assert value("ece.nll", logits, labels=labels) == pytest.approx(log_loss(labels, probabilities), rel=1e-12)


def brute_deviation(scores: Any) -> float:
    """Mean distance of the count of a calibrated bin from its mean: binomial where it is small, else normal."""
    n, mean, own = len(scores), scores.mean(), (scores * (1 - scores)).sum()
    if own >= 10:
        return math.sqrt(2 / math.pi * n * mean * (1 - mean))
    counts = np.arange(n + 1)
    exact = (stats.binom.pmf(counts, n, mean) * np.abs(counts - n * mean)).sum()
    return float(exact * math.sqrt(own / (n * mean * (1 - mean))))


def test_rare_outcomes_hide_no_classwise_error() -> None:
    """The normal null is far too large where a bin expects less than one outcome: all seemed well."""
    held, names = 0, [str(code) for code in range(50)]
    for seed in range(12):
        logits, labels = calibrated(1000, 50, seed, 6.0)
        found = ask("ece.classwise", logits, labels=labels, outputs=names)
        assert found.interval is not None
        held += found.interval[0] <= 0 <= found.interval[1]
        assert value("ece.classwise", 2 * logits, labels=labels, outputs=names) > 0.0006
    assert held >= 11


def test_classwise_error_is_the_mean_of_a_loop_over_classes() -> None:
    logits, labels = calibrated(1500, 3, 4)
    probabilities = (2 * logits).softmax(dim=1).numpy()
    expected = 0.0
    for code in range(3):
        scores, outcomes = probabilities[:, code], (labels == code).double().numpy()
        parts = np.array_split(np.argsort(scores), 15)
        null = sum(brute_deviation(scores[part]) for part in parts)
        expected += (brute_ece(scores, outcomes) - null / 1500) / 3
    assert value("ece.classwise", 2 * logits, labels=labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "measured", "tolerance"), [(1000, 0.0385, 0.003), (5000, 0.0166, 0.0015)])
def test_a_calibrated_model_reads_its_null_and_zero_after_correction(n: int, measured: float, tolerance: float) -> None:
    found = []
    for seed in range(40):
        g = data.generator(seed)
        confidence = 0.5 + 0.5 * torch.rand(n, generator=g, dtype=torch.float64)
        labels = (torch.rand(n, generator=g, dtype=torch.float64) >= confidence).long()
        logits = torch.stack([confidence.log(), (1 - confidence).log()], dim=1)
        result = measure(confidence[:, None], logits=logits, labels=labels, metrics=["ece"])
        found.append([result[f"ece{name}"].value for name in (".raw", "", ".classwise", ".sq")])
    raw, corrected, classwise, squared = torch.tensor(found).mean(dim=0).tolist()
    assert raw == pytest.approx(measured, abs=tolerance)
    assert corrected == pytest.approx(0, abs=tolerance / 2)
    assert classwise == pytest.approx(0, abs=tolerance / 2)
    assert squared == pytest.approx(0, abs=0.5 / n)


def test_the_interval_of_a_calibrated_model_holds_zero_and_is_not_that_of_a_clear_gap() -> None:
    logits, labels = calibrated(2000, 4, 8)
    found = ask("ece", logits, labels=labels)
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.04
    worse = ask("ece", 3 * logits, labels=labels)
    assert worse.interval is not None
    assert worse.interval[0] > 0.1


def test_fewer_than_a_thousand_rows_do_not_decide_on_calibration() -> None:
    logits, labels = calibrated(999, 3, 0)
    found = ask("ece", logits, labels=labels)
    assert (found.status, found.n_needed) == ("inconclusive", 1000)
    assert "few_rows: 999 rows; it needs at least 1000" in str(found.reason)


# worst_class_recall


def test_recalls_of_a_table() -> None:
    logits, labels = of_recalls([0.9, 0.8, 0.2], 100)
    found = measure(torch.ones(300, 1), logits=logits, labels=labels, metrics=["worst_class_recall"])
    assert found["worst_class_recall"].value == pytest.approx(0.2, abs=1e-12)
    assert found["worst_class_recall.uar"].value == pytest.approx(0.6333, abs=1e-4)
    assert found["worst_class_recall.balanced_error"].value == pytest.approx(0.3667, abs=1e-4)
    assert found["worst_class_recall.std"].value == pytest.approx(np.std([0.9, 0.8, 0.2]), abs=1e-12)
    assert found["worst_class_recall.worst_k"].value == pytest.approx(0.6333, abs=1e-4)
    assert found["worst_class_recall.accept_c"].value == 1
    assert found["worst_class_recall"].breakdown == pytest.approx({"2": 0.2, "1": 0.8, "0": 0.9})
    assert "balanced" in str(found["worst_class_recall.head_tail"].reason)


def test_recalls_and_precisions_are_those_of_sklearn() -> None:
    logits, labels = calibrated(3000, 5, 6)
    predicted = logits.argmax(dim=1)
    recalls = recall_score(labels, predicted, average=None)
    assert value("worst_class_recall", logits, labels=labels) == pytest.approx(recalls.min())
    assert value("worst_class_recall.uar", logits, labels=labels) == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
    precisions = precision_score(labels, predicted, average=None)
    assert value("worst_class_recall.precision_c", logits, labels=labels) == pytest.approx(precisions.min())
    accepted = logits.softmax(dim=1).max(dim=1).values >= 0.95
    shares = [accepted[labels == code].double().mean().item() for code in range(5)]
    assert value("worst_class_recall.accept_c", logits, labels=labels) == pytest.approx(min(shares))


def test_head_and_tail_are_the_largest_and_smallest_third_of_the_classes() -> None:
    labels = torch.repeat_interleave(torch.arange(6), torch.tensor([300, 250, 100, 90, 40, 35]))
    right = torch.cat(
        [
            torch.arange(size) < share * size
            for size, share in zip([300, 250, 100, 90, 40, 35], [1, 1, 0.5, 0.5, 0, 0], strict=True)
        ]
    )
    logits = hard(torch.where(right, labels, (labels + 1) % 6), 6)
    found = ask("worst_class_recall.head_tail", logits, labels=labels)
    assert found.value == pytest.approx(1)
    assert found.detail == "2 classes of at least 250 rows, 2 of at most 40"


def test_classes_that_differ_by_noise_have_no_head_and_tail() -> None:
    g = data.generator(0)
    for c, n in ((20, 2000), (4, 2000)):
        labels = torch.randint(0, c, (n,), generator=g)
        found = ask("worst_class_recall.head_tail", hard(labels, c), labels=labels)
        assert found.status == "not_applicable"
        assert "beyond what drawing balanced classes gives" in str(found.reason)


def test_the_smallest_of_a_hundred_recalls_is_judged_with_all_of_them() -> None:
    """The raw minimum reads 0.70 where every true recall is 0.90; its interval holds 0.90."""
    minima, held = [], 0
    for seed in range(30):
        g = data.generator(seed)
        labels = torch.arange(100).repeat(30)
        right = torch.rand(3000, generator=g) < 0.9
        logits = hard(torch.where(right, labels, (labels + 1) % 100), 100)
        found = ask("worst_class_recall", logits, labels=labels)
        assert found.interval is not None
        held += found.interval[0] <= 0.9 <= found.interval[1]
        minima.append(np.min(stats.binom.rvs(20, 0.9, size=100, random_state=seed)) / 20)
        assert found.value is not None
        assert found.value < 0.85
    assert np.mean(minima) == pytest.approx(0.70, abs=0.03)
    assert held >= 27


def test_the_floor_is_the_lowest_bound_of_any_class_not_that_of_the_worst() -> None:
    """A small class with a somewhat higher recall may be the worse one."""
    labels = torch.cat([torch.zeros(2000), torch.ones(30)]).long()
    right = torch.cat([torch.arange(2000) < 1600, torch.arange(30) < 25])
    found = ask("worst_class_recall", hard(torch.where(right, labels, 1 - labels), 2), labels=labels)
    z = stats.norm.ppf(1 - 0.05 / 4)
    share, n = 25 / 30, 30
    low = (share + z * z / (2 * n) - z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    assert found.value == 0.8
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(low)


@pytest.mark.parametrize("n", [30, 100, 1000])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_bounds_of_a_share_err_as_seldom_as_they_say(n: int, classes: int) -> None:
    """Exactly, from the binomial distribution; Wilson's alone err up to eight times as often for 100 classes."""
    alpha = 0.05 / classes
    counts = torch.full((n + 1,), float(n), dtype=torch.float64)
    low, high = rates.wilson_bounds(torch.arange(n + 1) / counts, counts)(stats.norm.ppf(1 - alpha / 2))
    for share in (0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99):
        chances = stats.binom.pmf(np.arange(n + 1), n, share)
        missed = chances[((low > share) | (high < share)).numpy()].sum()
        assert missed < 1.2 * alpha, share


def test_wilson_bounds_end_in_those_of_clopper_and_pearson() -> None:
    z = stats.norm.ppf(0.975)
    low, high = rates.wilson_bounds(torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([50.0, 80.0]))(z)
    exact = [stats.binomtest(0, 50).proportion_ci(), stats.binomtest(80, 80).proportion_ci()]
    assert low.tolist() == pytest.approx([exact[0].low, exact[1].low])
    assert high.tolist() == pytest.approx([exact[0].high, exact[1].high])


def test_classes_that_cannot_be_judged_are_named() -> None:
    logits, labels = of_recalls([0.9, 0.8, 0.7], 40)
    one = ask("worst_class_recall", logits, labels=torch.zeros(120).long())
    assert "all rows are of class '0'; it needs two classes" in str(one.reason)
    labels[:15] = 1
    small = ask("worst_class_recall", logits, labels=labels)
    assert small.status == "inconclusive"
    assert "small_class: class '0' has 25 rows; each needs at least 30" in str(small.reason)
    never = ask("worst_class_recall.precision_c", hard([0] * 100 + [1] * 20, 2), labels=[0] * 60 + [1] * 60)
    assert "predicted class '1' has 20 rows" in str(never.reason)
    absent = ask("worst_class_recall", hard([0, 1] * 50, 3), labels=[0, 1] * 50)
    assert "1 of 3 outputs have no rows and are not judged" in str(absent.detail)


# prediction_entropy_ratio


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (hard(torch.arange(400) % 4, 4), (1, 1, 0, 1)),
        (hard(torch.zeros(400).long(), 4), (0, 0, 0, 0.25)),
        (torch.zeros(400, 4), (1, 0, 1, 0.25)),
    ],
    ids=["hard and uniform", "constant", "soft"],
)
def test_entropy_of_predictions_that_are_known(logits: Tensor, expected: tuple[float, ...]) -> None:
    found = measure(torch.ones(400, 1), logits=logits, metrics=["prediction_entropy_ratio"])
    values = [found[f"prediction_entropy_ratio{name}"].value for name in ("", ".mi", ".mean_entropy", ".covered")]
    assert values == pytest.approx(expected, abs=1e-9)


def test_entropies_are_those_of_scipy() -> None:
    logits, _ = calibrated(900, 7, 1)
    logits[:, 2] += 1
    probabilities = logits.softmax(dim=1).numpy()
    whole, own = stats.entropy(probabilities.mean(axis=0)), stats.entropy(probabilities, axis=1).mean()
    found = measure(torch.ones(900, 1), logits=logits, baseline_logits=2 * logits, metrics=["prediction_entropy_ratio"])
    assert found["prediction_entropy_ratio"].value == pytest.approx(whole / math.log(7))
    assert found["prediction_entropy_ratio.mi"].value == pytest.approx((whole - own) / math.log(7))
    sharper = stats.entropy((2 * logits).softmax(dim=1).numpy(), axis=1).mean()
    shift = found["prediction_entropy_ratio.entropy_shift"].value
    assert shift == pytest.approx((own - sharper) / math.log(7))
    uncertain = (probabilities.max(axis=1) < 0.95).mean()
    assert found["prediction_entropy_ratio.uncertain"].value == pytest.approx(uncertain)


def test_the_confusion_set_is_that_of_a_search_row_by_row() -> None:
    logits, _ = calibrated(200, 6, 9)
    sizes = []
    for row in (2 * logits).softmax(dim=1).numpy():
        ranked = np.sort(row)[::-1]
        removed = 0
        while ranked[0] / (ranked[0] + ranked[1 + removed :].sum()) < 0.95:
            removed += 1
        sizes.append(removed)
    assert value("prediction_entropy_ratio.confusion_set", 2 * logits) == pytest.approx(np.mean(sizes))


def test_influence_on_the_marginal_entropy_is_the_jackknife() -> None:
    logits, _ = calibrated(400, 5, 2)
    logits[:, 0] += 1.5
    found = ask("prediction_entropy_ratio", logits)
    assert found.influence is not None
    assert found.value is not None
    probabilities = logits.softmax(dim=1).numpy()
    total = probabilities.sum(axis=0)
    without = stats.entropy((total - probabilities) / 399, axis=1) / math.log(5)
    expected = 399 * (found.value - without)
    by_row = [int(name) for name in found.influence.ids]
    np.testing.assert_allclose(found.influence.values, (expected - expected.mean())[by_row], atol=0.02)
    assert found.standard_error == pytest.approx(expected.std() / 20, rel=0.03)


def test_a_balanced_model_is_still_uncertain_about_its_balance() -> None:
    """At the maximum the slope is 0: the error comes from the curvature."""
    found = ask("prediction_entropy_ratio", hard(torch.arange(1000) % 5, 5))
    spread = [
        stats.entropy(np.bincount(np.random.default_rng(seed).integers(0, 5, 1000), minlength=5)) / math.log(5)
        for seed in range(400)
    ]
    assert found.standard_error == pytest.approx(np.std(spread), rel=0.15)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_a_nearly_balanced_model_is_as_uncertain_about_its_balance_as_its_draws_differ(sharpness: float) -> None:
    """Slopes at the estimated mean hold its noise, which is not to be counted again."""
    found = [ask("prediction_entropy_ratio", calibrated(500, 4, seed, sharpness)[0]) for seed in range(150)]
    spread = np.std([each.value or 0.0 for each in found])
    assert 0.9 * spread < np.mean([each.standard_error or 0.0 for each in found]) < 1.5 * spread


def test_classes_that_are_never_predicted_and_rows_that_tie_are_named() -> None:
    found = ask("prediction_entropy_ratio.covered", hard(torch.arange(300) % 3, 4))
    assert found.value == 0.75
    assert found.interval is not None
    assert found.interval[0] == 0.75
    assert found.interval[1] > 0.75
    assert found.detail == "1 never predicted, one is '3'"
    tied = ask("prediction_entropy_ratio.covered", torch.zeros(100, 2))
    assert "100 rows tie between classes, the first one counts" in str(tied.detail)


def test_too_few_rows_for_the_classes_do_not_decide() -> None:
    found = ask("prediction_entropy_ratio", torch.zeros(99, 10))
    assert found.status == "inconclusive"
    assert "few_rows: 99 rows; it needs at least 100" in str(found.reason)
    other = ask("prediction_entropy_ratio.entropy_shift", torch.zeros(99, 3), baseline_logits=torch.zeros(99, 4))
    assert "dim_mismatch: baseline_logits has 4 columns, logits have 3" in str(other.reason)
    alone = ask("prediction_entropy_ratio.entropy_shift", torch.zeros(99, 3))
    assert "missing_input: it needs baseline_logits" in str(alone.reason)
    broken = ask(
        "prediction_entropy_ratio.entropy_shift", torch.zeros(99, 3), baseline_logits=torch.full((99, 3), torch.nan)
    )
    assert "nonfinite_rows: 99 of 99 rows of baseline_logits" in str(broken.reason)


# worst_group_accuracy


def test_accuracies_of_two_groups() -> None:
    logits, labels = of_recalls([0.9, 0.5], 200)
    found = measure(torch.ones(400, 1), logits=logits, labels=labels, groups=labels, metrics=["worst_group_accuracy"])
    assert found["worst_group_accuracy"].value == pytest.approx(0.5, abs=1e-9)
    assert found["worst_group_accuracy.gap"].value == pytest.approx(0.2, abs=1e-9)
    assert found["worst_group_accuracy"].detail == "worst group '1'"


def test_the_gap_is_taken_from_the_accuracy_over_rows_not_over_groups() -> None:
    labels = torch.arange(400) % 2
    groups = (torch.arange(400) >= 300).long()
    logits = hard(torch.where((groups == 1) & (torch.arange(400) >= 350), 1 - labels, labels), 2)
    found = ask("worst_group_accuracy.gap", logits, labels=labels, groups=groups)
    assert found.value == pytest.approx(350 / 400 - 0.5)


def test_the_smallest_of_ten_groups_holds_the_true_accuracy() -> None:
    minima, held = [], 0
    for seed in range(40):
        right = torch.rand(2000, generator=data.generator(seed)) < 0.9
        labels = torch.arange(2000) % 2
        logits = hard(torch.where(right, labels, 1 - labels), 2)
        found = ask("worst_group_accuracy", logits, labels=labels, groups=torch.arange(2000) // 200)
        assert found.value is not None
        assert found.interval is not None
        minima.append(found.value)
        held += found.interval[0] <= 0.9 <= found.interval[1]
    assert np.mean(minima) == pytest.approx(0.87, abs=0.01)
    assert held >= 37


def test_rows_whose_cue_names_their_label_are_aligned() -> None:
    labels = torch.arange(400) % 2
    cues = torch.where(torch.arange(400) < 240, labels, 1 - labels)
    found = ask("worst_group_accuracy.aligned_conflict", hard(cues, 2), labels=labels, cues=cues)
    assert found.value == 1
    assert found.breakdown == {"conflict": 0, "aligned": 1}
    assert ask("worst_group_accuracy.aligned_conflict", hard(labels, 2), labels=labels, cues=cues).value == 0
    none = ask("worst_group_accuracy.aligned_conflict", hard(labels, 2), labels=labels, cues=labels)
    assert "small_group: all rows are aligned" in str(none.reason)


def test_a_slice_that_fails_only_as_a_combination_is_found_and_its_parts_are_not_blamed() -> None:
    g = data.generator(0)
    n = 4000
    tone, size, light = (torch.randint(0, 2, (n,), generator=g) for _ in range(3))
    labels = torch.arange(n) % 2
    bad = (tone == 1) & (size == 1)
    logits = hard(torch.where(bad, 1 - labels, labels), 2)
    tags = {"tone": tone, "size": size, "light": light}
    found = ask("worst_group_accuracy.slices", logits, labels=labels, attributes=tags)
    share = bad.double().mean().item()
    assert found.value == pytest.approx(1 - share)
    assert found.breakdown is not None
    named = list(found.breakdown)
    assert named[0] == "tone=1 and size=1"
    assert "tone=1 and size=1 and light=0" not in named
    assert found.breakdown["tone=1 and size=1"] == pytest.approx(1 - share)


def test_slices_are_those_of_a_search_over_all_tag_sets() -> None:
    g = data.generator(3)
    n = 900
    tags = {name: torch.randint(0, 3, (n,), generator=g) for name in ("a", "b", "c", "d")}
    logits, labels = calibrated(n, 3, 7)
    right = (logits.argmax(dim=1) == labels).double()
    drops: dict[tuple[tuple[str, int], ...], float] = {}
    for size in (1, 2, 3):
        for columns in itertools.combinations(tags, size):
            for cell in itertools.product(range(3), repeat=size):
                inside = torch.ones(n, dtype=torch.bool)
                for column, tag in zip(columns, cell, strict=True):
                    inside &= tags[column] == tag
                if int(inside.sum()) >= 30:
                    key = tuple(zip(columns, cell, strict=True))
                    drops[key] = float(right.mean() - right[inside].mean())
    minimal = {
        key
        for key, drop in drops.items()
        if drop > 0
        and all(drop > drops[tuple(part)] for k in range(1, len(key)) for part in itertools.combinations(key, k))
    }
    found = ask("worst_group_accuracy.slices", logits, labels=labels, attributes=tags)
    assert found.value == pytest.approx(max(drops.values()))
    assert f"{len(minimal)} of {len(drops)} tag sets" in str(found.detail)
    spelled = {" and ".join(f"{column}={tag}" for column, tag in key) for key in minimal}
    assert set(found.breakdown or ()) <= spelled
    assert len(found.breakdown or ()) == min(len(minimal), 30)


def test_a_hidden_stratum_of_a_class_is_found_without_a_name() -> None:
    labels = torch.arange(1200) % 2
    hidden = torch.arange(1200) % 8 == 1
    features = data.isotropic(1200, 5, 1)
    features[:, 0] += 30 * labels
    features[:, 1] += 25 * hidden
    logits = hard(torch.where(hidden, 1 - labels, labels), 2)
    found = ask("worst_group_accuracy.strata", logits, labels=labels, features=features)
    assert found.value == 0
    assert str(found.detail).startswith("worst stratum '1/")
    overall = ask("worst_class_recall", logits, labels=labels)
    assert overall.value == pytest.approx(0.75)


def test_strata_are_the_clusters_of_sklearn() -> None:
    rows, codes = data.far_clusters(600, 4, 8)
    found = strata.stratify(rows)
    expected = KMeans(4, n_init=5, random_state=0).fit_predict(rows.numpy())
    pairs = {(int(a), int(b)) for a, b in zip(found, expected, strict=True)}
    assert len(pairs) == 4
    assert len(torch.unique(found)) == len(set(codes))


def test_a_class_that_cannot_be_split_is_one_stratum() -> None:
    assert int(strata.stratify(torch.ones(200, 3)).max()) == 0
    assert int(strata.stratify(data.isotropic(59, 3)).max()) == 0


def test_the_worst_view_is_named() -> None:
    logits, labels = of_recalls([0.9, 0.9], 100)
    views = {"left": logits, "right": hard(labels.roll(50), 2)}
    found = ask("worst_group_accuracy.per_view", logits, labels=labels, view_logits=views)
    assert found.value == pytest.approx(0.5)
    assert found.detail == "worst view 'right'"
    other = ask("worst_group_accuracy.per_view", logits, labels=labels, view_logits={"left": torch.zeros(200, 3)})
    assert "dim_mismatch: view_logits.left has 3 columns, logits have 2" in str(other.reason)
    few = ask("worst_group_accuracy.per_view", logits[:20], labels=labels[:20], view_logits={"left": logits[:20]})
    assert "few_rows: 20 rows; it needs at least 30" in str(few.reason)


@pytest.mark.parametrize(
    ("readout", "what"),
    [
        ("", "groups"),
        (".gap", "groups"),
        (".aligned_conflict", "cues"),
        (".slices", "attributes"),
        (".per_view", "view_logits"),
    ],
)
def test_what_is_missing_is_named(readout: str, what: str) -> None:
    logits, labels = of_recalls([0.9, 0.9], 100)
    found = ask(f"worst_group_accuracy{readout}", logits, labels=labels)
    assert found.status == "not_applicable"
    assert found.reason == f"missing_input: it needs {what}"


def test_small_groups_slices_and_strata_do_not_decide() -> None:
    logits, labels = of_recalls([0.9, 0.9], 100)
    small = ask("worst_group_accuracy", logits, labels=labels, groups=[0] * 180 + [1] * 20)
    assert "small_group: group '1' has 20 rows; each needs at least 30" in str(small.reason)
    assert small.n_needed == 300
    tags = {"item": torch.arange(200) // 2}
    none = ask("worst_group_accuracy.slices", logits, labels=labels, attributes=tags)
    assert "small_group: no tag has 30 rows" in str(none.reason)
    rare = ask("worst_group_accuracy.strata", logits, labels=[0] * 180 + [1] * 20)
    assert "small_class: class '1' has among the sampled rows 20 rows" in str(rare.reason)
    cues = ask("worst_group_accuracy.aligned_conflict", logits, labels=labels, cues=[1, *labels.tolist()[1:]])
    assert "small_group: part 'conflict' has 1 rows" in str(cues.reason)


# All of them


def test_influence_of_means_predicts_what_leaving_rows_out_does() -> None:
    given = inputs.everything()
    smooth = (
        "ece.nll", "worst_class_recall.uar", "prediction_entropy_ratio.mi",
        "prediction_entropy_ratio.mean_entropy", "worst_group_accuracy", "worst_group_accuracy.gap",
        "worst_group_accuracy.aligned_conflict", "worst_group_accuracy.slices", "worst_group_accuracy.per_view",
    )  # fmt: skip
    for address in smooth:
        found = measure(metrics=[address], ids=range(1200), **given)[address]
        assert found.influence is not None
        assert found.value is not None
        largest = address.endswith((".gap", ".slices"))  # the largest stays that of the same group when it grows
        places = found.influence.values.argsort(descending=largest)
        order = [int(found.influence.ids[place]) for place in places]
        kept = sorted(order[:-12])
        moved = measure(metrics=[address], ids=kept, **inputs.taken(given, kept))[address]
        assert moved.value is not None
        predicted = -float(found.influence.values[places[-12:]].sum()) / (1200 - 12)
        assert 0.7 < (moved.value - found.value) / predicted < 1.4, address


def test_clusters_widen_the_interval() -> None:
    logits, labels = calibrated(600, 3, 1)
    twice = {"logits": logits.repeat(2, 1), "labels": labels.repeat(2)}
    for address in ("worst_class_recall", "worst_class_recall.uar", "prediction_entropy_ratio.mean_entropy"):
        plain = ask(address, **twice)
        grouped = ask(address, clusters=torch.arange(600).repeat(2), **twice)
        assert plain.interval is not None
        assert grouped.interval is not None
        ratio = (grouped.interval[1] - grouped.interval[0]) / (plain.interval[1] - plain.interval[0])
        assert ratio == pytest.approx(math.sqrt(2), rel=0.05)


def test_codes_of_labels_are_found_among_the_outputs() -> None:
    batch = Batch.of(
        torch.zeros(3, 1),
        ids=["a", "b", "c"],
        logits=torch.eye(3),
        labels=Codes.of(["y", "x", "z"]),
        outputs=("z", "x", "y"),
    )
    ledger = Ledger.of(batch)
    order = batch.hashes.argsort()
    assert ledger.labels.tolist() == torch.tensor([2, 1, 0])[order].tolist()
    assert ledger.right().tolist() == torch.tensor([0.0, 1.0, 0.0])[order].tolist()
