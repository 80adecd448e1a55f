"""Decides whether a registered model may be promoted, by the geometry of its representations.

In a notebook: `gate.check(model_uri, policy=…)` for a model of a registry, `gate.compare(a, b, probe=…)` for two of
them, `gate.measure(features)` for plain arrays.
Importing this package is free; torch, mlflow and pydantic are imported when something of it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gate.calibration import calibrate
    from gate.comparison.versions import compare
    from gate.evaluation import check
    from gate.measurement import measure
    from gate.policy.loading import load_policy

    __version__: str

__all__ = ["__version__", "calibrate", "check", "compare", "load_policy", "measure"]

_HOMES = {
    "calibrate": "gate.calibration",
    "check": "gate.evaluation",
    "compare": "gate.comparison.versions",
    "load_policy": "gate.policy.loading",
    "measure": "gate.measurement",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'gate' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("geometry-gate")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
