"""What a check ran on: versions, device, seed, and the state of the repository it ran in."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

GIT_TIMEOUT = 5.0


def environment(
    *,
    device: str,
    precision: str,
    seed: int,
    confidence: float,
    started: datetime,
    seconds: float,
    directory: Path | None = None,
) -> dict[str, Any]:
    """Describe the run for the evidence.

    Args:
        device: Where the features were computed, such as "cpu".
        precision: Of the model's arithmetic, such as "float32".
        seed: Of everything random.
        confidence: Two-sided level of the intervals, in (0, 1).
        started: When the check began, with a time zone.
        seconds: How long it took.
        directory: A folder of the repository whose commit is noted; the working folder when None.

    Returns:
        Plain JSON values; a version or a repository that cannot be found is None.
    """
    return {
        "version": version("geometry-gate"),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "mlflow", "numpy")},
        "platform": platform.platform(),
        "device": device,
        "precision": precision,
        "seed": seed,
        "confidence": confidence,
        "git": repository(directory or Path.cwd()),
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
    }


def version(distribution: str) -> str | None:
    """The installed version of a distribution, None when it is not installed.

    Args:
        distribution: Its name in the package index.
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def repository(directory: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the git repository that holds a folder, None outside of one.

    Args:
        directory: Any folder.
    """
    commit = _git(directory, "rev-parse", "HEAD")
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else {"commit": commit, "dirty": changes != ""}


def in_repository(path: str) -> str:
    """The path of a file as its repository names it, with forward slashes; as it is given outside of one.

    Args:
        path: Of a file, absolute or from the working folder.
    """
    file = Path(os.path.abspath(path))  # without following links: a link in the repository is its file  # noqa: PTH100
    root = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    return path if root is None or not file.exists() else file.relative_to(root).as_posix()


def _git(directory: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
