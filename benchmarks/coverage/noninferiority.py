"""Measures how often a relative rule passes a version exactly at its margin, and decides on one that is no worse.

`python -m benchmarks.coverage.noninferiority` writes the section of RESULTS.md.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.coverage.pairs import (
    MARGINS,
    METRICS,
    Kind,
    at_the_margin,
    draw,
    measured,
    no_worse,
    outcomes,
    widening,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.verdict import Measurements

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = "# Relative rules: non-inferiority on the same rows"
N, LARGE = 1000, 5000
AT_MARGIN: tuple[Kind, ...] = ("slightly worse", "worse", "worse, clustered")
NOMINAL = 0.025


def _measured(kind: Kind, n: int, seeds: Sequence[int]) -> list[Measurements]:
    torch.set_num_threads(1)
    return [measured(draw(kind, n, seed)) for seed in seeds]


def main() -> None:
    """Draws, measures, judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--large-draws", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:

        def drawn(kind: Kind, n: int, draws: int) -> list[Measurements]:
            parts = [list(range(draws))[start :: options.processes * 8] for start in range(options.processes * 8)]
            return [each for part in pool.map(partial(_measured, kind, n), parts) for each in part]

        lines = _at_margin({kind: drawn(kind, N, options.draws) for kind in AT_MARGIN}, options.draws)
        lines += _no_worse(drawn("equal", LARGE, options.large_draws))
    above, _, _ = RESULTS.read_text(encoding="utf-8").partition(HEADING)
    RESULTS.write_text(f"{above.rstrip()}\n\n{HEADING}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def section() -> str:
    """The section as it stands, for whoever writes the rest of the file anew."""
    _, heading, text = RESULTS.read_text(encoding="utf-8").partition(HEADING)
    return f"\n{heading}{text}" if heading else ""


def _at_margin(found: dict[Kind, list[Measurements]], draws: int) -> list[str]:
    lines = [
        f"`python -m benchmarks.coverage.noninferiority`: {draws} pairs of {N} rows, in which the candidate lost",
        "exactly as much as the rule allows, as a number and as a percentage of the baseline. Of these a rule may pass",
        f"{NOMINAL:.1%} and fail {NOMINAL:.1%}; above 4 % is bold. `wider` is how many times longer the interval of",
        "the change would be if the two versions had been measured on rows of their own.",
        "",
        "| read-out | pairs | passes | fails | passes, in percent | fails, in percent | wider |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for metric in METRICS:
        for kind, pairs in found.items():
            shares = []
            for percent in (False, True):
                seen = outcomes(pairs, metric, at_the_margin(pairs, metric, percent=percent))
                shares += [seen.count(status) / len(seen) for status in ("pass", "fail")]
            shown = " | ".join(f"**{share:.1%}**" if share > NOMINAL + 0.015 else f"{share:.1%}" for share in shares)
            lines.append(f"| `{metric}` | {kind} | {shown} | {widening(pairs, metric):.2f} |")
    return lines


def _no_worse(found: list[Measurements]) -> list[str]:
    lines = [
        "",
        f"{len(found)} pairs of {LARGE} rows that are two noisy copies of one signal, neither worse than the other:",
        "how often a rule with a margin that one would choose decides, which should be 95 %.",
        "",
        "| read-out | may drop and rise by | passes | fails | inconclusive | wider |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for metric in METRICS:
        seen = outcomes(found, metric, no_worse(metric))
        shares = " | ".join(f"{seen.count(status) / len(seen):.1%}" for status in ("pass", "fail", "inconclusive"))
        lines.append(f"| `{metric}` | {MARGINS[metric]} | {shares} | {widening(found, metric):.2f} |")
    return lines


if __name__ == "__main__":
    main()
