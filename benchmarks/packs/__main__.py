"""Judges small healthy and broken models with the policy packs: `python -m benchmarks.packs [PACK ...]`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

from benchmarks.packs.judging import findings, pack
from benchmarks.packs.report import HEADER, Judged

RESULTS = Path(__file__).with_name("RESULTS.md")
SEEDS = {
    "classifier": 4,
    "embedding": 5,
    "ssl-backbone": 4,
    "regression": 5,
    "sequence": 3,
    "successor": 4,
    "vae": 5,
    "codebook": 4,
}
SECTION = "\n## "


def main() -> None:
    """Train, judge and write; sections of packs that were not asked for stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", nargs="*", metavar="PACK", help="all of them when none is named")
    parser.add_argument("--seeds", type=int, help="of every pack; by default 3 to 5")
    options = parser.parse_args()
    torch.set_num_threads(1)
    new = {name: judged(name, options.seeds or SEEDS[name]).section() for name in options.packs or SEEDS}
    sections = _written() | new
    RESULTS.write_text("\n".join([HEADER, *(sections[name] for name in SEEDS if name in sections)]), encoding="utf-8")


def judged(name: str, seeds: int) -> Judged:
    """Every model of a kind, from every seed, judged with its pack."""
    models = importlib.import_module(f"benchmarks.packs.{name.replace('-', '_')}")
    result = Judged(pack(name), seeds)
    for seed in range(seeds):
        for case in models.cases(seed):
            result.add(case, findings(result.policy, case))
    return result


def _written() -> dict[str, str]:
    if not RESULTS.is_file():
        return {}
    _, *sections = RESULTS.read_text(encoding="utf-8").split(SECTION)
    return {section.splitlines()[0]: f"{SECTION.strip()} {section}".rstrip() + "\n" for section in sections}


if __name__ == "__main__":
    main()
