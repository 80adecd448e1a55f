"""The README is followed as a reader would follow it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from gate import server_policy
from gate.cli import app, main
from gate.errors import GateError
from gate.geometry import catalogue
from gate.models.quiet import quiet_mlflow
from gate.policy import load_policy
from gate.policy.reading import read
from tests.cli.registries import answering
from tests.conftest import Demo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELLS = ("sh", "bash", "console")
# What a reader with a model of their own replaces, and by what.
OWN = {
    "gate-demo/mlflow.db": "own.db",
    "models:/digits/1": "models:/encoder/1",
    "{path: embedding}": '{path: "1"}',
    "min: 0.9\n": "min: 0.7\n",
}
REGISTER_OWN = """
import mlflow, numpy, torch
torch.manual_seed(0)
layers = [torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)]
torch.nn.init.orthogonal_(layers[1].weight)
model = torch.nn.Sequential(*layers).eval()
example = numpy.zeros((2, 1, 8, 8), dtype=numpy.float32)
mlflow.pytorch.log_model(
    model, name="model", input_example=example, registered_model_name="encoder", pip_requirements=["torch"]
)
"""


class Block(NamedTuple):
    """A fenced block of the README."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name that the first line gives it."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found.group(1) if found else None

    @property
    def is_server(self) -> bool:
        return "mlflow server " in self.text

    @property
    def is_make(self) -> bool:
        return self.language in SHELLS and all(line.startswith("make ") for line in self.text.splitlines())


def yaml_of(block: Block) -> dict[str, Any]:
    value = read(block.text).value if block.language == "yaml" else None
    return value if isinstance(value, dict) else {}


def blocks_of(readme: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", readme, flags=re.DOTALL | re.MULTILINE)]


BLOCKS = blocks_of(README)


def table_below(heading: str) -> str:
    found = re.search(rf"^## {heading}\n.*?(^\|.*?)\n\n", README, flags=re.DOTALL | re.MULTILINE)
    assert found
    return found.group(1)


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def without_space(text: str) -> str:
    return re.sub(r"\s", "", text)


def follow(blocks: list[Block], folder: Path) -> dict[str, str]:
    """Save what has the name of a file and run everything else, in order; stdout of every block that was run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    said = {}
    for block in blocks:
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        python = [str(folder / ".venv" / "bin" / "python"), "-W", "error", "-c", block.text]
        command = python if block.language == "python" else ["bash", "-euo", "pipefail", "-c", commands_of(block)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        said[block.text] = done.stdout
    return said


def commands_of(block: Block) -> str:
    if block.language != "console":
        return block.text
    return "\n".join(line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))


def output_shown_in(block: Block) -> str:
    return "".join(line for line in block.text.splitlines(keepends=True) if not line.startswith("$ "))


def put_environment(folder: Path) -> None:
    """The environment of this session in the place of the one that make sets up."""
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)


@pytest.fixture(scope="module")
def newcomer(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which `make demo` was typed, and then all the rest of the README."""
    folder = tmp_path_factory.mktemp("readme") / "gate"
    shutil.copytree(demo.home, folder)
    put_environment(folder)
    return folder, follow([block for block in BLOCKS if not (block.is_make or block.is_server)], folder)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with a registry of another model, in which the blocks were followed with its names put in."""
    from gate.demo import digits

    folder = tmp_path_factory.mktemp("owner")
    put_environment(folder)
    (folder / "gate-demo").mkdir()
    digits.save_probe(digits.load()[1], folder / "gate-demo" / "probe.npz")
    environment = os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///own.db"}
    command = [sys.executable, "-c", REGISTER_OWN]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    section = README.split("## Gate your own model\n")[1].split("\n## ")[0]
    for theirs, own in OWN.items():
        assert section.count(theirs) == 1
        section = section.replace(theirs, own)
    return folder, follow(blocks_of(section), folder)


@pytest.mark.parametrize(
    ("target", "command"), [("demo", ".venv/bin/gate demo"), ("test", ".venv/bin/python -m pytest")]
)
def test_the_two_commands_are_what_the_tests_run(target: str, command: str) -> None:
    """`gate demo` is run by the fixture `demo`, and pytest is what runs this."""
    assert f"make {target} " in next(block for block in BLOCKS if block.is_make).text
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == command


def test_every_block_is_run_saved_or_a_target_of_make() -> None:
    assert {block.language for block in BLOCKS} <= {*SHELLS, "python", "yaml"}
    assert README.count("```") == 2 * len(BLOCKS)
    assert [block.file for block in BLOCKS if block.language == "yaml"] == [
        "policy.yaml",
        "server.yaml",
        "team.yaml",
        "team.test.yaml",
    ]
    targets = re.findall(r"^make (\w+)", "".join(block.text for block in BLOCKS if block.is_make), flags=re.MULTILINE)
    assert targets == ["demo", "test"]
    assert not any("make " in block.text for block in BLOCKS if not block.is_make)


def test_the_readme_can_be_followed_from_top_to_bottom(newcomer: tuple[Path, dict[str, str]]) -> None:
    folder, said = newcomer
    check = next(text for text in said if "gate check" in text)
    assert said[check].startswith("PASSED  models:/digits/1 passes: all 2 rules held")
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!")
    measured = next(text for text in said if "gate.measure" in text)
    assert re.search(r"^\d+\.\d of 64 dimensions, 95 % interval \(\d.*\nlook at row \d+$", said[measured].strip())
    told = next(said[text] for text in said if "logits=" in text).splitlines()
    assert [line.split()[0] for line in told] == [
        "ece",
        "knn_overlap",
        "mahalanobis_ood_auroc",
        "knn_label_agreement",
    ]
    assert all(re.search(r"^\w+ [\d.]+ \([\d.]+, [\d.]+\) .*, 150 clusters$", line) for line in told)


def test_the_readme_can_be_followed_with_a_model_of_ones_own(owner: tuple[Path, dict[str, str]]) -> None:
    folder, said = owner
    check = next(text for text in said if "gate check" in text)
    assert said[check].startswith("PASSED  models:/encoder/1 passes: all 2 rules held")
    assert len([text for text in said if "gate check" in text]) == 1
    assert (folder / "report.html").is_file()


def test_signed_evidence_is_promoted_and_verified(newcomer: tuple[Path, dict[str, str]]) -> None:
    folder, said = newcomer
    told = next(said[text] for text in said if "gate promote" in text).splitlines()
    assert "PROMOTED  models:/digits/1 is models:/digits@champion now" in told
    assert any(line.startswith("VERIFIED  models:/digits/1 is what was judged, signed and let pass") for line in told)
    protection = server_policy.load(folder / "server.yaml")
    assert protection.aliases == {"champion"}
    assert len(protection.trust.keys) == 1


def test_the_server_guards_the_alias(newcomer: tuple[Path, dict[str, str]]) -> None:
    (block,) = [block.text for block in BLOCKS if block.is_server]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert block.count("--port 5000") == 1
    command = ["bash", "-euc", block.replace("--port 5000", f"--port {port} --workers 1")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    with (newcomer[0] / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=newcomer[0], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        client = mlflow.MlflowClient(answering(f"http://127.0.0.1:{port}"))
        client.create_registered_model("digits")
        logged = client.create_logged_model("0").model_id
        client.finalize_logged_model(logged, "READY")
        client.create_model_version("digits", f"models:/{logged}", model_id=logged)
        with pytest.raises(
            MlflowException, match=r"Refused by gate: .* there is no signed statement of policy 'my-enc"
        ):
            client.set_registered_model_alias("digits", "champion", "1")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def test_your_own_model_takes_three_commands() -> None:
    commands = next(block.text for block in BLOCKS if "gate check" in block.text and block.language in SHELLS)
    assert len(commands.splitlines()) == 3


def test_the_verdict_is_on_the_model_version_as_the_readme_says(owner: tuple[Path, dict[str, str]]) -> None:
    uri = f"sqlite:///{owner[0] / 'own.db'}"
    with quiet_mlflow():
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        assert client.get_model_version("encoder", "1").tags["gate"] == "PASS"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "console"], ids=lambda block: block.text
)
def test_what_a_console_shows_is_what_is_printed(block: Block, newcomer: tuple[Path, dict[str, str]]) -> None:
    assert newcomer[1][block.text] == output_shown_in(block)


def test_the_exit_codes_are_those_of_the_help() -> None:
    epilog = str(app.info.epilog)
    in_help = re.findall(r"(\d+) ([^,.]+)", epilog.removeprefix("Exit codes: "))
    in_readme = [(code, meaning.replace("`", "")) for code, meaning, _ in cells_of(table_below("Exit codes"))]
    assert in_readme == in_help
    errors: list[type[GateError]] = [GateError, *GateError.__subclasses__()]
    assert {str(error.exit_code) for error in errors} <= {code for code, _ in in_help}


def test_the_metrics_are_those_of_the_catalogue() -> None:
    names: dict[str, list[str]] = {family: [] for family in catalogue.families()}
    for entry in catalogue.load().values():
        names[entry.family].append(f"`{entry.name}`")
    titles = {family: title.partition(": ")[0] for family, title in catalogue.families().items()}
    rows = [f"| {titles[family]} | {', '.join(some)} |" for family, some in names.items()]
    table = "\n".join(["| About | Metrics |", "|---|---|", *rows])
    assert table_below("Metrics") == table, f"the table should be:\n{table}"


def test_the_reference_of_the_metrics_and_its_command_are_named() -> None:
    section = README.split("## Metrics\n")[1].split("\n## ")[0]
    assert "](docs/metrics.md)" in section
    assert {"`gate metrics`", "`gate metrics effective_rank`"} <= set(re.findall(r"`gate [^`]*`", section))
    assert main(["metrics", "effective_rank"]) == 0


EXIT_CODES = {"gate check models:/digits/2 -p team.yaml": 1}  # of all others it is 0
TABLES = [row for heading in ("Policies", "Probe sets") for row in cells_of(table_below(heading))]
TEAM = [command for row in TABLES for command in re.findall(r"`(gate [^`]*)`", row[1])]


@pytest.mark.parametrize("command", TEAM)
def test_what_a_team_does_with_its_policy_runs(command: str, newcomer: tuple[Path, dict[str, str]]) -> None:
    folder = newcomer[0]
    shutil.copy(folder / "policy.yaml", folder / "old.yaml")
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=folder,
        env=os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///gate-demo/mlflow.db", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_CODES.get(command, 0), done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_policy_of_a_team_makes_stricter_was_looser_in_its_pack() -> None:
    for page in ("README.md", "docs/policy.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        blocks = [yaml for yaml in blocks_of(text) if yaml.text.startswith("# team.yaml\n")]
        (written,) = [rule for rule in yaml_of(blocks[0])["rules"] if rule["id"] == "rank"]
        pack = {rule.id: rule for rule in load_policy("classifier").policy.rules}
        assert written["min"] > (pack["rank"].min or 0)


def test_the_waivers_of_the_examples_last() -> None:
    for page in ("README.md", "docs/policy.md"):
        policies = [yaml_of(block) for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))]
        ends = [waiver["expires"] for policy in policies for waiver in policy.get("waivers", ())]
        assert ends
        assert min(ends) >= date(2027, 12, 31)


def test_the_policy_of_a_team_blocks_the_collapsed_model(newcomer: tuple[Path, dict[str, str]]) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///gate-demo/mlflow.db", "NO_COLOR": "1"}
    arguments = ["check", "models:/digits/2", "-p", "team.yaml", "--no-record"]
    done = subprocess.run(
        [sys.executable, "-m", "gate", *arguments],
        cwd=newcomer[0],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "error[rank (relative)]" in done.stdout
    assert "neighbours[desk=left]" in done.stdout
    assert "waived[collapse]" in done.stdout
    assert "note: the waiver" not in done.stdout


def test_what_is_not_there_yet_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.yaml"
    head = 'apiVersion: gate/v1\nkind: Policy\nmetadata: {name: a, version: "1"}\n'
    policy.write_text(f"{head}rules: [{{id: a, metric: worst_group_accuracy.per_view, min: 0}}]\n", encoding="utf-8")
    assert main(["policy", "validate", str(policy)]) == 2
    assert "cannot give `view_logits`" in capsys.readouterr().err


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]*)\)", README))))
def test_every_link_leads_to_a_file_of_the_project(link: str) -> None:
    assert (ROOT / link.partition("#")[0]).exists()


def test_nothing_leads_out_of_the_project() -> None:
    assert "://" not in re.sub(r"sqlite:///\S+|http://127\.0\.0\.1:", "", README)
    assert not re.search(r"<\w+[^>]*(?:src|href)", README)


def test_the_terminal_picture_shows_the_output_of_the_demo(demo: Demo) -> None:
    content = (ROOT / "docs" / "images" / "terminal.svg").read_text(encoding="utf-8")
    assert re.findall(r"\w+://[^\s\"]*", content) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@font-face|@import|url\((?!#)", content)
    shown = without_space("".join(ET.fromstring(content).itertext()))  # noqa: S314 - our own file
    assert without_space("FAILED models:/digits/2 is blocked: of 13 rules 6 failed.") in shown
    assert "probegate-demo/probe.npz,1000rows" in shown  # no path of a machine
    printed = demo.stdout.split("$ gate check models:/digits/2")[1]
    findings = re.findall(r"^(?:error|warning|pass)(?:\[| +)[\w-]+", printed, flags=re.MULTILINE)
    left_out = re.findall(r"(\d+)morefindings", shown)
    assert len(findings) == 13
    assert sum(without_space(finding) in shown for finding in findings) + int(*left_out) == 13


def test_the_report_picture_is_small_enough_to_load() -> None:
    path = ROOT / "docs" / "images" / "report.png"
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        picture.verify()
        assert picture.size[0] >= 1200
