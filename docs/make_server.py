# ruff: noqa: INP001, E501 - a script beside the page that it makes; rows of its tables cannot be wrapped
"""The page on a registry that enforces: `python -m docs.make_server` writes `server.md`.

The text of the tables is that of the code: the docstring below every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docs.make_metrics import escaped
from docs.make_policy import described, keys
from gate.policy import json_schema
from gate.server_policy import PolicyInForce, Protected, ServerPolicy

if TYPE_CHECKING:
    from gate.policy.kinds import Keys

PAGE = Path(__file__).with_name("server.md")
BLOCKS: dict[str, type[Keys]] = {"policies[]": PolicyInForce, "protected": Protected}  # where it stands → its keys

HEAD = """\
# A registry that enforces

A verdict that one click can step around is a report. Two plugins for MLflow's server make it a decision: the registry store
`gate+SCHEME` refuses every way by which a version without evidence could get a protected alias, stage, tag or name, and the
artifact store `gate+SCHEME` keeps the files of a version that has a signed statement from being written. They hold for every
client, for the buttons of the UI, and for administrators.

## In five steps

1. **Keys.** `gate keys new ci` writes `ci`, which signs, and `ci.pub`, which verifies. The first belongs to the job that runs
   `gate check` and to nobody else; the server gets the second.
2. **A server policy** beside the server. Policies are the files that CI checks with, byte by byte:

   ```yaml
   # server.yaml
   apiVersion: gate/v1
   kind: ServerPolicy
   keys: [keys]                        # a folder of .pub files; several keys count at once
   policies:
     - {file: text-encoder.yaml}       # its scope says for which models, and at which aliases it blocks
   protected:
     names: [prod.]                    # models that take nothing but copies of versions with evidence
   audit: audit.jsonl
   max_age: 90d
   ```

3. **The server**, with gate installed beside MLflow. Only it may hold the passwords of the database and of the bucket:

   ```bash
   export GATE_SERVER_POLICY=/etc/gate/server.yaml
   mlflow server --backend-store-uri postgresql+psycopg2://… \\
     --registry-store-uri gate+postgresql+psycopg2://… --artifacts-destination gate+s3://bucket/mlflow
   ```

   `gate+sqlite`, `gate+postgresql`, `gate+mysql`, `gate+mssql`, each also with its driver, as in `gate+postgresql+psycopg2`; `gate+file`,
   `gate+s3`, `gate+gs`, `gate+wasbs`. `--app-name basic-auth` works with it, and `--enable-workspaces` with
   `--workspace-store-uri gate+postgresql+psycopg2://…` beside it.
4. **CI** checks and signs, with `MLFLOW_TRACKING_URI` set to the server:
   `gate check models:/text-encoder/41 -p text-encoder.yaml --signing-key ci`.
5. **See that it holds**: `gate doctor --server-policy server.yaml`.

Whoever promotes does it as before: in the UI, with a client, or with `gate promote models:/text-encoder/41 champion
--public-key ci.pub`, which reads all files once more. A version without evidence is answered with 403 and a sentence:

> Refused by gate: alias 'champion' of models:/text-encoder/41: the verdict of policy 'text-encoder' is FAILED; run: gate explain 903b8e0a

## An existing registry

The server decides about what is promoted from its start on; what was promoted before, or past it in the database, stays where it
is. `gate doctor --server-policy server.yaml` puts every version that has a protected alias, stage, tag or name through the same
decision, in all workspaces that the login sees, and names those that would be refused today, and why. For each of them:

- check and sign it: `gate check models:/text-encoder/41 -p text-encoder.yaml --signing-key ci`;
- or take the promotion back: remove the alias or the tag, archive the version.

Files that do not go through the server (their location does not begin with `mlflow-artifacts:/`) cannot be frozen, and no
statement on them is taken. Register such a model anew through the server, check it there, and move the alias; or write
`artifacts: anywhere` in the server policy, and see yourself that nobody changes them.

## What is refused

| What is asked for | What the server does |
|---|---|
| a protected alias, stage or tag, spelled in any case, width or accent | needs a passing statement of **every** policy in force for the model and the alias |
| an alias that is not protected | lets it pass |
| tags `gate` and `gate.*` | writes them itself when it takes a signed statement; any other write or removal is refused |
| a statement that is older than the one there, of another version, of a version registered anew, or signed by an unknown key | refuses it |
| deleting a workspace | refused while there are registered models in it |
| copying a version | drops promotions and what the gate wrote: the copy needs evidence of its own (`gate promote … --copy-to`) |
| registering under a protected name | takes copies of versions with evidence, nothing else |
| renaming a model | refused into a protected name, and where a promotion or evidence would go with it |
| writing, replacing or deleting files of a version with a statement, or of a folder above or below | refused; the version is frozen from its first statement on |
| a presigned upload URL, and one for a part of a file in Azure | refused always: it would write past the server |
| files of the server's machine outside of its artifact store, as an experiment or a trace at `file:` names them | writes and removes none but below `--default-artifact-root`, and no archive of traces; clients on the same machine write to `file:` by themselves |
| writing through a location that a client and its bucket may read in different ways, such as `gs://b%75cket/…` | refused |
| a statement on files outside of the server's store, or at a path with an escape, a way up, or anything but letters, digits, inner blanks and `-_.,=+@&()!~'$` | refused: they could be others than those that are read |
| prompts | are not touched |

A check first freezes the files with a statement that nothing is decided, then reads them once more, and only then signs the
verdict. A check that is killed leaves a version that reads as ERROR. The tag `gate` of a check by a policy that this server does
not know begins with `not in force:`, whatever its verdict: it opens nothing.

**It fails closed.** Without the server policy, its keys, its policies or the audit log the server does not start; where the
package is missing, MLflow knows no scheme `gate+…` and refuses every call to the registry; where a new MLflow can change a
registry in a way that gate does not know, the server does not start either, and says which. Nor does it start with its database,
server policy, keys or audit log in the artifact store, with a folder as its backend store, or where MLflow's jobs would run what
a user sends: with `MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS`, or where the package `gepa` is installed and
`MLFLOW_SERVER_ENABLE_JOB_EXECUTION` is not `false`.

Tags `gate`, `gate.run` and `gate.policy`, and the first line of a version's description, are for people: no decision reads
them, and anybody may write the description. What counts is the signed statement in a tag of its own.

## The audit log

Every decision, allowed or refused, is one line of JSON, on the disk before the answer: time, who, what, model, verdict, reason.
Each line names the SHA-256 of the one before it, as `after`, so `gate doctor` sees what was changed, inserted or taken out before
the last line. Lines cut off the end, a last line that was changed and hashes that were all computed anew show only against a
copy: ship the file elsewhere as it grows, and hold the number and the SHA-256 of the last line that `gate doctor` prints against
what you have there. A last line that was torn when the power went stays as it is, and the entry after it (`recovered`) names its
SHA-256. The processes of a server on one machine share the file, and so must those of several machines.

## What it does not hold against

- Whoever has the password of the database or of the bucket, or root on the server. `gate verify` where the model is deployed
  sees that: it holds the statement, the registry and every file against each other, offline, without MLflow.
- Whoever has the signing key. Keep it where the model that is checked cannot read it (`isolation: process` does), and
  change it by adding a second `.pub` file, signing with the new key, and taking the old file out.
- Clients that name another URI: `MLFLOW_REGISTRY_URI=gate+https://server` lets a client refuse by itself what a server
  would. It is a **guard rail** for honest mistakes and nothing more: enforcement is on the server.
- Runs and their reports are for reading: whoever can write artifacts can replace them. `gate report` and `gate explain` refuse
  evidence that is not what was signed for its run; what counts is the statement on the version.
- MLflow's soft deletion of a logged model is not refused: its page goes, while the version, its aliases and its files stay, and
  the server refuses `mlflow gc` to remove those. Where the folder of an experiment lies on the same machine (`file:`), gc does
  not ask the server.
- A folder of artifacts on a file system that takes `MLmodel` and `mlmodel` for one file, as those of macOS and Windows do: keep
  it on another, or in a bucket.
- A webhook comes too late to block anything. [The relay](relay.md) sees to it that every version is checked.
- Other schemes and names for the bucket of the artifact store: leave `MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES` unset, and
  make no access point for it that the server's login may use.
- MLflow's Assistant can run commands on the host of a server, for whoever reaches it from there: set no
  `MLFLOW_ENABLE_REMOTE_ASSISTANT`, and let a proxy on the same host send `X-Forwarded-For`.
- Policies are read when the server starts: start it again after a change.

## Keys of a server policy
"""


def page() -> str:
    """The page."""
    schema = json_schema.tidied(ServerPolicy.model_json_schema(by_alias=True))
    parts = [HEAD, keys(ServerPolicy, schema, "")]
    for place, model in BLOCKS.items():
        parts += [
            f"### `{place}`\n",
            f"{escaped(described(model))}\n",
            keys(model, schema["$defs"][model.__name__], place),
        ]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
