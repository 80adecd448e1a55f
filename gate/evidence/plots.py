"""Where everything lies in the pictures of the report: numbers of the evidence in, coordinates out.

The template draws them as inline SVG, so that they share fonts and colours, and the dark scheme, with the page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from gate.evidence.wording import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    Matrix: TypeAlias = Sequence[Sequence[float | None]]

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 34
SCALE_WIDTH = 320
COLOURS = 10
MOST = 0.9  # of the variance, marked in the spectrum
_DEEPEST_DECADE = -6
_LABEL = 80  # width of a bound's label
_DARK = 0.55  # strength of a cell from which on its number is light
_MAX_LINE_POINTS = 400
_NUMBERED_CELLS = 12
_LABELLED_CLASSES = 20


@dataclass(frozen=True)
class Mark:
    """A word at a place; `anchor` is SVG's text-anchor."""

    x: float
    y: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Scale:
    """One result to scale: the allowed range, the interval and the value, as positions from 0 to SCALE_WIDTH."""

    allowed: tuple[float, float]
    interval: tuple[float, float] | None
    value: float | None
    bounds: tuple[Mark, ...]


@dataclass(frozen=True)
class Spectrum:
    """Share of the variance by direction, on a logarithmic axis."""

    line: str
    area: str
    ticks_x: tuple[Mark, ...]
    ticks_y: tuple[Mark, ...]
    equal: float
    k90: int
    k90_x: float
    d: int
    first: str


@dataclass(frozen=True)
class Shade:
    """All cells of one colour, as one path; `strength` from 0 to 1."""

    warm: bool
    strength: float
    path: str


@dataclass(frozen=True)
class HeatMap:
    """Cosines between class centres; `shades` are drawn under `numbers` and between `rows` and `columns`."""

    shades: tuple[Shade, ...]
    numbers: tuple[tuple[Mark, bool], ...]
    rows: tuple[Mark, ...]
    columns: tuple[Mark, ...]
    classes: int
    closest: tuple[str, str, str] | None


@dataclass(frozen=True)
class Cloud:
    """The points of one class."""

    colour: int
    path: str
    label: Mark | None


@dataclass(frozen=True)
class Scatter:
    """Rows along the two directions of largest variance, both axes to one scale."""

    clouds: tuple[Cloud, ...]
    shares: tuple[str, ...] | None
    points: int


def scale(result: Mapping[str, Any]) -> Scale | None:
    """Place a result and its bounds on one line.

    Args:
        result: An entry of `results`.

    Returns:
        None when the result has neither a bound nor a number.
    """
    low, high, value, interval = result["min"], result["max"], result["value"], result["interval"]
    words = ("drop", "rise") if result.get("check") == "relative" else ("min", "max")
    present = [x for x in (low, high, value, *(interval or ())) if x is not None]
    if not present:
        return None
    span = max(present) - min(present) or abs(present[0]) or 1.0
    start, width = min(present) - 0.18 * span, 1.36 * span

    def place(x: float) -> float:
        return round(float(SCALE_WIDTH * (x - start) / width), 1)

    return Scale(
        allowed=(0.0 if low is None else place(low), float(SCALE_WIDTH) if high is None else place(high)),
        interval=None if interval is None else (place(interval[0]), place(interval[1])),
        value=None if value is None else place(value),
        bounds=tuple(
            _bound(f"{word} {number(abs(x) if word == 'drop' else x)}", place(x))
            for word, x in zip(words, (low, high), strict=True)
            if x is not None
        ),
    )


def _bound(label: str, place: float) -> Mark:
    anchor = "start" if place < _LABEL / 2 else "end" if place > SCALE_WIDTH - _LABEL / 2 else "middle"
    return Mark(place, 46, label, anchor)


def spectrum(eigenvalues: Sequence[float]) -> Spectrum | None:
    """Place the spectrum of a layer.

    Args:
        eigenvalues: Of the covariance, largest first.

    Returns:
        None when there is no variance at all.
    """
    total, d = sum(eigenvalues), len(eigenvalues)
    if not total > 0:
        return None
    shares = [value / total for value in eigenvalues]
    smallest = min((share for share in shares if share > 0), default=1.0)
    deepest = max(_DEEPEST_DECADE, min(-1, math.floor(math.log10(min(smallest, 1 / d)))))
    k90 = next(k for k, share in enumerate(accumulate(shares), 1) if share >= MOST or k == d)

    def x(k: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * ((k - 1) / (d - 1) if d > 1 else 0.5), 1)

    def y(share: float) -> float:
        depth = min(1.0, math.log10(share) / deepest) if share > 0 else 1.0
        return round(TOP + (HEIGHT - TOP - BOTTOM) * depth, 1)

    step = math.ceil(d / _MAX_LINE_POINTS)
    drawn = sorted({*range(1, d + 1, step), d})
    line = " L".join(f"{x(k)} {y(shares[k - 1])}" for k in drawn)
    floor = HEIGHT - BOTTOM
    return Spectrum(
        line=f"M{line}",
        area=f"M{x(1)} {floor} L{line} L{x(d)} {floor} Z",
        ticks_x=tuple(Mark(x(k), floor + 15, str(k)) for k in sorted({1, *(max(1, d * i // 4) for i in (1, 2, 3)), d})),
        ticks_y=tuple(Mark(LEFT - 6, y(10.0**e), _percent(10.0**e), "end") for e in range(0, deepest - 1, -1)),
        equal=y(1 / d),
        k90=k90,
        k90_x=x(k90),
        d=d,
        first=_percent(shares[0]),
    )


def heat_map(similarity: Mapping[str, Any]) -> HeatMap:
    """Place the cosines between class centres.

    Args:
        similarity: `classes` and `matrix` of a layer, whose entries lie in [-1, 1] or are None.
    """
    classes, matrix = similarity["classes"], similarity["matrix"]
    c = len(classes)
    cell = ((WIDTH - LEFT - RIGHT) / c, (HEIGHT - TOP - BOTTOM) / c)
    across, down = ([start + (i + 0.5) * size for i in range(c)] for start, size in zip((LEFT, TOP), cell, strict=True))
    few = c <= _LABELLED_CLASSES
    return HeatMap(
        shades=_shades(matrix, cell),
        numbers=_numbers(matrix, across, down) if c <= _NUMBERED_CELLS else (),
        rows=tuple(Mark(LEFT - 6, y, _cut(label), "end") for y, label in zip(down, classes, strict=True) if few),
        columns=tuple(
            Mark(x, HEIGHT - BOTTOM + 14, _cut(label, 4)) for x, label in zip(across, classes, strict=True) if few
        ),
        classes=c,
        closest=_closest(classes, matrix),
    )


def _shades(matrix: Matrix, cell: tuple[float, float]) -> tuple[Shade, ...]:
    width, height = cell
    paths: dict[tuple[bool, int], list[str]] = {}
    for i, row in enumerate(matrix):
        for j, cosine in enumerate(row):
            if cosine is not None:
                box = f"M{LEFT + j * width:.1f} {TOP + i * height:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"
                paths.setdefault((cosine > 0, round(20 * abs(cosine))), []).append(box)
    return tuple(Shade(warm, level / 20, "".join(boxes)) for (warm, level), boxes in sorted(paths.items()))


def _numbers(matrix: Matrix, across: list[float], down: list[float]) -> tuple[tuple[Mark, bool], ...]:
    return tuple(
        (Mark(x, y, _cosine(cosine)), abs(cosine) > _DARK)
        for y, row in zip(down, matrix, strict=True)
        for x, cosine in zip(across, row, strict=True)
        if cosine is not None
    )


def _closest(classes: Sequence[str], matrix: Matrix) -> tuple[str, str, str] | None:
    pairs = [
        (cosine, i, j) for i, row in enumerate(matrix) for j, cosine in enumerate(row) if cosine is not None and i < j
    ]
    if not pairs:
        return None
    cosine, i, j = max(pairs)
    return classes[i], classes[j], _cosine(cosine)


def scatter(points: Mapping[str, Any], eigenvalues: Sequence[float]) -> Scatter:
    """Place the rows of a layer, each class a cloud of its own.

    Args:
        points: `x`, `y` and `label` of a layer.
        eigenvalues: Its spectrum, for the shares of the two axes.
    """
    placed = _to_one_scale(points["x"], points["y"])
    labels = points["label"] or [None] * len(placed)
    names = sorted({label for label in labels if label is not None}) or [None]
    total = sum(eigenvalues)
    return Scatter(
        clouds=tuple(
            _cloud(name, i, [place for place, label in zip(placed, labels, strict=True) if label == name], len(names))
            for i, name in enumerate(names)
        ),
        shares=tuple(_percent(value / total) for value in (*eigenvalues, 0.0)[:2]) if total > 0 else None,
        points=len(placed),
    )


def _to_one_scale(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    width, height = WIDTH - 40, HEIGHT - 50
    extent = max(max(xs) - min(xs), (max(ys) - min(ys)) * width / height) or 1.0
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    unit = width / extent
    return [
        (WIDTH / 2 + (x - middle[0]) * unit, HEIGHT / 2 - 5 - (y - middle[1]) * unit)
        for x, y in zip(xs, ys, strict=True)
    ]


def _cloud(name: str | None, index: int, places: Sequence[tuple[float, float]], classes: int) -> Cloud:
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    label = None
    if name is not None and classes <= _LABELLED_CLASSES:
        x, y = (sorted(place[axis] for place in places)[len(places) // 2] for axis in (0, 1))
        label = Mark(round(x, 1), round(y, 1), _cut(name, 14))
    return Cloud(index % COLOURS, path, label)


def _cut(text: str, length: int = 8) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _cosine(cosine: float) -> str:
    return f"{cosine:.2f}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
