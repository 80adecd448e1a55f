"""Rows of one cluster are not independent: intervals widen, folds keep clusters together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.influence import design_effect
from gate.geometry.methods.chance import Chance
from gate.geometry.methods.mean_noise import MeanNoise
from gate.geometry.statistics import Batch, ClassMoments, ClusterCounts, Sample
from gate.measurement import measure
from tests.geometry import data

DOCUMENTS, SENTENCES, D, C = 40, 25, 6, 3


def documents(seed: int, count: int = DOCUMENTS, spread: float = 1.0) -> dict[str, Tensor]:
    """Sentences that are near the middle of their document; a document is of one class."""
    g = data.generator(seed)
    clusters = torch.arange(count).repeat_interleave(SENTENCES)
    middle = spread * torch.randn(count, D, generator=g)
    labels = (torch.arange(count) % C)[clusters]
    means = torch.randn(C, D, generator=data.generator(3))
    rows = means[labels] + middle[clusters] + torch.randn(len(clusters), D, generator=g)
    return {"features": rows.double(), "labels": labels, "clusters": clusters}


def ask(name: str, given: dict[str, Tensor], **changes: Tensor | None) -> Estimate:
    return measure(metrics=[name], **{**given, **changes})[name]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mean_cosine", "effective_rank", "within_between_ratio.between_share", "vci"])
def test_an_interval_widens_with_clusters_and_says_so(name: str) -> None:
    given = documents(0)
    plain, clustered = ask(name, given, clusters=None), ask(name, given)
    assert clustered.standard_error is not None
    assert plain.standard_error is not None
    assert clustered.value is not None
    assert plain.value is not None
    if name == "vci":
        assert clustered.value > plain.value, "clusters part classes by chance, and chance is taken out"
    elif name == "within_between_ratio.between_share":
        assert clustered.value < plain.value, "as above"
    else:
        assert clustered.value == plain.value
    assert clustered.standard_error > 2 * plain.standard_error
    assert clustered.method == f"{plain.method}, {DOCUMENTS} clusters"


def test_every_row_in_a_cluster_of_its_own_is_as_good_as_no_clusters() -> None:
    given = documents(0)
    lone = ask("mean_cosine", given, clusters=torch.arange(DOCUMENTS * SENTENCES))
    plain = ask("mean_cosine", given, clusters=None)
    assert lone.standard_error == pytest.approx(plain.standard_error, rel=0.01)


def test_clusters_may_have_any_names() -> None:
    given = documents(0)
    named = [f"document {code}" for code in given["clusters"].tolist()]
    numbered = ask("mean_cosine", given)
    assert measure(given["features"], clusters=named, metrics=["mean_cosine"])["mean_cosine"].interval == pytest.approx(
        numbered.interval
    )


def test_one_cluster_decides_nothing() -> None:
    given = documents(0)
    found = ask("mean_cosine", given, clusters=torch.zeros(DOCUMENTS * SENTENCES, dtype=torch.int64))
    assert found.status == "inconclusive"
    assert found.reason is not None
    assert found.reason.startswith("few_clusters: all rows are of one cluster")


def test_rows_of_a_cluster_share_a_fold() -> None:
    given = documents(0)
    batch = Batch.of(
        given["features"], ids=[str(row) for row in range(len(given["features"]))], clusters=given["clusters"]
    )
    for cluster in range(DOCUMENTS):
        assert len((batch.folds[given["clusters"] == cluster] % 10).unique()) == 1
    assert len((batch.folds % 10).unique()) > 5


def test_the_design_effect_of_equal_rows_is_the_size_of_their_cluster() -> None:
    terms = torch.randn(200, generator=data.generator(1), dtype=torch.float64)
    influence = (terms - terms.mean()).repeat_interleave(5)
    clusters = torch.arange(200).repeat_interleave(5)
    assert design_effect(influence, clusters, 1.0) == pytest.approx(5, rel=0.01)
    assert design_effect(influence, None, 1.0) == 1


def test_a_cluster_of_which_a_part_was_sampled_counts_whole() -> None:
    terms = torch.randn(2000, generator=data.generator(1), dtype=torch.float64)
    influence = (terms - terms.mean()).repeat_interleave(10)
    clusters = torch.arange(2000).repeat_interleave(10)
    kept = torch.rand(20_000, generator=data.generator(2)) < 0.3
    part = influence[kept] - influence[kept].mean()
    assert design_effect(part, clusters[kept], 0.3) == pytest.approx(10, rel=0.1)


def test_where_nothing_is_known_rows_of_a_cluster_count_as_copies() -> None:
    clusters = torch.arange(20).repeat_interleave(10)
    assert design_effect(torch.zeros(200, dtype=torch.float64), clusters, 1.0) == pytest.approx(10)


def test_a_paired_difference_is_judged_by_clusters() -> None:
    given = documents(0)
    baseline = given["features"] + 0.5 * documents(1)["features"]
    plain = ask("mean_cosine", given, clusters=None, baseline=baseline).change
    clustered = ask("mean_cosine", given, baseline=baseline).change
    assert plain is not None
    assert clustered is not None
    assert clustered.standard_error is not None
    assert plain.standard_error is not None
    assert clustered.standard_error > 1.5 * plain.standard_error


COVERED: tuple[str, ...] = (
    "mean_cosine",
    "effective_rank",
    "participation_ratio",
    "within_between_ratio.between_share",
    "vci",
    "class_separation_r2.tolerance",
    "channel_spread",
    "ncc_accuracy",
)


def test_documents_dealt_to_classes_by_chance_separate_nothing() -> None:
    names = ["class_separation_r2.value", "class_separation_r2.compactness", "within_between_ratio.between_share"]
    covers = dict.fromkeys(names, 0)
    blind = 0
    for seed in range(40):
        rows, clusters = documents(seed, count=60)["features"], documents(seed, count=60)["clusters"]
        labels = torch.arange(60)[clusters] % C
        means = torch.randn(C, D, generator=data.generator(3), dtype=torch.float32).double()
        given = {"features": rows - means[labels], "labels": labels, "clusters": clusters}
        found = measure(metrics=[*names, "within_between_ratio.value"], **given)  # type: ignore[arg-type]
        assert found["within_between_ratio"].reason is None or "no_class_signal" in found["within_between_ratio"].reason
        for name in names:
            interval = found[name.removesuffix(".value")].interval
            assert interval is not None
            covers[name] += interval[0] <= 0 <= interval[1]
        alone = measure(metrics=["class_separation_r2.value"], **{**given, "clusters": None})  # type: ignore[arg-type]
        interval = alone["class_separation_r2"].interval
        assert interval is not None
        blind += interval[0] <= 0
    assert min(covers.values()) >= 36, covers
    assert blind < 20, "clusters that nobody names look like classes"


def test_the_noise_of_class_means_is_that_of_their_clusters() -> None:
    given = documents(1, count=600)
    batch = Batch.of(
        given["features"],
        ids=[str(row) for row in range(len(given["features"]))],
        labels=given["labels"].tolist(),
        clusters=given["clusters"],
    )
    classes = ClassMoments.of(batch)
    noise = MeanNoise.of(classes, Sample.of(batch), ClusterCounts.of(batch))
    expected = D * (1 + 1 / SENTENCES) / (600 / C)
    assert noise.own.tolist() == pytest.approx([expected] * C, rel=0.2)
    assert noise.of_gaps()[0, 1].item() == pytest.approx((noise.own[0] + noise.own[1]).item())
    weights = torch.tensor([0.5, -0.3, 0.1], dtype=torch.float64)
    assert noise.of_sum(weights).item() == pytest.approx((weights.square() @ noise.own).item())


def test_a_cluster_with_rows_of_two_classes_parts_them_less() -> None:
    """Documents move both class means alike: their gap is as sure as if there were none."""
    names = ["cdnv.value", "within_between_ratio.between_share"]
    spread, found = 0.0, []
    for seed in range(40):
        given = documents(seed, count=60)
        labels = torch.randint(0, 2, (60 * SENTENCES,), generator=data.generator(seed))
        rows = given["features"] + labels[:, None]  # the classes of documents are part of the clusters now
        answers = measure(rows, labels=labels, clusters=given["clusters"], metrics=names)
        found.append([answers["cdnv"].value or 0, answers["within_between_ratio.between_share"].value or 0])
        spread += (rows - rows[labels == 0].mean(dim=0))[labels == 0].square().sum(dim=1).mean().item() / 40
    ratio, share = torch.tensor(found).mean(dim=0).tolist()
    assert ratio == pytest.approx(spread / D, rel=0.02)
    assert share == pytest.approx(D / 4 / (D / 4 + spread), rel=0.02)


@pytest.mark.parametrize("sizes", [[60], [20, 1], [15, 15, 15, 15]])
def test_classes_of_few_clusters_have_no_separation(sizes: list[int]) -> None:
    """A class that is a document is apart by chance, and nothing tells by how much."""
    clusters = torch.arange(8 * len(sizes)).repeat_interleave(torch.tensor(sizes).repeat(8))
    labels = clusters // len(sizes)
    rows = data.isotropic(len(clusters), D, 0) + 3 * data.isotropic(8 * len(sizes), D, 1)[clusters]
    for name in ("within_between_ratio", "class_separation_r2", "cdnv", "vci"):
        found = measure(rows, labels=labels, clusters=clusters, metrics=[name])
        assert {each.status for each in found.values()} == {"inconclusive"}
        assert str(found[name].reason).startswith("few_clusters: the rows of class '0' are of effectively")


def test_few_sampled_rows_of_many_classes_tell_how_their_means_vary() -> None:
    clusters = torch.arange(5000).repeat_interleave(4)
    labels = clusters % 1000
    shares, ratios, covers = [], set(), 0
    for seed in range(12):
        rows = data.isotropic(20_000, D, seed) + data.isotropic(5000, D, 100 + seed)[clusters]
        found = measure(
            rows, labels=labels, clusters=clusters, metrics=["class_separation_r2.value", "within_between_ratio.value"]
        )
        ratios.add(found["within_between_ratio"].status)
        interval = found["class_separation_r2"].interval
        assert interval is not None
        covers += interval[0] <= 0 <= interval[1]
        shares.append(found["class_separation_r2"].value or 0)
    assert covers >= 9
    assert abs(sum(shares)) / 12 < 0.0015
    assert ratios == {"inconclusive"}


@pytest.mark.parametrize(("count", "spread"), [(10, 1.0), (30, 2.0)])
def test_vci_of_documents_with_rows_of_every_class_is_right(count: int, spread: float) -> None:
    """The total covariance is known from the documents only, the class means from all rows."""
    means = data.isotropic(C, D, 3)
    total = (means - means.mean(dim=0)).T @ (means - means.mean(dim=0)) / C
    whole = total + (1 + spread**2) * torch.eye(D, dtype=torch.float64)
    truth = 1 - torch.trace(torch.linalg.solve(whole, total)).item() / (C - 1)
    clusters = torch.arange(count).repeat_interleave(24)
    labels = torch.arange(24 * count) % C
    values, covers = [], 0
    for seed in range(60):
        middles = spread * data.isotropic(count, D, 500 + seed)
        rows = means[labels] + middles[clusters] + data.isotropic(24 * count, D, seed)
        found = measure(rows, labels=labels, clusters=clusters, metrics=["vci.value"])["vci"]
        assert found.value is not None
        assert found.interval is not None
        values.append(found.value)
        covers += found.interval[0] <= truth <= found.interval[1]
    assert sum(values) / 60 == pytest.approx(truth, abs=0.02)
    assert covers >= 50


def test_vci_with_clusters_is_blind_to_the_scale_of_channels() -> None:
    """Documents move two channels only; however quiet these are, they part no classes."""
    clusters = torch.arange(15).repeat_interleave(40)
    below = 0
    for seed in range(20):
        labels = (torch.randperm(15, generator=data.generator(seed)) % 3)[clusters]
        rows = data.isotropic(600, 5, seed)
        rows[:, :2] += 2 * data.isotropic(15, 2, 100 + seed)[clusters]
        found = [
            measure(rows * scale, labels=labels, clusters=clusters, metrics=["vci.value"])["vci"]
            for scale in (torch.ones(5), torch.tensor([0.01, 0.01, 1, 1, 1], dtype=torch.float64))
        ]
        assert found[0].status == found[1].status
        if found[0].interval is not None and found[0].value is not None:
            assert found[1].value == pytest.approx(found[0].value, rel=1e-6)
            below += found[0].interval[1] < 1
    assert below <= 2


def test_patients_with_one_row_of_every_class_part_no_classes() -> None:
    """No class has two rows of one patient, yet the covariance is known from the patients only."""
    means = 0.7 * data.isotropic(10, D, 3)
    total = (means - means.mean(dim=0)).T @ (means - means.mean(dim=0)) / 10
    whole = total + 5 * torch.eye(D, dtype=torch.float64)
    truth = 1 - torch.trace(torch.linalg.solve(whole, total)).item() / D
    clusters, labels = torch.arange(300) // 10, torch.arange(300) % 10
    gaps, values, covers = [], [], 0
    for seed in range(40):
        rows = means[labels] + 2 * data.isotropic(30, D, 500 + seed)[clusters] + data.isotropic(300, D, seed)
        batch = Batch.of(rows, ids=[str(row) for row in range(300)], labels=labels.tolist(), clusters=clusters)
        noise = MeanNoise.of(ClassMoments.of(batch), Sample.of(batch), ClusterCounts.of(batch))
        gaps.append(noise.of_gaps()[0, 1].item())
        found = measure(rows, labels=labels, clusters=clusters, metrics=["vci.value"])["vci"]
        assert found.value is not None
        assert found.interval is not None
        values.append(found.value)
        covers += found.interval[0] <= truth <= found.interval[1]
    assert sum(gaps) / 40 == pytest.approx(2 * D / 30, rel=0.1)
    assert sum(values) / 40 == pytest.approx(truth, abs=0.012)
    assert covers >= 33


@pytest.mark.parametrize(("rank", "classes"), [(32, 2), (6, 6), (3, 20)])
@pytest.mark.parametrize("means", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("inverse", [1.0, 3.0])
def test_chance_is_taken_out_as_it_was_added(rank: int, classes: int, means: float, inverse: float) -> None:
    chance = Chance(0.1, rank, classes, means, inverse)
    assert not chance.too_much
    assert chance.found(1.0) == pytest.approx(1)
    for true in (0.0, 0.05, 0.3, 0.7, 0.999):
        share, slope = chance.removed(chance.found(true))
        assert share == pytest.approx(true, abs=1e-9)
        assert slope == pytest.approx((chance.removed(chance.found(true) + 1e-5)[0] - share) / 1e-5, rel=1e-3)
        assert Chance(0.1, rank, classes).removed(true)[0] == pytest.approx((true - 0.1) / 0.9)
    assert chance.removed(chance.found(0) / 2)[0] <= 0
    assert Chance(0.1, rank, classes, 7, inverse).too_much


def test_every_metric_of_single_precision_rows_takes_clusters() -> None:
    rows = torch.randn(1000, 4, generator=data.generator(0))
    found = measure(rows, labels=[row % 4 for row in range(1000)], clusters=torch.arange(1000) // 5)
    assert {each.reason for each in found.values() if each.status == "error"} == set()


def test_a_class_of_many_clusters_speaks_for_itself() -> None:
    clusters = torch.arange(300).repeat_interleave(10)
    labels = clusters % 10
    middles = 2 * data.isotropic(300, D, 1) * (torch.arange(300) % 10 == 0)[:, None]
    rows = middles[clusters] + data.isotropic(3000, D, 0)
    batch = Batch.of(rows, ids=[str(row) for row in range(3000)], labels=labels.tolist(), clusters=clusters)
    found = MeanNoise.of(ClassMoments.of(batch), Sample.of(batch), ClusterCounts.of(batch)).own
    assert found[0].item() == pytest.approx(D * (4 / 30 + 1 / 300), rel=0.3)
    assert found[1:].mean().item() == pytest.approx(D / 300, rel=1), "drawn to all classes a little"


@pytest.mark.parametrize("sizes", [[1] * 30, [5] * 20, [40, 10, 10, 5, 5, 5, 5, 5, 5]])
def test_uneven_clusters_do_not_hide_the_noise_of_a_mean(sizes: list[int]) -> None:
    """Against the variance of a mean over many draws of cluster middles."""
    clusters = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).repeat(2)
    clusters[len(clusters) // 2 :] += len(sizes)
    labels = [0] * (len(clusters) // 2) + [1] * (len(clusters) // 2)
    middles = data.isotropic(2 * len(sizes), 400, 1)
    batch = Batch.of(
        middles[clusters], ids=[str(row) for row in range(len(clusters))], labels=labels, clusters=clusters
    )
    classes = ClassMoments.of(batch)
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    expected = 400 * shares.square().sum().item()
    assert MeanNoise.of(classes, Sample.of(batch), ClusterCounts.of(batch)).own.mean().item() == pytest.approx(
        expected, rel=0.15
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_of_clustered_rows_cover() -> None:
    draws = 120
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COVERED}
    for seed in range(draws):
        given = documents(seed, count=60)
        for name, each in measure(metrics=COVERED, seed=seed, **given).items():  # type: ignore[arg-type]
            if name in found and each.interval is not None and each.value is not None:
                found[name].append((each.value, *each.interval))
    for name, rows in found.items():
        intervals = torch.tensor(rows, dtype=torch.float64)
        assert len(intervals) == draws, name
        centre = intervals[:, 0].mean()
        share = ((intervals[:, 1] <= centre) & (centre <= intervals[:, 2])).double().mean().item()
        assert share > 0.95 - 3.5 * math.sqrt(0.95 * 0.05 / draws), (name, share)
