"""The quick start: two classifiers with the same test accuracy, of which one must not be promoted."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gate.demo.digits import Images
    from gate.demo.registering import Registry
    from gate.demo.training import Recipe

POLICY = "classifier"  # a pack
EXPECTED_EXIT_CODES = (0, 1)
UNEXPECTED = 3
_VERDICTS = {0: "PASS", 1: "FAIL", 4: "INCONCLUSIVE"}


@dataclass(frozen=True)
class Judged:
    """One registered model and what the gate said.

    Attributes:
        name: "healthy" or "collapsed".
        uri: Of the registered version.
        accuracy: On the held-out images, in [0, 1].
        exit_code: Of `gate check`.
    """

    name: str
    uri: str
    accuracy: float
    exit_code: int

    @property
    def verdict(self) -> str:
        """The outcome in one word."""
        return _VERDICTS.get(self.exit_code, "ERROR")


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run(
    directory: Path,
    progress: Callable[[str], None] = _to_stderr,
    say: Callable[[str], None] = print,
    options: Sequence[str] = (),
) -> int:
    """Train and register a healthy and a collapsed model, and let the gate judge both.

    Args:
        directory: For the registry, the probe set and the reports; made when it is not there.
        progress: Told what happens, line by line.
        say: Told what comes out, block by block.
        options: More of them for both checks, such as `--quiet`.

    Returns:
        0 when the healthy model passed and the collapsed one was blocked, else 3.
    """
    progress("loading torch and MLflow ...")
    from gate.demo import digits
    from gate.demo.registering import Registry
    from gate.demo.training import HEALTHY, WRONG_SIGN

    directory.mkdir(parents=True, exist_ok=True)
    training_set, held_out = digits.load()
    probe = _write_probe(held_out, directory)
    registry = Registry(directory)
    judged = []
    for name, recipe in (("healthy", HEALTHY), ("collapsed", WRONG_SIGN)):
        progress(f"{name}: training on {len(training_set.labels)} images, registering ...")
        uri, accuracy = _train_and_register(name, recipe, training_set, held_out, registry)
        progress(f"{name}: gate check {uri} on {len(held_out.labels)} images that it has never seen ...")
        outputs = _outputs(directory / f"{name}.html")
        judged.append(Judged(name, uri, accuracy, _check(uri, probe, registry, [*outputs, *options], say)))
    say(_summary(judged, registry, directory))
    return _outcome(judged, progress)


def _train_and_register(
    name: str, recipe: Recipe, training_set: Images, held_out: Images, registry: Registry
) -> tuple[str, float]:
    from gate.demo.training import accuracy, train

    model = train(recipe, training_set)
    share = accuracy(model, held_out)
    return registry.register(model, recipe, held_out, name=name, accuracy=share), share


def _write_probe(images: Images, directory: Path) -> Path:
    """The probe set, and beside it the spec that names its columns and pins its content."""
    import json

    from gate.demo.digits import save_probe
    from gate.probes.probe_set import Columns, open_probe

    path = directory.resolve() / "probe.npz"
    save_probe(images, path)
    columns = Columns(input="image", label="label", id="id")
    probe = open_probe(str(path), columns=columns)
    for _ in probe.batches(256):
        pass
    spec = {"uri": str(path), "digest": probe.digest, "columns": {"input": "image", "label": "label", "id": "id"}}
    target = path.with_name("probe.yaml")
    target.write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")  # every JSON text is YAML 1.2
    return target


def _outputs(report: Path) -> list[str]:
    return ["-o", "text", "-o", f"html={report}", "-o", f"json={report.with_suffix('.json')}"]


def _check(uri: str, probe: Path, registry: Registry, options: Sequence[str], say: Callable[[str], None]) -> int:
    """Run the command itself, as a user would, and pass on what it prints and how it exits."""
    arguments = ["check", uri, "-p", POLICY, "--probe", str(_near(probe)), *options]
    environment = os.environ | {"MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_REGISTRY_URI": registry.uri}
    if sys.stdout.isatty():
        environment.setdefault("FORCE_COLOR", "1")
    command = [sys.executable, "-m", "gate", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours
    say(f"$ gate {' '.join(arguments)}\n\n{done.stdout}")
    return done.returncode


def _summary(judged: list[Judged], registry: Registry, directory: Path) -> str:
    lines = [f"{'model':<11}{'version':<18}{'test accuracy':>13}   {'verdict':<14}exit code"]
    lines += [
        f"{model.name:<11}{model.uri:<18}{model.accuracy:>13.1%}   {model.verdict:<14}{model.exit_code}"
        for model in judged
    ]
    reports = " and ".join(str(_near(directory / f"{model.name}.html")) for model in judged)
    mlflow = _near(Path(sys.executable).with_name("mlflow"))
    lines += [
        "",
        f"reports:    open {reports} in a browser",
        f"MLflow UI:  {mlflow} ui --backend-store-uri {registry.uri}",
    ]
    return "\n".join(lines)


def _outcome(judged: list[Judged], progress: Callable[[str], None]) -> int:
    codes = tuple(model.exit_code for model in judged)
    if codes == EXPECTED_EXIT_CODES:
        return 0
    progress(f"error: the two checks exited with {codes}, expected {EXPECTED_EXIT_CODES}")
    return UNEXPECTED


def _near(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
