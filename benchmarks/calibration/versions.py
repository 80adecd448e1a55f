"""Versions of the demo classifier in a registry of their own: every seed is trained and registered once."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gate.demo import digits
from gate.demo.registering import Registry
from gate.demo.training import HEALTHY, WRONG_SIGN, Recipe, accuracy, train
from gate.probes.probe_set import Columns, open_probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPES = {"healthy": HEALTHY, "collapsed": WRONG_SIGN}


@dataclass(frozen=True)
class Version:
    """One training.

    Attributes:
        recipe: "healthy" or "collapsed".
        seed: Of the training.
        uri: Of the registered version.
        accuracy: On the held-out images.
    """

    recipe: str
    seed: int
    uri: str
    accuracy: float


def trained(recipe: str, seed: int, folder: Path) -> Version:
    """Train, and register as the next version."""
    images, held_out = digits.load()
    chosen: Recipe = replace(RECIPES[recipe], seed=seed)
    model = train(chosen, images)
    share = accuracy(model, held_out)
    uri = Registry(folder).register(model, chosen, held_out, name=f"{recipe}-{seed}", accuracy=share)
    return Version(recipe, seed, uri, share)


def write_probe(folder: Path) -> Path:
    """The held-out images as a probe set, and the spec that pins them."""
    path = folder.resolve() / "probe.npz"
    digits.save_probe(digits.load()[1], path)
    probe = open_probe(str(path), columns=Columns(input="image", label="label", id="id"))
    for _ in probe.batches(256):
        pass
    spec = path.with_suffix(".yaml")
    columns = "{input: image, label: label, id: id}"
    spec.write_text(f"uri: {path}\ndigest: {probe.digest}\ncolumns: {columns}\n", encoding="utf-8")
    return spec


@contextmanager
def in_registry(folder: Path) -> Iterator[None]:
    """The registry of the folder as that of the process."""
    uri = Registry(folder).uri
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    os.environ.update(dict.fromkeys(before, uri))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
