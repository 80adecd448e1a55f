"""What the machine itself takes: the least that any implementation of the definitions can cost on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.speed.features import Data, Size

Call = Callable[[], object]

SECOND_MOMENTS = 2  # of the rows, and of the unit rows
SPECTRA = 3  # of the rows about their mean, of the rows as they are, of the unit rows
_READ_BYTES = 1 << 29
_SIDE = 4096
_TALL = 32_768


def _square(data: Data) -> Call:
    import torch

    rows = torch.randn(_SIDE, _SIDE, device=data.device)
    return lambda: rows @ rows


def _tall(data: Data) -> Call:
    rows = data.tensor(data.features[:_TALL])
    return lambda: rows.T @ rows


def _read(data: Data) -> Call:
    import torch

    buffer = torch.ones(_READ_BYTES // 4, device=data.device)
    return buffer.sum


def _eigenvalues(data: Data) -> Call:
    import torch

    d = data.features.shape[1]
    rows = torch.randn(2 * d, d, dtype=torch.float64, device=data.device)
    matrix = rows.T @ rows
    return lambda: torch.linalg.eigvalsh(matrix)


FLOORS: Mapping[str, Callable[[Data], Call]] = {
    "floor: square product": _square,
    "floor: tall product": _tall,
    "floor: read": _read,
    "floor: eigvalsh": _eigenvalues,
}


def peak(seconds: Mapping[str, float], size: Size) -> float:
    """Multiplications and additions a second in float32, of the faster shape of product."""
    tall = 2 * min(size.n, _TALL) * size.d**2 / seconds["floor: tall product"]
    return max(2 * _SIDE**3 / seconds["floor: square product"], tall)


def bandwidth(seconds: Mapping[str, float]) -> float:
    """Bytes read a second."""
    return _READ_BYTES / seconds["floor: read"]


def floor(seconds: Mapping[str, float], size: Size) -> float:
    """Seconds for the moment and class metrics at best.

    One read of the features, half a product at the measured peak for each symmetric second moment, and the eigenvalues
    of each spectrum.
    """
    moments = SECOND_MOMENTS * size.n * size.d**2 / peak(seconds, size)
    return size.n * size.d * 4 / bandwidth(seconds) + moments + SPECTRA * seconds["floor: eigvalsh"]
