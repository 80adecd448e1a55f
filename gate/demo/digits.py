"""Real images for the quick start: the handwritten digits that come inside scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

HELD_OUT_ROWS = 1000
SPLIT_SEED = 0


@dataclass(frozen=True)
class Images:
    """Some of the digits.

    Attributes:
        pixels: (n, 1, 8, 8) float32 in [0, 1].
        labels: (n,) int64 in 0..9.
        ids: n names; the number in a name is the image's place in scikit-learn's collection.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]


def load() -> tuple[Images, Images]:
    """Split the 1797 images, each class in equal parts, always in the same way.

    Returns:
        797 images to train on, and 1000 that no model may see before it is judged.
    """
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    places = np.arange(len(labels))
    train, held_out = train_test_split(places, test_size=HELD_OUT_ROWS, stratify=labels, random_state=SPLIT_SEED)

    def pick(rows: NDArray[np.int64]) -> Images:
        return Images(pixels[rows], labels[rows], tuple(f"digit-{row:04d}" for row in rows))

    return pick(train), pick(held_out)


def save_probe(images: Images, path: Path) -> None:
    """Write a probe set with the columns `image`, `label` and `id`.

    Args:
        images: The rows, in this order.
        path: Of an .npz file.
    """
    import numpy as np

    labels = images.labels.astype(str)
    np.savez_compressed(path, image=images.pixels, label=labels, id=np.array(images.ids))
