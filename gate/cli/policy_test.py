"""`gate policy test`: tests of policies; no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli import outputs
from gate.cli.boundary import describe
from gate.errors import GateError, UsageError
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.policy_tests import Suite

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Files of tests, or folders that hold files NAME.test.yaml. Default: the current folder.",
        show_default=False,
    ),
]
Requests = Annotated[list[str] | None, outputs.option("text or junit")]

# The help wraps and strips its lines, so the example is YAML that needs neither lines nor indentation.
EPILOG = (
    "A file of tests is called NAME.test.yaml, says kind: PolicyTests and names its policy, by its path from there. "
    "A metric that a rule asks for and a test does not give is an error of that rule. Such as:\n\n"
    "{kind: PolicyTests, policy: policy.yaml, tests: [{name: few directions are blocked, "
    "given: {effective_rank: {value: 20, interval: [18, 22]}}, expect: {status: failed, exit_code: 1}}]}\n\n"
    'All keys: docs/policy.md, "Testing a policy". '
    "Exit codes: 0 all passed, 1 a test failed, 2 a file has faults, 5 there is no test."
)


def run_tests(paths: Paths = None, *, output: Requests = None) -> None:
    """Run the tests of policies: measurements written by hand, and what the policy must say of them."""
    from gate import policy_tests

    targets = outputs.parse(output or (), policy_tests.FORMATS)
    outputs.remove_stale(targets, inputs=paths or (), recognised=policy_tests.is_report)
    files, others = policy_tests.found(paths or [Path()])
    for other in others:
        typer.echo(printable(f"left out {other}: it is of another kind"), err=True)
    results = [(suite, policy_tests.run(suite)) for suite in _loaded(files)]
    outputs.write_rendered(
        targets,
        lambda format_, color: policy_tests.render(format_, results, color=color),
        recognised=policy_tests.is_report,
    )
    raise typer.Exit(int(any(not each.passed for _, tests in results for each in tests)))


def _loaded(files: Sequence[Path]) -> list[Suite]:
    """All files; where one has faults none is run, and those of every file are listed."""
    from gate.policy_tests import load

    suites, faulty = [], []
    for file in files:
        try:
            suites.append(load(file))
        except GateError as error:
            typer.echo(describe(error), err=True)
            faulty.append(error.exit_code)
    if faulty:
        raise typer.Exit(UsageError.exit_code if UsageError.exit_code in faulty else max(faulty))
    return suites
