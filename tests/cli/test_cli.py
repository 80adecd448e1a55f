"""The command line: quick, silent on stdout, and no exit code that means two things."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import typer
from torch import nn

import gate
from gate.cli import main, outputs
from gate.cli.boundary import describe, evaluating, guarded
from gate.cli.check import _exit_code
from gate.cli.outputs import Output, parse, remove_stale, stdout_has_color, write
from gate.cli.progress import rows_done
from gate.demo import _check
from gate.demo.registering import Registry
from gate.errors import (
    Fault,
    GateError,
    LayerError,
    MetricError,
    ModelError,
    NothingEvaluatedError,
    PolicyError,
    ProbeError,
    RegistryError,
    UsageError,
)
from gate.evidence import bundle, html, text
from gate.models.quiet import quiet_mlflow
from gate.verdict import FailOn

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
rules:
  - {id: rank, metric: effective_rank, min: 3}
"""
SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"
HEAVY = "{'torch', 'mlflow', 'pydantic', 'great_expectations', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)"
LIGHT_ENOUGH = HEAVY.replace("'pydantic', ", "")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
    command = [sys.executable, "-m", "gate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=kept | environment)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def test_help_is_there_in_under_600_milliseconds() -> None:
    walls = []
    for _ in range(3):
        started = time.perf_counter()
        done = run("--help", NO_COLOR="1")
        walls.append(time.perf_counter() - started)
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("check", "demo", "policy", "Exit codes"))
    assert min(walls) < 0.6


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["policy", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = HEAVY if arguments == ["--help"] else LIGHT_ENOUGH  # typer itself reads options with pydantic
    done = python(f"import sys; from gate.cli import main; main({arguments!r}); print('HEAVY', {heavy})")
    assert "HEAVY set()" in done.stdout


def test_importing_gate_imports_nothing_heavy() -> None:
    assert python(f"import sys, gate; print({HEAVY})").stdout == "set()\n"


def test_validating_a_policy_imports_neither_torch_nor_mlflow(policy: Path) -> None:
    code = (
        f"import sys; from gate.cli import main; main(['policy', 'validate', {str(policy)!r}]); print({LIGHT_ENOUGH})"
    )
    assert python(code).stdout.endswith("set()\n")


def test_every_option_of_check_is_in_its_help() -> None:
    done = run("check", "--help", NO_COLOR="1", COLUMNS="200")
    options = "--policy --probe --output --device --record --no-record --fail-on --dry-run --quiet --no-progress"
    assert all(option in done.stdout for option in options.split())


def test_the_version_is_that_of_the_distribution() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"gate {gate.__version__}\n")


def test_the_package_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="module 'gate' has no attribute 'chekc'"):
        gate.chekc  # noqa: B018 - looking is the test
    assert callable(gate.load_policy)
    assert callable(gate.measure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["chekc"], "No such command 'chekc'"),
        (["check"], "Missing argument 'MODEL_URI'"),
        (["check", "models:/a/1"], "Missing option '--policy'"),
        (["check", "models:/a/1", "-p", "p.yaml", "--nope"], "No such option: --nope"),
        (["check", "models:/a/1", "--sign-key", "ci"], "No such option: --sign-key. Did you mean `--signing-key`?"),
        (["check", "models:/a/1", "-p", "p.yaml", "--device", "tpu"], "'tpu' is not one of"),
        (["check", "models:/a/1", "-p", "p.yaml", "--fail-on", "sometimes"], "'sometimes' is not one of"),
        (["check", "models:/a/1", "models:/a/2", "-p", "p.yaml"], "unexpected extra argument"),
        (["check", "models:/a/1", "-p", "p.yaml", "-o", "jsn"], "there is no format 'jsn'. Did you mean `json`?"),
        (["check", "models:/a/1", "-p", "p.yaml", "-o", "pdf"], f"There are: {', '.join(outputs.FORMATS)}."),
        (["check", "models:/a/1", "-p", "p.yaml", "-o", "json", "-o", "text"], "only one format can go to stdout"),
        (["check", "models:/a/1", "-p", "p.yaml", "-o", "json=-", "-o", "html="], "found json and html"),
        (["policy"], "Missing command"),
        (["policy", "validate"], "Missing argument"),
    ],
)
def test_a_usage_error_exits_with_2_and_says_nothing_on_stdout(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[usage]: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_mirrors_the_flags_and_a_flag_goes_first() -> None:
    arguments = ["check", "models:/a/1", "-p", "p.yaml"]
    assert "only one format can go to stdout, found text and json" in run(*arguments, GATE_OUTPUT="text json").stderr
    assert "there is no format 'pdf'" in run(*arguments, "-o", "pdf", GATE_OUTPUT="text json").stderr
    assert "'tpu' is not one of" in run(*arguments, GATE_DEVICE="tpu").stderr
    assert "'x' is not one of" in run(*arguments, GATE_FAIL_ON="x").stderr
    assert "there is no format 'pdf'" in run("check", "models:/a/1", GATE_POLICY="p.yaml", GATE_OUTPUT="pdf").stderr
    assert "Missing option '--policy'" in run("check", "models:/a/1", GATE_POLICY="").stderr
    for name in ("GATE_RECORD", "GATE_DRY_RUN", "GATE_QUIET", "GATE_NO_PROGRESS"):
        assert "should be a valid boolean" in run(*arguments, **{name: "perhaps"}).stderr


def test_a_valid_policy_is_named_on_stdout(policy: Path) -> None:
    done = run("policy", "validate", str(policy))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{policy}: ok, encoder@1.0.0, 1 rule\n", "")


def test_every_fault_of_every_policy_is_listed(policy: Path, tmp_path: Path) -> None:
    typo, other = tmp_path / "typo.yaml", tmp_path / "other.yaml"
    typo.write_text(POLICY.replace("min:", "mni:"), encoding="utf-8")
    other.write_text(POLICY.replace("effective_rank", "efective_rank") + "waviers: []\n", encoding="utf-8")
    done = run("policy", "validate", str(typo), str(policy), str(other))
    assert done.returncode == 2
    assert done.stdout == f"{policy}: ok, encoder@1.0.0, 1 rule\n"
    lines = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{typo}:5:40", f"{other}:5:16", f"{other}:6:1"]
    assert lines[0].endswith("rules.0.mni: there is no key `mni`. Did you mean `min`?")
    assert lines[1].endswith("Did you mean `effective_rank`?")
    assert lines[2].endswith("Did you mean `waivers`?")


def test_a_policy_without_rules_exits_with_5_and_a_fault_of_another_goes_first(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text(POLICY[: POLICY.index("rules")], encoding="utf-8")
    done = run("policy", "validate", str(empty))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error[nothing-evaluated]: ")
    assert run("policy", "validate", str(empty), str(tmp_path / "none.yaml")).returncode == 2


class Failing:
    """A command that ends with what it was given."""

    def __init__(self, failure: BaseException | object) -> None:
        self.failure = failure

    def main(self, args: Sequence[str] | None, prog_name: str, *, standalone_mode: bool) -> object:
        assert (args, prog_name, standalone_mode) == ([], "gate", False)
        if isinstance(self.failure, BaseException):
            raise self.failure
        return self.failure


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (GateError("m"), 3, "error[gate]: m"),
        (RegistryError("m"), 3, "error[registry]: m"),
        (ModelError("m"), 3, "error[model]: m"),
        (LayerError("m"), 3, "error[layer]: m"),
        (ProbeError("m"), 3, "error[probe]: m"),
        (MetricError("m"), 3, "error[metric]: m"),
        (UsageError("m"), 2, "error[usage]: m"),
        (NothingEvaluatedError("m"), 5, "error[nothing-evaluated]: m"),
        (PolicyError((Fault("p.yaml", 3, 5, "m"),)), 2, "p.yaml:3:5: error[policy"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (130, 130, "interrupted"),
    ],
)
def test_an_expected_failure_is_one_line_and_its_own_exit_code(
    failure: object, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(Failing(failure), []) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(line)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "failure",
    [ValueError("m"), RecursionError("m"), EOFError("m"), BrokenPipeError(32, "m"), OSError("m"), MemoryError("m")],
)
def test_a_crash_exits_with_3_and_shows_its_traceback(failure: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(Failing(failure), []) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback (most recent call last)" in printed.err
    assert f"error[crash]: {type(failure).__name__}: " in printed.err.splitlines()[-1]


@pytest.mark.parametrize(
    "failure", [SystemExit(0), SystemExit(1), SystemExit(None), GeneratorExit(), BaseException("m")]
)
def test_a_library_that_leaves_on_its_own_is_no_verdict(failure: BaseException) -> None:
    assert guarded(Failing(failure), []) == 3


@pytest.mark.parametrize(
    "failure",
    [
        *(typer.Exit(code) for code in (0, 1, 130)),
        *(SystemExit(code) for code in (0, 1, None)),
        GeneratorExit(),
        BaseException("m"),
        typer.Abort(),
        typer.BadParameter("m"),
        StopIteration(0),
        EOFError("m"),
        BrokenPipeError(32, "m"),
    ],
)
def test_nothing_that_the_code_of_a_model_raises_reads_as_an_exit_of_ours(
    failure: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def check() -> None:
        with evaluating():
            raise failure

    assert guarded(typer.main.get_command(app), []) == 3
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed
    assert printed.splitlines()[-1].startswith(f"error[crash]: {type(failure).__name__}: ")


def test_an_expected_failure_and_an_interrupt_keep_their_codes_during_an_evaluation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for failure, code in ((ModelError("m"), 3), (UsageError("m"), 2), (KeyboardInterrupt(), 130)):
        with pytest.raises(type(failure)) as raised, evaluating():
            raise failure
        assert guarded(Failing(raised.value), []) == code
    assert "Traceback" not in capsys.readouterr().err


class Leaving(nn.Module):
    """A model that ends the process when it is looked at."""

    leaves = False

    def named_modules(self, *arguments: Any, **options: Any) -> Any:
        if self.leaves:
            raise typer.Exit(0)
        return super().named_modules(*arguments, **options)


def test_a_model_that_exits_with_0_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow.pytorch

    _, policy = vectors(tmp_path)
    np.savez(tmp_path / "probe.npz", x=np.arange(200, dtype=np.float32)[:, None], id=np.arange(200).astype(str))
    with policy.open("a", encoding="utf-8") as file:
        file.write("run: {allow_pickle: true, isolation: none}\n")
    with quiet_mlflow():
        mlflow.pytorch.save_model(
            Leaving(), str(tmp_path / "model"), serialization_format="pickle", pip_requirements=["torch"]
        )
    monkeypatch.setattr(Leaving, "leaves", True)
    assert main(["check", str(tmp_path / "model"), "-p", str(policy), "--probe", str(tmp_path / "probe.yaml")]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nothing was decided" in printed.err


@pytest.mark.parametrize("failure", [GateError, UsageError, typer.BadParameter, ValueError])
def test_names_in_a_message_cannot_write_to_the_terminal(
    failure: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(Failing(failure("model '\x1b[2J\x9b1A\r\nPASSED'")), []) in (2, 3)
    printed = capsys.readouterr().err
    assert all(char.isprintable() or char == "\n" for char in printed)
    assert r"model '\x1b[2J\x9b1A\r\nPASSED'" in printed.splitlines()[-1]


def test_the_name_of_a_report_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri, policy = vectors(tmp_path)
    output = f"json={tmp_path}/\x1b[2J.json"
    assert main(["check", uri, "-p", str(policy), "--probe", str(tmp_path / "probe.yaml"), "-o", output]) == 0
    assert capsys.readouterr().err.splitlines()[0] == rf"wrote {tmp_path}/\x1b[2J.json"


def test_every_fault_of_a_policy_keeps_its_line_and_none_writes_to_the_terminal() -> None:
    faults = (Fault("a\x1bc.yaml", 1, 2, "first\nerror[policy]: forged"), Fault("p.yaml", 3, 4, "second"))
    assert describe(PolicyError(faults)).splitlines() == [
        r"a\x1bc.yaml:1:2: error[policy]: first\nerror[policy]: forged",
        "p.yaml:3:4: error[policy]: second",
    ]


def test_a_quiet_demo_asks_its_checks_to_be_quiet(tmp_path: Path) -> None:
    said: list[str] = []
    assert _check("no/such/folder", tmp_path / "none", Registry(tmp_path), ["--quiet"], said.append) != 0
    assert said[0].splitlines()[0].endswith("--quiet")


@pytest.mark.parametrize(("result", "code"), [(0, 0), (1, 1), (4, 4), (None, 0)])
def test_a_verdict_passes_through(result: int | None, code: int) -> None:
    assert guarded(Failing(result), []) == code


def test_the_kind_of_an_error_is_in_its_line() -> None:
    assert describe(NothingEvaluatedError("m")) == "error[nothing-evaluated]: m"


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    pipe = tmp_path / "policy.yaml"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "gate", "policy", "validate", str(pipe)], stderr=subprocess.PIPE, text=True
    )
    writer = pipe.open("w")  # returns when the command has begun to read
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    writer.close()
    assert process.returncode == 130
    assert errors == "interrupted\n"


def test_text_on_stdout_is_what_one_gets_without_asking() -> None:
    assert parse([]) == (Output("text", None),)
    assert parse(["json=a.json", "text", "html=b=c.html"]) == (
        Output("json", Path("a.json")),
        Output("text", None),
        Output("html", Path("b=c.html")),
    )


def test_two_formats_cannot_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two formats go to the same file"):
        parse([f"json={tmp_path}/a", f"text={tmp_path}/x/../a"])
    with pytest.raises(UsageError, match="is a folder, expected the name of a file"):
        parse([f"json={tmp_path}"])


def test_no_old_report_outlives_a_run_without_a_verdict(tmp_path: Path) -> None:
    requests = earlier_reports(tmp_path)
    assert main(["check", "models:/a/1", "-p", str(tmp_path / "none.yaml"), *requests]) == 2
    assert not list(tmp_path.glob("e.*"))


def earlier_reports(folder: Path) -> list[str]:
    """The options that write the reports e.json, e.html and e.text, which are there already."""
    document = bundle.load(SAMPLES / "passed.json")
    requests = [f"{name}={folder / 'e'}.{name}" for name in ("json", "html", "text")]
    write(parse(requests), document)
    return [part for request in requests for part in ("-o", request)]


def test_an_old_report_does_not_outlive_a_wrong_output_beside_it(tmp_path: Path, policy: Path) -> None:
    requests = earlier_reports(tmp_path)
    assert main(["check", "models:/a/1", "-p", str(policy), "-o", f"text={policy}", *requests]) == 2
    assert not list(tmp_path.glob("e.*"))
    assert policy.read_text(encoding="utf-8") == POLICY


def test_an_old_report_behind_a_link_goes_and_the_link_stays(tmp_path: Path) -> None:
    earlier_reports(tmp_path)
    (tmp_path / "latest").symlink_to("e.json")
    remove_stale(parse([f"json={tmp_path}/latest"]), inputs=[], model_uri="models:/a/1")
    assert not (tmp_path / "e.json").exists()
    assert (tmp_path / "latest").is_symlink()
    write(parse([f"json={tmp_path}/latest"]), bundle.load(SAMPLES / "sample.json"))
    assert bundle.load(tmp_path / "e.json")["status"] == "failed"


def test_an_input_is_never_overwritten(policy: Path) -> None:
    with pytest.raises(UsageError, match="is an input of this command"):
        remove_stale(parse([f"text={policy}"]), inputs=[policy], model_uri="models:/a/1")
    assert policy.exists()


def vectors(folder: Path, bound: str = "min: 1") -> tuple[str, Path]:
    """A model URI of precomputed vectors, and a policy with a probe spec for them."""
    rng = np.random.default_rng(0)
    np.save(folder / "vectors.npy", rng.normal(size=(200, 6)).astype(np.float32))
    np.savez(folder / "probe.npz", x=np.zeros((200, 1), dtype=np.float32), id=np.arange(200).astype(str))
    spec = f"uri: {folder}/probe.npz\ncolumns: {{input: x, id: id}}\n"
    (folder / "probe.yaml").write_text(spec, encoding="utf-8")
    (folder / "policy.yaml").write_text(POLICY.replace("min: 3", bound), encoding="utf-8")
    return f"features:{folder}/vectors.npy", folder / "policy.yaml"


@pytest.mark.parametrize("file", ["vectors.npy", "probe.npz", "probe.yaml", "policy.yaml", "linked.yaml"])
@pytest.mark.parametrize("format_", ["json", "html", "text"])
def test_a_file_that_the_gate_did_not_write_is_neither_removed_nor_overwritten(
    tmp_path: Path, file: str, format_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, policy = vectors(tmp_path)
    (tmp_path / "linked.yaml").hardlink_to(policy)
    before = (tmp_path / file).read_bytes()
    output = f"{format_}={tmp_path / file}"
    assert main(["check", uri, "-p", str(policy), "--probe", str(tmp_path / "probe.yaml"), "-o", output]) == 2
    assert (tmp_path / file).read_bytes() == before
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error[usage]: '{tmp_path / file}' is ")
    assert "name another file" in printed.err


def test_an_empty_file_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "made.json").touch()
    write(parse([f"json={tmp_path}/made.json"]), bundle.load(SAMPLES / "sample.json"))
    assert bundle.load(tmp_path / "made.json")["status"] == "failed"


def test_a_file_that_is_there_only_after_the_evaluation_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"is no json report of the gate, it begins with '\{\}'; name another file"):
        write(parse([f"json={tmp_path}/e.json"]), bundle.load(SAMPLES / "sample.json"))
    assert (tmp_path / "e.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("name", ["MLmodel", "data/new.json", "old.json"])
def test_nothing_is_written_or_removed_in_the_folder_of_a_model(
    tmp_path: Path, policy: Path, scheme: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    write(parse([f"json={folder}/old.json"]), bundle.load(SAMPLES / "passed.json"))
    uri = folder.as_uri() if scheme else str(folder)
    assert main(["check", uri, "-p", str(policy), "-o", f"json={folder / name}"]) == 2
    assert "lies in the folder of the model, which is only read" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["MLmodel", "old.json"]


def test_a_report_is_written_over_the_report_of_the_check_before(tmp_path: Path) -> None:
    requests = earlier_reports(tmp_path)
    uri, policy = vectors(tmp_path)
    assert main(["check", uri, "-p", str(policy), "--probe", str(tmp_path / "probe.yaml"), *requests]) == 0
    document = bundle.load(tmp_path / "e.json")
    assert document["model"]["uri"] == uri
    assert (tmp_path / "e.html").read_text(encoding="utf-8").rstrip("\n") == html.render(document).rstrip("\n")
    assert (tmp_path / "e.text").read_text(encoding="utf-8") == text.render(document)


@pytest.mark.parametrize(
    ("flags", "environment", "cause"),
    [
        (["--dry-run"], {}, "--dry-run"),
        ([], {"GATE_DRY_RUN": "1"}, "--dry-run"),
        (["--fail-on", "never"], {}, "--fail-on never"),
        ([], {"GATE_FAIL_ON": "error"}, "--fail-on error"),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_a_failing_verdict_that_does_not_set_the_exit_code_is_told_on_stderr(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    environment: dict[str, str],
    cause: str,
    quiet: bool,
) -> None:
    uri, policy = vectors(tmp_path, bound="min: 50")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options = [*flags, *(["-q"] if quiet else [])]
    assert main(["check", uri, "-p", str(policy), "--probe", str(tmp_path / "probe.yaml"), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("FAILED  ")
    assert printed.err == f"the verdict is failed; with {cause} it does not set the exit code\n"


def test_an_option_undoes_the_dry_run_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, policy = vectors(tmp_path, bound="min: 50")
    monkeypatch.setenv("GATE_DRY_RUN", "1")
    arguments = ["check", uri, "-p", str(policy), "--probe", str(tmp_path / "probe.yaml"), "-q"]
    assert [main(arguments), main([*arguments, "--no-dry-run"])] == [0, 1]


def test_a_verdict_that_sets_the_exit_code_is_told_by_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bound, flags, code in (("min: 50", [], 1), ("min: 1", ["--dry-run"], 0)):
        uri, policy = vectors(tmp_path, bound=bound)
        assert main(["check", uri, "-p", str(policy), "--probe", str(tmp_path / "probe.yaml"), *flags]) == code
        assert capsys.readouterr().err == ""


def test_every_format_is_written_from_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = bundle.load(SAMPLES / "sample.json")
    requests = [f"json={tmp_path}/made/e.json", f"html={tmp_path}/e.html", f"text={tmp_path}/e.txt", "text"]
    write(parse(requests), document)
    assert bundle.load(tmp_path / "made" / "e.json") == document
    assert (tmp_path / "e.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert capsys.readouterr().out == (tmp_path / "e.txt").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(GateError, match="cannot be written"):
        write(parse([f"json={tmp_path}/file/e.json"]), bundle.load(SAMPLES / "sample.json"))


def without_a_reader(code: str) -> tuple[int, str]:
    """Exit code and stderr of a program that begins when nobody reads its stdout any more."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate("go\n", timeout=60)
    return process.returncode, errors


def test_a_reader_that_has_gone_takes_nothing_from_the_verdict() -> None:
    code = (
        "import sys; from pathlib import Path; from gate.cli.outputs import parse, write\n"
        "from gate.evidence import bundle; sys.stdin.readline()\n"
        f"write(parse(['json']), bundle.load(Path({str(SAMPLES / 'sample.json')!r}))); sys.exit(4)"
    )
    assert without_a_reader(code) == (4, "")


@pytest.mark.parametrize("command", ["--help", "check --help", "policy diff -h"])
def test_a_reader_of_help_that_has_gone_is_no_crash(command: str) -> None:
    code = f"import sys; from gate.cli import main; sys.stdin.readline(); sys.exit(main({command.split()}))"
    assert without_a_reader(code) == (0, "")


def test_another_broken_pipe_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    failure = SystemExit(1)
    failure.__context__ = BrokenPipeError(32, "m")
    assert guarded(Failing(failure), []) == 3
    assert "error[crash]: SystemExit: 1" in capsys.readouterr().err


@pytest.mark.parametrize("fail_on", get_args(FailOn))
def test_the_exit_code_of_a_document_is_that_of_its_verdict(fail_on: FailOn) -> None:
    failed, error = (bundle.load(SAMPLES / name) for name in ("sample.json", "error.json"))
    assert (failed["status"], error["status"]) == ("failed", "error")
    assert _exit_code(failed, fail_on) == (0 if fail_on in ("never", "error") else 1)
    assert _exit_code(error, fail_on) == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"NO_COLOR": "1"}, False),
    ],
)
def test_the_environment_decides_on_colours(
    environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert stdout_has_color() is expected


def test_progress_is_shown_at_a_terminal_only() -> None:
    with rows_done("models:/a/1", shown=True) as update:
        assert update is None
    code = (
        "from gate.cli.progress import rows_done\n"
        "with rows_done('models:/[a]/1\\x1b[2J', shown=True) as update:\n"
        "    update(1024, 8192)\n"
        "    update(4096, 8192)\n"
        "with rows_done('x', shown=False) as update:\n"
        "    assert update is None\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stderr=theirs,
        stdout=subprocess.PIPE,
        check=False,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    assert (done.returncode, done.stdout) == (0, b"")
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert r"models:/[a]/1\x1b[2J" in shown
    assert "4,096 of 8,192 rows" in shown
    assert "/s" in shown
    assert "left:" in shown
