"""Ways of computing that public packages use and that go wrong: each is shown to fail where ours is right.

Neighbours of exact duplicates, similarity of two versions, the head without its bias and distances to classes have
theirs in the tests of their own families.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gate.geometry.statistics import Batch, ClassMoments, Moments
from gate.measurement import measure
from tests.geometry import data


def read(rows: Tensor, address: str, labels: Tensor | None = None) -> float:
    found = measure(rows, labels=labels, metrics=[address])[address]
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def cross(c: int, d: int, spread: float) -> tuple[Tensor, Tensor]:
    """For every class the 2 d points +-spread sqrt(d) e_j: its covariance is spread^2 times the identity, exactly."""
    points = spread * math.sqrt(d) * torch.cat([torch.eye(d), -torch.eye(d)]).double()
    return points.repeat(c, 1), torch.arange(c).repeat_interleave(2 * d)


def simplex_means(c: int, d: int, radius: float) -> Tensor:
    """Vertices of a regular simplex about the origin, (c, d)."""
    vertices = torch.eye(c, d, dtype=torch.float64)
    vertices -= vertices.mean(dim=0)
    unit: Tensor = vertices / torch.linalg.vector_norm(vertices, dim=1, keepdim=True)
    return radius * unit


@pytest.fixture(scope="module")
def ill_conditioned() -> tuple[Tensor, Tensor, Tensor, float]:
    """128 classes in 64 dimensions, between-class eigenvalues from 1 down to 1e-7, within-class variance 1e-3."""
    c, d, within = 128, 64, 1e-3
    eigenvalues = torch.logspace(0, -7, d, dtype=torch.float64)
    means = data.orthonormal_columns(c, eigenvalues) @ data.rotation(d, 5).T
    noise, labels = cross(c, d, math.sqrt(within))
    return (means[labels] + noise).float(), labels, eigenvalues, within


def test_an_ill_conditioned_spread_of_class_means_does_not_lose_directions(
    ill_conditioned: tuple[Tensor, Tensor, Tensor, float],
) -> None:
    rows, labels, eigenvalues, within = ill_conditioned
    expected = float((within / (within + eigenvalues)).mean())
    assert read(rows, "vci.raw", labels) == pytest.approx(expected, rel=1e-5)


def test_a_single_precision_pseudo_inverse_loses_them(
    ill_conditioned: tuple[Tensor, Tensor, Tensor, float],
) -> None:
    """tr(W B^+) / C: torch's default cut in float32 drops the weak directions, which carry nearly all of it."""
    rows, labels, eigenvalues, within = ill_conditioned
    ids = [str(row) for row in range(len(rows))]
    moments = Moments.of(Batch.of(rows, ids=ids))
    classes = ClassMoments.of(Batch.of(rows, ids=ids, labels=labels))
    offsets = classes.means - classes.mean
    between = (offsets * classes.shares[:, None]).T @ offsets
    inside = moments.covariance - between
    expected = float((within / eigenvalues).sum()) / 128
    careful = float((torch.linalg.pinv(between, rtol=1e-10, hermitian=True) * inside).sum()) / 128
    careless = float((torch.linalg.pinv(between.float()) * inside.float()).sum()) / 128
    assert careful == pytest.approx(expected, rel=1e-3)
    assert careless < 0.5 * expected


@pytest.fixture(scope="module")
def deep_collapse() -> tuple[Tensor, Tensor]:
    """Ten classes of radius 1e-4 at the vertices of a simplex of radius 10, in 512 dimensions."""
    noise, labels = cross(10, 512, 1e-4)
    return (simplex_means(10, 512, 10.0)[labels] + noise).float(), labels


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("within_between_ratio.raw", 512 * 1e-8 / 100),
        ("cdnv.raw", 1e-8 * 512 * 9 / (2 * 10 * 100) * (1024 / 1023)),
        ("vci.raw", 1e-8 / (1e-8 + 100 / 9)),
    ],
)
def test_deep_collapse_is_measured_to_its_last_digits(
    deep_collapse: tuple[Tensor, Tensor], address: str, expected: float
) -> None:
    rows, labels = deep_collapse
    assert read(rows, address, labels) == pytest.approx(expected, rel=2e-4)


def test_raw_moments_in_single_precision_lose_deep_collapse_altogether(deep_collapse: tuple[Tensor, Tensor]) -> None:
    rows, labels = deep_collapse
    total = (rows.T @ rows / len(rows)).trace()
    sums = torch.zeros(10, 512).index_add_(0, labels, rows) / 1024
    between = sums.square().sum() / 10
    ratio = float((total - between) / between)
    assert ratio != pytest.approx(512 * 1e-8 / 100, rel=1)


@pytest.mark.parametrize("mean", [0.0, 5.0, 50.0])
def test_distances_of_many_class_means_are_right_whatever_the_offset(mean: float) -> None:
    noise, labels = cross(64, 64, 0.1)
    rows = (simplex_means(64, 64, 1.0)[labels] + noise + mean).float()
    expected = 0.01 * 64 * 63 / (2 * 64) * (128 / 127)
    assert read(rows, "cdnv.raw", labels) == pytest.approx(expected, rel=1e-4)


def test_distances_by_expansion_in_single_precision_leave_a_diagonal() -> None:
    """The branch that `torch.cdist` takes above 25 rows: a row is not at distance 0 from itself."""
    means = (simplex_means(64, 64, 1.0) + 50).float()
    expanded = torch.cdist(means, means, compute_mode="use_mm_for_euclid_dist")
    assert float(expanded.diagonal().max()) > 1e-4


@pytest.mark.parametrize(("n", "d", "pretended"), [(512, 512, 0.195), (512, 384, 0.124)])
def test_white_noise_is_not_collapsed_though_a_rank_without_a_null_says_so(n: int, d: int, pretended: float) -> None:
    rows = data.isotropic(n, d)
    spectrum = torch.linalg.svdvals(rows - rows.mean(dim=0))
    share = spectrum / spectrum.sum()
    rank = float((-torch.special.xlogy(share, share).sum()).exp())
    assert 1 - rank / min(n, d) == pytest.approx(pretended, abs=0.01)
    assert read(rows, "collapse_index") < 0.02
    assert read(rows, "effective_rank.iso_ratio") == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("power", "rankme", "eigenvalue_rank"), [(1.0, 409.555, 117.231), (2.0, 117.231, 5.05609)])
def test_rankme_is_on_singular_values_and_the_effective_rank_on_eigenvalues(
    power: float, rankme: float, eigenvalue_rank: float
) -> None:
    """Known in closed form: p_i of i^-power, and of its square root; a package that swaps the two reads the other."""
    eigenvalues = torch.arange(1, 513, dtype=torch.float64) ** -power
    rows = data.orthonormal_columns(2100, eigenvalues)
    assert read(rows, "effective_rank.rankme") == pytest.approx(rankme, rel=1e-3)
    assert read(rows, "effective_rank") == pytest.approx(eigenvalue_rank, rel=1e-4)


@pytest.mark.parametrize("name", ["effective_rank", "participation_ratio"])
def test_constant_features_have_no_rank_and_never_a_number(name: str) -> None:
    found = measure(torch.full((2000, 8), 3.0), metrics=[name])[name]
    assert found.status == "error"
    assert found.value is None
