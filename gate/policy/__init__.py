"""The declarative policy: its keys, and its files."""

from __future__ import annotations

from gate.policy.loading import LoadedPolicy, load_policy, load_probe_spec
from gate.policy.reads import Layer
from gate.policy.rules import Rule
from gate.policy.schema import Columns, Defaults, Metadata, Policy, Probe, Run
from gate.policy.waivers import Waiver

__all__ = [
    "Columns",
    "Defaults",
    "Layer",
    "LoadedPolicy",
    "Metadata",
    "Policy",
    "Probe",
    "Rule",
    "Run",
    "Waiver",
    "load_policy",
    "load_probe_spec",
]
