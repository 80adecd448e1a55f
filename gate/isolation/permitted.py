"""What a worker may read: the libraries that this process was started with, and what those ask of the system."""

from __future__ import annotations

import mimetypes
import os
import sys
from pathlib import Path

# Programs and libraries for everyone, and where other packagers than the distribution put theirs.
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
_SETTINGS = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/localtime", "/etc/timezone",
    "/etc/nsswitch.conf", "/etc/os-release", "/etc/alternatives", "/etc/fonts", "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs", "/etc/pki/tls/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
    "/etc/crypto-policies/back-ends",
)  # fmt: skip
_MACHINE = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/loadavg",
    "/proc/uptime", "/proc/devices", "/proc/driver/nvidia", "/proc/sys/vm", "/proc/sys/kernel",
    "/sys/devices", "/sys/fs/cgroup", "/sys/bus", "/sys/class", "/sys/kernel/mm", "/sys/module/nvidia",
)  # fmt: skip
_TYPES = [str(name) for name in mimetypes.knownfiles]
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_NVIDIA = ("nvidia*", "nvidia-caps/*", "dri/render*")


def packages() -> str:
    """The folder that the package `gate` lies in."""
    return str(Path(__file__).resolve().parents[2])


def search_path() -> list[str]:
    """Where a worker looks for modules: where this process does, as far as that is a place for libraries.

    The working folder, a whole home and the folder of the script that was started are none.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = None if script is None else os.path.realpath(Path(script).parent)
    places = dict.fromkeys(os.path.realpath(place) for place in sys.path if place)
    return [place for place in places if place != beside and Path(place).exists() and not _is_private(place)]


def readable() -> list[str]:
    """Folders and files that the libraries of a worker read."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    libraries = [place for place in os.environ.get("LD_LIBRARY_PATH", "").split(":") if place]
    own = [place for place in (*sorted(prefixes), *libraries) if not _is_private(place)]
    return [*own, *search_path(), str(Path(packages(), "gate")), *_SYSTEM, *_SETTINGS, *_MACHINE, *_TYPES]


def devices(device: str) -> list[str]:
    """What a worker may read from and write to that is no file: on a GPU, its driver as well."""
    if not device.startswith("cuda"):
        return list(_DEVICES)
    found = [str(path) for pattern in _NVIDIA for path in sorted(Path("/dev").glob(pattern)) if not path.is_dir()]
    return [*_DEVICES, *found]


def _is_private(place: str) -> bool:
    """Whether a folder is the working folder or holds it or the home of the user: then it is no library."""
    found = Path(place).resolve()
    try:
        kept = [Path.home().resolve(), Path.cwd()]
    except (OSError, RuntimeError):  # no home, or a working folder that is gone
        kept = []
    return found == Path("/") or any(each == found or each.is_relative_to(found) for each in kept)
