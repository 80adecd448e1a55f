"""The features that every contender gets: written once as .npy, mapped by every process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

_ROWS_AT_ONCE = 50_000
_JUDGED = 8192  # rows that an out-of-distribution detector scores, as many as the suite keeps
_SEARCHED = 20_000  # rows among which neighbours are sought


@dataclass(frozen=True)
class Size:
    """Rows, channels and classes of the features.

    Attributes:
        n, d, classes: Counts.
        peers: Whether the packages run at this size, or ours alone.
    """

    n: int
    d: int
    classes: int
    peers: bool = True

    def __str__(self) -> str:
        return f"n = {self.n:_}, d = {self.d}, C = {self.classes}".replace("_", " ")


SIZES = {
    "S": Size(20_000, 512, 100),
    "M": Size(50_000, 768, 1000),
    "L": Size(100_000, 1024, 1000),
    "XL": Size(1_000_000, 512, 1000, peers=False),
    "tiny": Size(1200, 16, 5),
}


def write(size: Size, folder: Path, seed: int = 0) -> None:
    """Writes features (n, d) float32 with a decaying spectrum, an offset and Gaussian classes, and what goes with them.

    `second.npy` are the same rows as another version would see them, `judged.npy` further rows of the classes and
    `ood.npy` rows of none.
    """
    generator = np.random.default_rng(seed)
    spread = np.arange(1, size.d + 1, dtype=np.float32) ** -0.5
    means = generator.standard_normal((size.classes, size.d), dtype=np.float32) * spread
    mixing = generator.standard_normal((size.d, size.d), dtype=np.float32) / np.float32(size.d) ** 0.5
    labels = np.concatenate(
        [np.arange(size.classes), generator.integers(size.classes, size=size.n - size.classes)]  # no class is empty
    )
    shape = (size.n, size.d)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, shape)
    second = np.lib.format.open_memmap(folder / "second.npy", "w+", np.float32, shape)
    for start in range(0, size.n, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        noise = generator.standard_normal((len(labels[rows]), size.d), dtype=np.float32)
        features[rows] = means[labels[rows]] + noise * spread + np.float32(0.5)
        second[rows] = features[rows] @ mixing + np.float32(0.1) * noise
    np.save(folder / "labels.npy", labels)
    noise = generator.standard_normal((2, min(size.n, _JUDGED), size.d), dtype=np.float32) * spread
    np.save(folder / "judged.npy", means[labels[: noise.shape[1]]] + noise[0] + np.float32(0.5))
    np.save(folder / "ood.npy", 2 * noise[1])


@dataclass(frozen=True)
class Data:
    """The arrays of a folder, mapped into memory when they are first asked for."""

    folder: Path
    device: str = "cpu"

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """(n, d)."""
        return self._mapped("features")

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(n,)."""
        return self._mapped("labels")

    @cached_property
    def second(self) -> NDArray[np.float32]:
        """(n, d) of another version."""
        return self._mapped("second")

    @cached_property
    def judged(self) -> NDArray[np.float32]:
        """At most 8192 further rows of the first labels."""
        return self._mapped("judged")

    @cached_property
    def ood(self) -> NDArray[np.float32]:
        """As many rows out of distribution."""
        return self._mapped("ood")

    @property
    def searched(self) -> NDArray[np.float32]:
        """The first rows, at most 20 000."""
        return self.features[:_SEARCHED]

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """On the device."""
        import torch

        return torch.from_numpy(array).to(self.device)

    def _mapped(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="c")
        array.max()  # every page is there before the clock starts, and none counts as memory of the call
        return array
