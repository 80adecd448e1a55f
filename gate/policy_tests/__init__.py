"""Tests of policies: measurements written by hand, and what the policy must say of them. No model is loaded.

A file of tests is called `NAME.test.yaml` and lies anywhere, best beside its policy:

    kind: PolicyTests
    policy: policy.yaml
    tests:
      - name: a collapsed model is blocked
        given: {collapse_index: {value: 0.61, interval: [0.58, 0.64]}}
        expect: {status: failed, exit_code: 1, fail: [collapse]}

They are judged by the very function that judges a check. A metric that a rule needs and the test lacks is an error, as
it is in a check.
"""

from __future__ import annotations

from gate.policy_tests.files import Suite, found, load
from gate.policy_tests.rendering import FORMATS, is_report, render
from gate.policy_tests.running import Tested, run

__all__ = ["FORMATS", "Suite", "Tested", "found", "is_report", "load", "render", "run"]
