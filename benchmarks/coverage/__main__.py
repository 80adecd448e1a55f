"""Measures the coverage of every read-out and writes the table: `python -m benchmarks.coverage`."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.coverage.draws import D, N, conservative, coverage, fact, measured
from benchmarks.coverage.noninferiority import section

RESULTS = Path(__file__).with_name("RESULTS.md")


def _share(seeds: list[int]) -> tuple[dict[str, Tensor], dict[str, str]]:
    torch.set_num_threads(1)
    return measured(seeds)


def main() -> None:
    """Draws, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    parts = [list(range(options.draws))[start :: options.processes] for start in range(options.processes)]
    intervals: dict[str, list[Tensor]] = {}
    methods: dict[str, str] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for found, how in pool.map(_share, parts):
            methods |= how
            for address, rows in found.items():
                intervals.setdefault(address, []).append(rows)
    table = _table({name: torch.cat(rows) for name, rows in intervals.items()}, methods, options.draws)
    RESULTS.write_text(table + section(), encoding="utf-8")


def _table(intervals: dict[str, Tensor], methods: dict[str, str], draws: int) -> str:
    lines = [
        "# Coverage of the 95 % intervals",
        "",
        f"`python -m benchmarks.coverage --draws {draws}`: {draws} draws of {N} rows, {D} channels and 4 classes,",
        "with a loud heavy-tailed channel, a dead one and 2 % repeated rows. The target is what the estimator reads on",
        "average. An interval should hold it in 92 to 98 % of the draws; those of extremes (Bonferroni), counts and",
        "block maxima in at least 92 %. What lies outside is bold.",
        "",
        "| read-out | draws | mean | interval holds | how it came about |",
        "|---|---:|---:|---:|---|",
    ]
    for address, rows in sorted(intervals.items()):
        if fact(rows):
            continue
        share = coverage(rows)
        odd = share < 0.92 or (share > 0.98 and not conservative(methods[address]))
        shown = f"**{share:.1%}**" if odd else f"{share:.1%}"
        lines.append(f"| `{address}` | {len(rows)} | {rows[:, 0].mean():.4g} | {shown} | {methods[address]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
