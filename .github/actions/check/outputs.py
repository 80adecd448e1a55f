"""Says what came of a check: the outputs of the step, its summary, and an error where there is no verdict.

Reads the exit code of `evaluate.sh` and the folder it was given. Exits with 1 where the code claims a verdict that no
evidence bears out: a crash of Python itself ends with 1 as well.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

FILES = ("json", "junit", "sarif", "attestation")
NO_VERDICT = "gate reached no verdict, exit code {}; the log of this step says why"


def main(code: int, work: Path) -> int:
    """Tell the runner; 0, or 1 where a verdict is claimed that the evidence does not hold."""
    evidence = verdict_of(code, work / "evidence.json")
    if evidence is None:
        told = 3 if code in (0, 1, 4, 6) else code
        report = f"### 🛑 ERROR: {NO_VERDICT.format(told)}\n"
        print(f"::error title=gate::{NO_VERDICT.format(told)}")  # noqa: T201 - the runner reads it
    else:
        told, report = code, (work / "summary.md").read_text(encoding="utf-8")
    append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs(told, evidence).items()))
    if os.environ["SUMMARY"] == "true":
        append("GITHUB_STEP_SUMMARY", report)
    return int(told != code)


def verdict_of(code: int, path: Path) -> dict[str, Any] | None:
    """The evidence, when it is what the exit code comes from; 0 and 6 also come from `fail-on`."""
    if not path.is_file():
        return None
    evidence: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return evidence if code in (0, 6, evidence["exit_code"]) else None


def outputs(code: int, evidence: dict[str, Any] | None) -> dict[str, str]:
    """Every output, each on one line; a model that has no verdict has no failed rules and no digest."""
    judged = evidence if evidence and evidence["status"] != "error" else None
    failed = [result["rule"] for result in judged["results"] if result["status"] == "fail"] if judged else []
    values = {
        "status": judged["status"] if judged else "error",
        "exit-code": str(code),
        "failed-rules": json.dumps(list(dict.fromkeys(failed))),
        "model-digest": judged["model"]["digest"] if judged else "",
        "policy-digest": judged["policy"]["digest"] if judged else "",
        **{name: written(name) for name in FILES},
    }
    return {name: value if value.isprintable() else "" for name, value in values.items()}


def written(name: str) -> str:
    """The path of a file of this run; those of earlier runs are gone before it starts."""
    path = Path(os.environ["OUTPUT_DIR"], f"gate.{name}.json" if name == "attestation" else f"gate.{name}")
    return str(path) if path.is_file() else ""


def append(variable: str, text: str) -> None:
    """Add text to a file that the runner reads when the step ends."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
