"""A policy replayed over recorded evidence: which versions would change their verdict. No model is run.

Pure: the evidence, the policy and the day are arguments; what is recorded in MLflow is found by `gate.mlflow_plugin`.
"""

from __future__ import annotations

from gate.backtest import diff_rendering
from gate.backtest.bundles import Bundle, below
from gate.backtest.policy_diff import policy_diff
from gate.backtest.rendering import FORMATS, is_report, render
from gate.backtest.replaying import Change, Findings, Recorded, Replay, Said, changes, replay, replays
from gate.backtest.summary import backtest, exit_code, in_order, is_stuck, newest

__all__ = [
    "FORMATS",
    "Bundle",
    "Change",
    "Findings",
    "Recorded",
    "Replay",
    "Said",
    "backtest",
    "below",
    "changes",
    "diff_rendering",
    "exit_code",
    "in_order",
    "is_report",
    "is_stuck",
    "newest",
    "policy_diff",
    "render",
    "replay",
    "replays",
]
