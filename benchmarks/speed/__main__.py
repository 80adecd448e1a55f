"""`python -m benchmarks.speed`: measures the suite, public packages and the machine in one run."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.speed import environments, features, floor, ours, report
from benchmarks.speed.peers import PEERS, Peer
from benchmarks.speed.processes import Contender, Limits, interleave

_RESULTS = Path(__file__).with_name("RESULTS.md")


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes the results."""
    options = _options(arguments)
    limits = Limits(options.seconds, options.gigabytes, options.threads, options.device)
    blocks = [_measured(features.SIZES[name], options, limits) for name in options.sizes]
    text = report.render(report.machine(options.device, options.threads), blocks)
    sys.stdout.write(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    add = parser.add_argument
    add("sizes", nargs="*", choices=[*features.SIZES, []], default=["S"], help="S, M, L, XL (ours only) or tiny")
    add("--peers", nargs="*", metavar="NAME", help="parts of the names of the packages to run; all by default")
    add("--rounds", type=int, default=5, help="calls of each contender")
    add("--seconds", type=float, default=120, help="limit of one call")
    add("--gigabytes", type=float, default=12, help="limit of a contender's memory, 0 for none")
    add("--threads", type=int, default=cores, help="of every library")
    add("--device", default="cuda" if _has_gpu() else "cpu", help="for those that know devices")
    add("--cache", type=Path, default=Path.home() / ".cache" / "geometry-gate-benchmarks", help="for environments")
    add("--output", type=Path, default=_RESULTS, help="where the tables go")
    for variable in sorted({peer.checkout for peer in PEERS if peer.checkout}):
        option = f"--{variable.lower().replace('_', '-')}"
        add(option, type=Path, default=os.environ.get(variable), help=f"a checkout, or the variable {variable}")
    return parser.parse_args(arguments)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _measured(size: features.Size, options: argparse.Namespace, limits: Limits) -> report.Block:
    sys.stderr.write(f"{size}\n")
    contenders: dict[str, Contender] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features.write(size, folder)
        try:
            peers = [peer for peer in PEERS if size.peers and _wanted(peer, options)]
            against = [ours.named(peer.metrics, intervals=sure) for peer in peers for sure in (False, True)]
            for each in dict.fromkeys((*floor.FLOORS, ours.VALUES_ONLY, ours.WITH_INTERVALS, *against)):
                contenders[each] = Contender(each).start(Path(sys.executable), folder, limits, ())
            for peer in peers:
                contenders[peer.name] = _started(peer, folder, options, limits)
            interleave(list(contenders.values()), options.rounds, limits, sys.stderr.write)
        finally:
            for contender in contenders.values():
                contender.stop()
    return report.Block(size, contenders)


def _wanted(peer: Peer, options: argparse.Namespace) -> bool:
    return options.peers is None or any(part.lower() in peer.name.lower() for part in options.peers)


def _started(peer: Peer, folder: Path, options: argparse.Namespace, limits: Limits) -> Contender:
    contender = Contender(peer.name)
    checkout = getattr(options, peer.checkout.lower()) if peer.checkout else None
    if peer.checkout and checkout is None:
        contender.failed = f"skipped: no checkout in {peer.checkout}"
    else:
        paths = () if checkout is None else (str(checkout),)
        contender.start(environments.PEERS.python(options.cache), folder, limits, paths)
    return contender


if __name__ == "__main__":
    main()
