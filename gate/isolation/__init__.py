"""Runs a model in a process of its own, which is closed to the network, to files and to other processes."""

from __future__ import annotations

from gate.isolation.limits import Limits
from gate.isolation.process import Isolated

__all__ = ["Isolated", "Limits"]
