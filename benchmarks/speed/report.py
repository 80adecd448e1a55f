"""The table, for the terminal and for RESULTS.md."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.speed import floor, ours
from benchmarks.speed.peers import PEERS, Peer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.speed.features import Size
    from benchmarks.speed.processes import Contender

_HEAD = """\
# Speed

Medians of interleaved calls on the same features after one to warm up, each contender in a process of its own. The
ratio is the time of the package over that of the suite for the same answer, a value: above 1 the package takes longer.
What the suite takes with influence and intervals, which no package gives, stands beside it. Memory is what a call takes
at most beyond its features. The floor is one read of the features at the measured bandwidth, half a product at the
measured peak for each of {moments} second moments (rows and unit rows), and {spectra} times the eigenvalues of a d x d
matrix in float64.
`make bench` measures it anew.
"""


@dataclass(frozen=True)
class Block:
    """What was measured at one size."""

    size: Size
    contenders: Mapping[str, Contender]

    def seconds(self) -> dict[str, float]:
        """Median of every contender that has one."""
        return {name: each.median for name, each in self.contenders.items() if each.median is not None}


def machine(device: str, threads: int) -> str:
    """The machine in a line, without its name."""
    import torch

    where = f"{threads} threads of a CPU"
    if device.startswith("cuda"):
        where = f"{torch.cuda.get_device_name(device)}; packages that know no devices on {where}"
    return f"{where}, torch {torch.__version__}, Python {platform.python_version()}"


def render(machine_line: str, blocks: list[Block]) -> str:
    """All tables as Markdown."""
    head = _HEAD.format(moments=floor.SECOND_MOMENTS, spectra=floor.SPECTRA)
    return "\n".join([head, f"Machine: {machine_line}.\n", *(_block(block) for block in blocks)])


def _block(block: Block) -> str:
    return "\n".join([f"## {block.size}\n", _against_the_floor(block), *_against_the_packages(block)])


def _against_the_floor(block: Block) -> str:
    seconds = block.seconds()
    lines = ["| all CORE moment and class metrics | seconds | times the floor | extra memory |", "|---|---|---|---|"]
    least = None
    measured = ""
    if floor.FLOORS.keys() <= seconds.keys():
        least = floor.floor(seconds, block.size)
        rate, read = floor.peak(seconds, block.size), floor.bandwidth(seconds)
        measured = (
            f"Peak {rate / 1e9:.0f} GFLOP/s in float32, read {read / 1e9:.0f} GB/s, "
            f"`eigvalsh({block.size.d})` {_seconds(seconds['floor: eigvalsh'])} s.\n\n"
        )
        lines.append(f"| floor | {_seconds(least)} | 1 | |")
    for name in (ours.VALUES_ONLY, ours.WITH_INTERVALS):
        each = block.contenders[name]
        ratio = f"{each.median / least:.2f}" if least and each.median else ""
        lines.append(f"| {name} | {_result(each)} | {ratio} | {_memory(each)} |")
    return measured + "\n".join(lines) + "\n"


def _against_the_packages(block: Block) -> list[str]:
    if not block.size.peers:
        return []
    lines = [
        "| package | seconds | memory | ours | seconds | memory | ratio | with intervals | remark |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(peer, block) for peer in PEERS if peer.name in block.contenders),
    ]
    return ["\n".join(lines) + "\n"]


def _row(peer: Peer, block: Block) -> str:
    theirs = block.contenders[peer.name]
    mine, sure = (block.contenders[ours.named(peer.metrics, intervals=each)] for each in (False, True))
    ratio = f"{theirs.median / mine.median:.2f}" if theirs.median and mine.median else ""
    cells = (
        peer.name,
        _result(theirs),
        _memory(theirs),
        ", ".join(peer.metrics),
        _result(mine),
        _memory(mine),
        ratio,
        "" if sure is mine else _result(sure),
        peer.remark,
    )
    return f"| {' | '.join(cells)} |"


def _result(contender: Contender) -> str:
    return contender.failed or ("" if contender.median is None else _seconds(contender.median))


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}"


def _memory(contender: Contender) -> str:
    return "" if contender.median is None else f"{contender.peak / 2**20:.0f} MB"
