"""Python environments of the packages, made on demand."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """What is installed into an environment, in this order.

    Attributes:
        name: Of its folder.
        requirements: With all that they need.
        alone: Without what they declare: it would bring another torch, and what is measured does not import it.
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()

    def python(self, cache: Path) -> Path:
        """The interpreter, after making the environment if it is not there."""
        wanted = (_torch(), *self.requirements, *self.alone)
        digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
        folder = cache / f"{self.name}-{digest}"
        python = folder / "bin" / "python"
        ready = folder / "ready"
        if not ready.exists():
            sys.stderr.write(f"making the environment {self.name!r} (minutes, once) ...\n")
            venv.create(folder, clear=True, with_pip=True)
            for requirements in ((_torch(),), self.requirements, ("--no-deps", *self.alone)):
                install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements]
                subprocess.run(install, check=True)  # noqa: S603 - pip, with the names above
            ready.touch()
        return python


def _torch() -> str:
    return f"torch=={version('torch').split('+')[0]}"


PEERS = Environment(
    "peers",
    (
        f"numpy=={version('numpy')}",
        f"scikit-learn=={version('scikit-learn')}",
        "scipy",
        "faiss-cpu==1.15.1",
        "monai==1.6.1",
        "torchmetrics==1.9.0",
        "matplotlib",
        "einops",
        "loguru",
    ),
    alone=("reptrix==0.1.0", "vendi-score==0.0.3", "pytorch-ood==0.4.0"),
)
