from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.methods import search
from gate.geometry.methods.search import nearest, nearest_among


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute(queries: Tensor, gallery: Tensor, k: int, own: Tensor | None = None, others: Tensor | None = None) -> Tensor:
    """By every difference in float64, equally far rows by row order."""
    distances = torch.from_numpy(cdist(queries.double().numpy(), gallery.double().numpy(), "sqeuclidean"))
    if own is not None and others is not None:
        distances[own[:, None] == others] = torch.inf
    return distances.argsort(dim=1, stable=True)[:, :k]


def itself(rows: Tensor) -> Tensor:
    return torch.arange(len(rows))


def deeply_collapsed() -> Tensor:
    """Five classes of 60 rows whose spread is a hundred-thousandth of what lies between them."""
    return normal(5, 12).repeat_interleave(60, dim=0) * 100 + normal(300, 12, seed=1) * 1e-3


def with_far_row() -> Tensor:
    rows = normal(300, 10)
    rows[17] = 1e9
    return rows


CLOUDS = {
    "isotropic": normal(301, 24),
    "float32": normal(301, 24).float(),
    "shifted": normal(301, 24) + 1e3,
    "tight cone": 1e-5 * normal(301, 24) + normal(24, seed=1),
    "deep collapse": deeply_collapsed(),
    "a row far out": with_far_row(),
    "two clouds far apart": normal(300, 6) + 1e6 * (torch.arange(300) % 2)[:, None],
    "lattice": (normal(300, 3) * 2).round(),
    "every row many times": normal(9, 8).repeat(40, 1),
    "half the rows zero": normal(300, 8) * (torch.arange(300) % 2)[:, None],
    "all rows equal": torch.full((70, 4), 0.1, dtype=torch.float64),
    "one channel": normal(300, 1),
    "tiny": normal(300, 5) * 1e-30,
    "huge": normal(300, 5) * 1e30,
    "few rows": normal(25, 5),
}


@pytest.mark.parametrize("tile", [64, 1024], ids=["several tiles", "one tile"])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_neighbours_are_those_of_every_difference_in_float64(
    cloud: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_TILE", tile)
    rows = CLOUDS[cloud]
    assert torch.equal(nearest(rows, 20), brute(rows, rows, 20, itself(rows), itself(rows)))


@pytest.mark.parametrize("tile", [64, 1024], ids=["several tiles", "one tile"])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_no_neighbour_is_of_the_same_cluster(cloud: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_TILE", tile)
    rows = CLOUDS[cloud]
    clusters = (itself(rows) * 7919 % 101) // 4
    assert torch.equal(nearest(rows, 11, clusters=clusters), brute(rows, rows, 11, clusters, clusters))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_queries_find_the_gallery_rows_of_every_difference_in_float64(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_TILE", 64)
    queries, gallery = CLOUDS[cloud][::3], CLOUDS[cloud][1::2]
    assert torch.equal(nearest_among(queries, gallery, 10), brute(queries, gallery, 10))


def test_as_many_neighbours_as_there_are_others() -> None:
    rows = normal(40, 6)
    assert torch.equal(nearest(rows, 39), brute(rows, rows, 39, itself(rows), itself(rows)))
    assert nearest(rows[:2], 1).tolist() == [[1], [0]]
    assert torch.equal(nearest_among(rows, rows[:3], 3), brute(rows, rows[:3], 3))


def test_equal_rows_come_by_row_order() -> None:
    assert nearest(torch.ones(6, 3), 3).tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_an_exact_copy_is_nearest_where_products_in_float32_see_a_distance() -> None:
    """Expanded squares in float32 put an exact copy 0.02 away at mean 5: among near copies any of them comes first."""
    originals = (normal(1000, 768) + 5).float()
    rows = torch.cat([originals, originals])
    expanded = (rows.square().sum(1)[:, None] + rows.square().sum(1) - 2 * rows @ rows.T).clamp(min=0).sqrt()
    copy = (torch.arange(2000) + 1000) % 2000
    assert expanded[torch.arange(2000), copy].max() > 0.015
    found = nearest(rows, 5)
    assert torch.equal(found[:, 0], copy)
    assert torch.equal(rows[found[:, 0]], rows)

    near = originals + 2e-6 * normal(1000, 768, seed=1)
    crowd = torch.cat([originals.double(), near, originals.double()])
    moved = (crowd - crowd.mean(dim=0)).float()
    expanded = moved.square().sum(1)[:, None] + moved.square().sum(1) - 2 * moved @ moved.T
    expanded.fill_diagonal_(torch.inf)
    assert (expanded[:1000].argmin(dim=1) != torch.arange(1000) + 2000).any(), "products alone must fail here"
    assert torch.equal(nearest(crowd, 1)[:1000, 0], torch.arange(1000) + 2000)


def test_without_deciding_in_float64_the_neighbours_of_a_plain_cloud_are_the_same() -> None:
    rows = normal(500, 16)
    rough, exact = nearest(rows, 15, refine=False), nearest(rows, 15)
    assert (rough.sort(dim=1).values == exact.sort(dim=1).values).double().mean() > 0.999


def test_only_pairs_that_rounding_leaves_open_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[int] = []
    differences = search._differences

    def counted(left: Tensor, right: Tensor, rows: Tensor, others: Tensor) -> Tensor:
        again.append(len(rows))
        return differences(left, right, rows, others)

    monkeypatch.setattr(search, "_differences", counted)
    nearest(normal(2000, 64), 20)
    assert sum(again) < 0.1 * 2000 * 20


@pytest.mark.parametrize("k", [0, 10])
def test_more_neighbours_than_rows_are_refused(k: int) -> None:
    with pytest.raises(MetricError, match=rf"too_few_rows: k must lie between 1 and the 9 rows .* found {k}"):
        nearest(normal(10, 3), k)
    with pytest.raises(MetricError, match=rf"too_few_rows: k must lie between 1 and the 9 rows .* found {k}"):
        nearest_among(normal(10, 3), normal(9, 3), k)


def test_more_neighbours_than_rows_outside_the_largest_cluster_are_refused() -> None:
    clusters = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    nearest(normal(7, 3), 3, clusters=clusters)
    with pytest.raises(MetricError, match=r"too_few_rows: k must lie between 1 and the 3 rows .* found 4"):
        nearest(normal(7, 3), 4, clusters=clusters)
