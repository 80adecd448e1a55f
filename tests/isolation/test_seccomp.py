"""The filter as the kernel would run it, on both machines that it is written for."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from gate.isolation import seccomp

PROCESS = 4321
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
ALLOWED = "allowed"
THREAD = 0x3D0F00  # the flags of pthread_create


def run(machine: str, number: int, arguments: Sequence[int] = (), architecture: int | None = None) -> str | int:
    """What the filter answers: "allowed", or a number of an error."""
    words = {0: number, 4: MACHINES[machine] if architecture is None else architecture}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        words |= {16 + 8 * index: value & 0xFFFFFFFF, 20 + 8 * index: value >> 32}
    steps, place, loaded = seccomp.program(machine, PROCESS), 0, 0
    while True:
        code, then, otherwise, value = steps[place]
        place += 1
        if code == 0x06:
            assert value >> 16 in {0x7FFF, 0x0005}
            return ALLOWED if value >> 16 == 0x7FFF else value & 0xFFFF
        if code == 0x20:
            loaded = words[value]
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            place += then if holds else otherwise


NUMBERS = {machine: dict[str, int]() for machine in MACHINES}
CASES = {**seccomp._DENIED, **seccomp._ABSENT, **seccomp._IGNORED}
for name, pair in {**CASES, **seccomp._TO_ITSELF, **seccomp._SOCKETS}.items():
    for machine, found in zip(MACHINES, pair, strict=True):
        if found is not None:
            NUMBERS[machine][name] = found
for machine, column in (("x86_64", 0), ("aarch64", 1)):
    named = {"clone": seccomp._CLONE, "sendto": seccomp._SEND_TO, "prlimit64": seccomp._LIMITS}
    NUMBERS[machine] |= {name: pair[column] for name, pair in named.items()}


@pytest.mark.parametrize("machine", MACHINES)
def test_each_call_is_answered_as_listed(machine: str) -> None:
    numbers = NUMBERS[machine]
    assert {run(machine, numbers[name]) for name in seccomp._DENIED if name in numbers} == {errno.EPERM}
    assert {run(machine, numbers[name]) for name in seccomp._ABSENT} == {errno.ENOSYS}
    assert {run(machine, numbers[name]) for name in seccomp._IGNORED if name in numbers} == {0}


@pytest.mark.parametrize("machine", MACHINES)
def test_all_other_calls_are_allowed(machine: str) -> None:
    others = set(range(500)) - set(NUMBERS[machine].values())
    assert len(others) > 380
    assert {run(machine, number, [1 << 40] * 6) for number in others} == {ALLOWED}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", [THREAD], ALLOWED),
        ("clone", [17], errno.EPERM),
        ("clone", [0x10000000 | 17], errno.EPERM),
        ("kill", [PROCESS, 9], ALLOWED),
        ("kill", [PROCESS + 1, 0], errno.EPERM),
        ("kill", [0, 9], errno.EPERM),
        ("kill", [(1 << 64) - 1, 9], errno.EPERM),
        ("tgkill", [PROCESS, PROCESS + 3, 6], ALLOWED),
        ("tgkill", [1, 1, 9], errno.EPERM),
        ("socket", [1, 1], ALLOWED),
        ("socket", [2, 1], errno.EPERM),
        ("socket", [10, 1], errno.EPERM),
        ("socket", [16, 3], errno.EPERM),
        ("socket", [40, 1], errno.EPERM),
        ("socketpair", [1, 2], ALLOWED),
        ("sendto", [3, 4, 5, 0, 0, 0], ALLOWED),
        ("sendto", [3, 4, 5, 0, 0x7000, 16], errno.EPERM),
        ("sendto", [3, 4, 5, 0, 0x7F0000000000, 16], errno.EPERM),
        ("prlimit64", [0, 7], ALLOWED),
        ("prlimit64", [PROCESS, 7], ALLOWED),
        ("prlimit64", [1, 7], errno.EPERM),
    ],
)
def test_some_calls_depend_on_what_they_are_about(
    machine: str, name: str, arguments: list[int], expected: str | int
) -> None:
    assert run(machine, NUMBERS[machine][name], arguments) == expected


def test_calls_of_another_architecture_are_refused() -> None:
    """32-bit programs number their calls otherwise: 11 is execve there, and munmap here."""
    assert run("x86_64", 11) == ALLOWED
    assert run("x86_64", 11, architecture=0x40000003) == errno.EPERM
    assert run("x86_64", 0x40000000 | 520) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"{header} is not on this machine")
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text(encoding="utf-8"))
    defined: dict[str, int] = {}
    for name, number in lines:
        defined.setdefault(name, int(number))
    wrong = {name: number for name, number in NUMBERS[machine].items() if defined.get(name, number) != number}
    assert wrong == {}
    assert len(NUMBERS[machine].keys() & defined.keys()) > 80
