"""What a hostile model tries, once each: in a worker as facts, or in an ordinary process to see that it would work.

An attempt returns when it succeeds, and raises OSError or returns a refusal when it does not.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
SHARED = Path("/dev/shm")  # noqa: S108 - the folder itself is what is tried


def checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tcp(world: Mapping[str, Any]) -> None:
    socket.create_connection(("127.0.0.1", world["port"]), timeout=5).close()


def udp(world: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", world["port"]))


def socket_with_a_path(world: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(world["socket"])


def datagram_to_a_path(world: Mapping[str, Any]) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.sendto(b"x", world["datagrams"])


def message_to_a_path(world: Mapping[str, Any]) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.sendmsg([b"x"], [], 0, world["datagrams"])


def abstract_socket(world: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(world["abstract"])


def read_a_key(world: Mapping[str, Any]) -> None:
    Path(world["key"]).read_bytes()


def read_a_key_through_a_link(world: Mapping[str, Any]) -> None:
    link = Path.home() / "key"
    link.symlink_to(world["key"])
    link.read_bytes()


def link_a_key_into_scratch(world: Mapping[str, Any]) -> None:
    os.link(world["key"], Path(world["own"] or Path.home()) / "linked")


def list_a_folder(world: Mapping[str, Any]) -> None:
    list(Path(world["key"]).parent.iterdir())


def read_the_environment_of_the_judge(world: Mapping[str, Any]) -> None:
    if not Path(f"/proc/{world['judge']}/environ").read_bytes():
        raise OSError("empty")


def read_the_command_line_of_the_judge(world: Mapping[str, Any]) -> None:
    Path(f"/proc/{world['judge']}/cmdline").read_bytes()


def open_the_memory_of_another_process(world: Mapping[str, Any]) -> None:
    Path(f"/proc/{world['victim']}/mem").open("rb").close()


def read_the_memory_of_another_process(world: Mapping[str, Any]) -> None:
    maps = Path(f"/proc/{world['victim']}/maps").read_text(encoding="utf-8")
    start = int(maps.partition("-")[0], 16)
    local = ctypes.create_string_buffer(16)
    parts = (ctypes.c_void_p * 2)(ctypes.addressof(local), 16), (ctypes.c_void_p * 2)(start, 16)
    checked(LIBC.process_vm_readv(world["victim"], parts[0], 1, parts[1], 1, 0))


def trace_another_process(world: Mapping[str, Any]) -> None:
    checked(LIBC.ptrace(16, world["victim"], 0, 0))
    LIBC.ptrace(17, world["victim"], 0, 0)


def signal_another_process(world: Mapping[str, Any]) -> None:
    os.kill(world["victim"], 0)


def signal_another_process_by_its_thread(world: Mapping[str, Any]) -> None:
    checked(LIBC.syscall(200 if os.uname().machine == "x86_64" else 130, world["victim"], 0))


def hold_another_process(world: Mapping[str, Any]) -> None:
    os.close(os.pidfd_open(world["victim"]))


def limit_another_process(world: Mapping[str, Any]) -> None:
    resource.prlimit(world["victim"], resource.RLIMIT_NOFILE)


def slow_another_process(world: Mapping[str, Any]) -> None:
    os.setpriority(os.PRIO_PROCESS, world["victim"], 1)


def write_outside(world: Mapping[str, Any]) -> None:
    (Path(world["key"]).parent / f"left-{os.getpid()}").write_text("x", encoding="utf-8")


def write_into_the_model(world: Mapping[str, Any]) -> None:
    Path(world["model"], "MLmodel").write_text("x", encoding="utf-8")


def add_to_the_model(world: Mapping[str, Any]) -> None:
    Path(world["model"], f"added-{os.getpid()}").mkdir()


def write_into_the_libraries(_: Mapping[str, Any]) -> None:
    place = Path(json.__file__).with_name("written.py")
    place.write_text("", encoding="utf-8")
    place.unlink()


def empty_a_file(world: Mapping[str, Any]) -> None:
    os.truncate(world["empties"], 0)


def remove_a_file(world: Mapping[str, Any]) -> None:
    Path(world["removes"]).unlink()


def write_shared_memory(_: Mapping[str, Any]) -> None:
    place = SHARED / f"attempt-{os.getpid()}"
    place.write_bytes(b"x")
    place.unlink()


def fork(_: Mapping[str, Any]) -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def start_a_program(_: Mapping[str, Any]) -> None:
    subprocess.run(["/bin/true"], check=True)


def spawn_a_program(_: Mapping[str, Any]) -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def become_a_program(_: Mapping[str, Any]) -> None:
    os.execv("/bin/echo", ["echo", '"done"'])  # noqa: S606 - that is the attempt


def new_namespace(_: Mapping[str, Any]) -> None:
    checked(LIBC.unshare(0x10000000))


def chown_a_file(world: Mapping[str, Any]) -> None:
    os.chown(world["key"], -1, os.getgid())


def memory_that_no_limit_counts(_: Mapping[str, Any]) -> None:
    os.close(os.memfd_create("x"))


def old_shared_memory(_: Mapping[str, Any]) -> None:
    checked(LIBC.shmget(0, 4096, 0o1600))


def large_file(world: Mapping[str, Any]) -> None:
    with Path(world["own"] or Path.home(), "large").open("wb") as file:
        file.truncate((1 << 30) + 1)


def more_open_files(_: Mapping[str, Any]) -> None:
    held: list[int] = []
    try:
        while len(held) < 1100:
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for each in held:
            os.close(each)


def core_dump(_: Mapping[str, Any]) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0):
        raise PermissionError


ATTEMPTS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    each.__name__: each
    for each in (
        tcp, udp, socket_with_a_path, datagram_to_a_path, message_to_a_path, abstract_socket, read_a_key,
        read_a_key_through_a_link, link_a_key_into_scratch, list_a_folder, read_the_environment_of_the_judge,
        read_the_command_line_of_the_judge, open_the_memory_of_another_process, read_the_memory_of_another_process,
        trace_another_process, signal_another_process, signal_another_process_by_its_thread, hold_another_process,
        limit_another_process, slow_another_process, write_outside, write_into_the_model, add_to_the_model,
        write_into_the_libraries, empty_a_file, remove_a_file, write_shared_memory, fork, start_a_program,
        spawn_a_program, become_a_program, new_namespace, chown_a_file, memory_that_no_limit_counts, old_shared_memory,
        large_file, more_open_files, core_dump,
    )
}  # fmt: skip


def outcome(name: str, world: Mapping[str, Any]) -> str:
    try:
        ATTEMPTS[name](world)
    except OSError as error:
        return f"refused: {error}"
    return "done"


def surroundings(world: Mapping[str, Any]) -> dict[str, object]:
    """What a model finds around itself, and what it does that has to work or to do nothing."""
    Path(world["key"]).chmod(0o640)
    os.utime(world["key"], (0, 0))
    Path("kept").write_text("x", encoding="utf-8")
    with mmap.mmap(-1, 1 << 20) as memory:
        memory[:1] = b"x"
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {
        "environment": dict(os.environ),
        "open": [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()],
        "folder": str(Path.cwd()),
        "path": sys.path,
        "model": Path(world["model"], "MLmodel").read_text(encoding="utf-8"),
        "capabilities": [line for line in status.splitlines() if line.startswith("Cap")],
        "session": os.getsid(0) == os.getpid(),
    }  # fmt: skip


class Answers:
    """Facts and nothing else."""

    weights: Mapping[str, Any] = {}

    def __init__(self, facts: Mapping[str, object]) -> None:
        self.facts = facts

    def __call__(self, inputs: object) -> dict[str, Any]:
        raise NotImplementedError


@contextmanager
def everything(world: Mapping[str, Any]) -> Iterator[Answers]:
    """All but the one that there is no return from."""
    names = [name for name in ATTEMPTS if name != become_a_program.__name__]
    yield Answers({"attempts": {name: outcome(name, world) for name in names}, **surroundings(world)})


@contextmanager
def becoming(world: Mapping[str, Any]) -> Iterator[Answers]:
    yield Answers({"outcome": outcome(become_a_program.__name__, world)})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(outcome(sys.argv[1], json.loads(sys.argv[2]))))
