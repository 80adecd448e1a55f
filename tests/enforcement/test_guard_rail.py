"""`gate+http`: a guard rail in the client, over a server that may or may not be guarded itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.enforcement import servers
from tests.enforcement.servers import Server

CODE = """
import logging, os, sys
logging.disable()
import mlflow
from mlflow.exceptions import MlflowException, RestException
url, name = sys.argv[1:]
mlflow.set_tracking_uri(url)
mlflow.set_registry_uri("gate+" + url)

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return ["said " + each for each in model_input]

with mlflow.start_run():
    mlflow.pyfunc.log_model(name="m", python_model=Model(), registered_model_name=name, pip_requirements=[])
client = mlflow.MlflowClient()
for attempt in (
    lambda: client.set_registered_model_alias(name, "Champion", "1"),
    lambda: client.transition_model_version_stage(name, "1", "Production"),
    lambda: client.set_model_version_tag(name, "1", "deployment.status", "live"),
    lambda: client.set_model_version_tag(name, "1", "gate", "PASS"),
    lambda: client.create_registered_model("prod." + name) and
        client.copy_model_version(f"models:/{name}/1", "prod." + name),
):
    try:
        attempt()
    except MlflowException as error:
        assert "Refused by gate" in str(error), error
        assert not isinstance(error, RestException), "it went over the network"
    else:
        raise SystemExit("nothing was refused")
client.set_registered_model_alias(name, "dev", "1")
client.set_model_version_tag(name, "1", "team", "search")
assert mlflow.pyfunc.load_model(f"models:/{name}@dev").predict(["a"]) == ["said a"]
assert [each.version for each in client.search_model_versions(f"name='{name}'")] == ["1"]
assert client.copy_model_version(f"models:/{name}/1", name + "-copy").version == "1"
prompt = mlflow.genai.register_prompt(name + "-prompt", "Say {{word}}.")
mlflow.genai.set_prompt_alias(name + "-prompt", "champion", 1)
assert mlflow.genai.load_prompt(f"prompts:/{name}-prompt@champion").template == "Say {{word}}."
print("done")
"""


@pytest.mark.parametrize("over", ["plain_server", "sqlite_server"])
def test_a_guard_rail_refuses_in_the_client_and_lets_everything_else_through(
    request: pytest.FixtureRequest, tmp_path: Path, over: str
) -> None:
    server: Server = request.getfixturevalue(over)
    env = servers.environment(GATE_SERVER_POLICY=str(server.place.policy), HOME=os.environ.get("HOME", "/"))
    decided = len(server.decisions())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, server.url, server.name("rail")],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.stdout.endswith("done\n"), done.stderr[-3000:]
    assert len(server.decisions()) - decided >= 5
