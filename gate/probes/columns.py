"""Which columns of a probe set mean what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SPLITS = ("probe", "reference", "ood")


@dataclass(frozen=True)
class Columns:
    """Which columns of the file mean what.

    Attributes:
        input: One column of numbers, lists (or an n-dimensional array), texts or pictures; or several: columns of
            numbers alone are one row of numbers, otherwise the model is shown each of them by its name.
        label: Class of the row.
        group: Site, batch or speaker of a row.
        length: A number that describes the row (tokens, pixels).
        id: Unique name of the row; without it rows are named by their number in the file, counting from 0.
        cluster: Document, patient or user of a row: rows of one are not independent.
        sublabel: Subclass of the row, finer than its class.
        target: One column of numbers, or several.
        tags: Further columns, by which the rows are cut into slices.
        pair: A second view of the input, of the same kind; as many columns as `input`, in its order.
        split: Which part of the probe set the row is of: probe, reference or ood.
        tasks: Name of a task → the column of its classes.
        attributes: Further columns of categories.
        cue: Category of what may be a shortcut to the class.
        pretext: Class in a task that the model was trained on.
    """

    input: str | tuple[str, ...]
    label: str | None = None
    group: str | None = None
    length: str | None = None
    id: str | None = None
    cluster: str | None = None
    sublabel: str | None = None
    target: str | tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    pair: str | tuple[str, ...] | None = None
    split: str | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    cue: str | None = None
    pretext: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of `input`, one or several."""
        return _several(self.input)

    @property
    def pairs(self) -> tuple[str, ...]:
        """The columns of `pair`: none, one or several."""
        return _several(self.pair)

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of `target`: none, one or several."""
        return _several(self.target)

    @property
    def texts(self) -> frozenset[str]:
        """The columns that are texts, even where they look like numbers."""
        return frozenset((*self.named, *self.tags))

    @property
    def named(self) -> tuple[str, ...]:
        """The columns of texts that have a role, whatever the rows are cut by."""
        roles = (self.label, self.group, self.id, self.cluster, self.sublabel, self.split, self.cue, self.pretext)
        return (*filter(None, roles), *self.tasks.values(), *self.attributes)

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read, once."""
        length = () if self.length is None else (self.length,)
        return tuple(dict.fromkeys((*self.inputs, *self.pairs, *self.named, *length, *self.targets, *self.tags)))


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
