"""Models that mean harm: each is refused or contained, the gate exits 3 and says why, and nothing passes."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gate.cli import main
from gate.models.quiet import quiet_mlflow

SECRET = "0123456789 the signing key 0123456789"  # noqa: S105 - of nobody
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {{name: any, version: "1"}}
run: {{{run}}}
probe: {{uri: {probe}, columns: {{input: x}}}}
rules: [{{id: rank, metric: effective_rank, min: 0}}]
"""
CODE = "allow_code: true, timeout: 60s"
PICKLE = "allow_pickle: true, timeout: 60s"


@dataclass(frozen=True)
class Place:
    """Where a hostile model lies, and what it is after.

    Attributes:
        model: Its folder.
        canary: A file that it would like to write.
        key: A file that it would like to read.
    """

    model: Path
    canary: Path
    key: Path

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.model / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def mlmodel(self, **flavours: Any) -> None:
        self.write("MLmodel", json.dumps({"flavors": flavours}))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    np.savez(tmp_path / "probe.npz", x=rows)
    found = Place(tmp_path / "model", tmp_path / "canary", tmp_path / "keys" / "signing.pem")
    found.model.mkdir()
    found.key.parent.mkdir()
    found.key.write_text(SECRET)
    monkeypatch.setenv("GATE_SECRET", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return found


# Pickles, code folders, loaders.


class Runs:
    """Whoever unpickles this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def pickled(place: Place) -> None:
    generic = {"loader_module": "mlflow.pytorch", "data": "data"}
    place.mlmodel(pytorch={"model_data": "data", "pytorch_version": torch.__version__}, python_function=generic)
    place.write("data/pickle_module_info.txt", "pickle")
    torch.save(Runs(f"touch {place.canary}"), place.model / "data" / "model.pth")


def served_otherwise(place: Place) -> None:
    """An exported program to be judged, and a pickle that MLflow serves."""
    exported(place)
    generic = {"loader_module": "mlflow.sklearn", "model_path": "other/model.dat", "python_version": "3.11.0"}
    place.mlmodel(pytorch={"model_data": "data"}, python_function=generic)
    place.write("other/model.dat", pickle.dumps(Runs(f"touch {place.canary}")))


def foreign_loader(place: Place) -> None:
    place.write("evil.py", f"open({str(place.canary)!r}, 'w')")
    place.mlmodel(python_function={"loader_module": "evil", "code": "."})


def shadowing(place: Place) -> None:
    """A folder of code with a module that a library imports late."""
    exported(place)
    place.write("code/mpmath.py", f"open({str(place.canary)!r}, 'w')")
    place.write("code/sympy.py", f"open({str(place.canary)!r}, 'w')")


def exported(place: Place, module: nn.Module | None = None) -> None:
    place.mlmodel(pytorch={"model_data": "data"}, python_function={"loader_module": "mlflow.pytorch", "data": "data"})
    (place.model / "data").mkdir(exist_ok=True)
    rows = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(module or nn.Linear(4, 3), (torch.ones(2, 4),), dynamic_shapes=rows)
    torch.export.save(program, place.model / "data" / "model.pt2")


def read_otherwise(place: Place) -> None:
    """`0o0` is a zero in YAML 1.2, and the name of a folder in YAML 1.1."""
    place.write("0o0/xgboost/core.py", f"open({str(place.canary)!r}, 'w')")
    place.write("0o0/xgboost/__init__.py", "from .core import *")
    place.write("m.json", "{}")
    place.write(
        "MLmodel",
        "flavors:\n  xgboost: {data: m.json, model_class: xgboost.core.Booster}\n"
        "  python_function: {loader_module: mlflow.xgboost, python_version: 3.11.0, code: 0o0}\n",
    )


def disguised(place: Place) -> None:
    """A pickle that the loader of a library reads."""
    flavour = {"data": "model.skl", "model_class": "lightgbm.sklearn.LGBMClassifier"}
    place.mlmodel(lightgbm=flavour, python_function={"loader_module": "mlflow.lightgbm", "python_version": "3.11.0"})
    with (place.model / "model.skl").open("wb") as file:
        pickle.dump(Runs(f"touch {place.canary}"), file)


def remote_code(place: Place) -> None:
    flavour = {"model_binary": "model", "pipeline_model_type": "BertModel", "task": "feature-extraction"}
    place.mlmodel(transformers=flavour, python_function={"loader_module": "mlflow.transformers"})
    place.write("model/config.json", json.dumps({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "bert"}))
    place.write("model/evil.py", f"open({str(place.canary)!r}, 'w')")
    place.write("model/model.safetensors", b"")


def foreign_module(place: Place) -> None:
    place.mlmodel(sentence_transformers={}, python_function={"data": "model.sentence_transformer"})
    folder = "model.sentence_transformer"
    place.write(f"{folder}/modules.json", json.dumps([{"idx": 0, "path": "", "type": "subprocess.Popen"}]))
    place.write(f"{folder}/model.safetensors", b"")


# Files that lie.


def zip_slip(place: Place) -> None:
    exported(place)
    with zipfile.ZipFile(place.model / "data" / "model.pt2", "a") as archive:
        archive.writestr(f"../../{place.canary.name}", b"canary")


def linked(place: Place) -> None:
    exported(place)
    (place.model / "data" / "extra").symlink_to(place.key)


def huge_tensor(place: Place) -> None:
    flavour = {"model_binary": "model", "pipeline_model_type": "BertModel", "task": "feature-extraction"}
    place.mlmodel(transformers=flavour, python_function={"loader_module": "mlflow.transformers"})
    place.write("model/config.json", json.dumps({"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 16}))
    size = 100 << 30
    header = json.dumps({"weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    place.write("model/model.safetensors", struct.pack("<Q", len(header)) + header + b"\0" * 64)


def outside_tensors(place: Place) -> None:
    import onnx

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4, 3], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=f"../{place.key.parent.name}/{place.key.name}")
    value = onnx.helper.make_tensor_value_info
    ends = ([value("x", 1, ["n", 4])], [value("y", 1, ["n", 3])])
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", *ends, [tensor])
    onnx_model = onnx.helper.make_model(graph)
    place.mlmodel(onnx={"data": "model.onnx"}, python_function={"loader_module": "mlflow.onnx", "data": "model.onnx"})
    place.write("model.onnx", onnx_model.SerializeToString())


def not_numbers(place: Place) -> None:
    broken = nn.Linear(4, 3)
    nn.init.constant_(broken.weight, torch.nan)
    exported(place, broken)


# Code that the policy lets run.


def from_code(body: str) -> Callable[[Place], None]:
    """A model from code, which does something whenever it predicts."""

    def make(place: Place) -> None:
        lines = body.format(canary=str(place.canary), key=str(place.key), home=str(place.key.parent.parent))
        predict = "\n".join(f"        {line}" for line in lines.strip().splitlines())
        place.write(
            "model.py",
            "import os, sys, mlflow, numpy as np\n\n\nclass Evil(mlflow.pyfunc.PythonModel):\n"
            f"    def predict(self, context, model_input, params=None):\n{predict}\n"
            "        return np.asarray(model_input)\n\n\nmlflow.models.set_model(Evil())\n",
        )
        loader = {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "model.py"}
        place.mlmodel(python_function={**loader, "python_version": "3.11.0"})

    return make


ENDLESS = "while True: pass"
READS_KEY = "raise RuntimeError('I have ' + open({key!r}).read())"
READS_SECRETS = "raise RuntimeError('I have ' + str(dict(os.environ)))"
READS_JUDGE = "raise RuntimeError('I have ' + open(f'/proc/{{os.getppid()}}/environ').read())"
CONNECTS = "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=5)"
WRITES = "open({canary!r}, 'w').write('canary')"
CALLS = "import subprocess\nsubprocess.run(['touch', {canary!r}], check=True)"
FILLS = "for part in range(40): open(f'part{{part}}', 'wb').write(b'x' * (256 << 20))"
FORGES = (
    "from gate.features import Extractor\n"
    "facts = {{'batch_size': 1, 'digest': 'sha256:0', 'trust': 'code-free', 'resolved': 'models:/good/1'}}\n"
    "Extractor.facts = property(lambda _: facts)"
)
FORKS = "while True: os.fork()"
HOARDS = "kept = [bytearray(1 << 30) for _ in range(200)]"
PRINTS = "while True: print('x' * 65536)"
CRASHES = "import ctypes\nctypes.string_at(0)"
LEAVES = "os._exit(0)"
KILLS = "import signal\nos.kill(os.getppid(), signal.SIGKILL)"
CHANGES = "open(os.path.join(os.path.dirname(os.path.abspath({canary!r})), 'model', 'MLmodel'), 'a').write('#')"


@dataclass(frozen=True)
class Case:
    """A hostile model, what the policy lets it do, and what the gate says."""

    make: Callable[[Place], None]
    says: str
    run: str = ""


CASES = {
    "a pickle": Case(pickled, r"loading a pickle runs whatever code it holds"),
    "a pickle that is allowed": Case(pickled, r"the pickle holds 'int'|the pickled model cannot be loaded", PICKLE),
    "another model for whoever serves it": Case(served_otherwise, "MLflow would serve another model than is judged"),
    "a loader of its own": Case(foreign_loader, "loader_module is 'evil', a loader that the gate does not know"),
    "a loader of its own that nothing allows": Case(
        foreign_loader, "loader_module is 'evil'", f"{PICKLE}, {CODE[:16]}"
    ),
    "a folder of code that YAML hides": Case(read_otherwise, "brings code|see different flavours"),
    "a pickle of a library": Case(disguised, "loading a pickle runs whatever code it holds"),
    "a module that shadows another": Case(shadowing, "brings a folder 'code'"),
    "code of a hub": Case(remote_code, "names code of its own by auto_map"),
    "code of a hub that nothing allows": Case(remote_code, "names code of its own by auto_map", CODE),
    "a module of another package": Case(foreign_module, r"lists the modules \['subprocess.Popen'\]"),
    "a path out of the archive": Case(zip_slip, "a path out of it"),
    "a link to the key": Case(linked, "a symbolic link inside a model"),
    "a tensor of 100 GB": Case(huge_tensor, "the model of transformers cannot be loaded here"),
    "tensors in a file outside": Case(outside_tensors, "outside of the model folder"),
    "weights that are no numbers": Case(not_numbers, "64 of 64 feature rows hold NaN"),
    "a model from code": Case(from_code(WRITES), r"the model brings .*write `run: \{allow_code: true\}`"),
    "code that writes": Case(from_code(WRITES), "PermissionError", CODE),
    "code that fills the disk": Case(from_code(FILLS), "to its folder, of the", CODE),
    "code that starts a program": Case(from_code(CALLS), "PermissionError|BlockingIOError", CODE),
    "a fork bomb": Case(from_code(FORKS), "PermissionError|BlockingIOError", CODE),
    "code that reads the key": Case(from_code(READS_KEY), "PermissionError|FileNotFoundError", CODE),
    "code that reads the environment": Case(from_code(READS_SECRETS), "I have", CODE),
    "code that reads that of the judge": Case(from_code(READS_JUDGE), "Error", CODE),
    "code that opens a connection": Case(from_code(CONNECTS), "PermissionError|OSError|ConnectionRefused", CODE),
    "code that never ends": Case(from_code(ENDLESS), "seconds", "allow_code: true, timeout: 15s"),
    "code that takes all memory": Case(from_code(HOARDS), "memory|Memory", f"{CODE}, memory: 3GB"),
    "code that prints without end": Case(from_code(PRINTS), "printed", CODE),
    "code that crashes": Case(from_code(CRASHES), "SIGSEGV|signal 11", CODE),
    "code that leaves": Case(from_code(LEAVES), "ended", CODE),
    "code that kills": Case(from_code(KILLS), "PermissionError|ProcessLookupError", CODE),
    "code that changes the model": Case(from_code(CHANGES), "PermissionError", CODE),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_model_is_refused_or_contained(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    case = CASES[name]
    case.make(place)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(run=case.run, probe=tmp_path / "probe.npz"))
    before = {path: path.stat().st_mtime_ns for path in place.model.rglob("*")}
    code = main(["check", str(place.model), "-p", str(policy), "-o", f"json={tmp_path / 'out.json'}"])
    printed = capfd.readouterr()
    assert code == 3, printed
    assert re.search(case.says, printed.err), printed.err
    assert SECRET not in printed.out + printed.err
    assert not place.canary.exists()
    assert not (tmp_path / "out.json").exists()
    assert {path: path.stat().st_mtime_ns for path in place.model.rglob("*")} == before


@pytest.mark.filterwarnings("ignore::UserWarning")  # of MLflow, about type hints of the model
def test_the_same_code_does_harm_where_nothing_keeps_it(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """So that the tests above would fail if nothing were contained."""
    from_code(WRITES)(place)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(run=f"{CODE}, isolation: none", probe=tmp_path / "probe.npz"))
    assert main(["check", str(place.model), "-p", str(policy)]) == 0
    assert place.canary.exists()
    printed = capfd.readouterr().out
    assert "ran in the process of the gate" in printed
    assert "runs Python files of its own" in printed


def test_a_registered_model_that_is_contained_is_not_recorded_as_passed(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    from_code(WRITES)(place)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(run=CODE, probe=tmp_path / "probe.npz"))
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        with quiet_mlflow():
            client = mlflow.MlflowClient()
            client.create_registered_model("evil")
            version = client.create_model_version("evil", place.model.as_uri()).version
        assert main(["check", f"models:/evil/{version}", "-p", str(policy), "--record"]) == 3
        with quiet_mlflow():
            assert client.get_model_version("evil", version).tags == {}
            assert client.search_runs([each.experiment_id for each in client.search_experiments()]) == []
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]
    assert "PermissionError" in capfd.readouterr().err
    assert not place.canary.exists()


def test_what_a_model_says_of_itself_is_not_believed(place: Place, tmp_path: Path) -> None:
    from_code(FORGES)(place)
    policy, document = tmp_path / "policy.yaml", tmp_path / "out.json"
    policy.write_text(POLICY.format(run=CODE, probe=tmp_path / "probe.npz"))
    assert main(["check", str(place.model), "-p", str(policy), "-o", f"json={document}"]) == 0
    model = json.loads(document.read_text())["model"]
    assert (model["resolved"], model["trust"], model["batch_size"]) == (str(place.model), "code", 1)
    assert model["digest"] != "sha256:0"
    assert model["isolation"]["mode"] == "process"
