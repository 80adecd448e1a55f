"""Signing what is recorded of a version: first that nothing is decided, then the verdict on files that stay.

A guarded server freezes the files of a version when it takes the first statement. Only then are they read once more and
held against those that were judged, so that a statement which passes is about the files that stay.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gate.attestation.deciding import CLOCKS, issued
from gate.attestation.envelope import sealed
from gate.attestation.issuing import issue
from gate.attestation.names import NOT_IN_FORCE, statement_key
from gate.attestation.statement import Version
from gate.errors import ModelError, VerificationError
from gate.mlflow_plugin.tags import recorded, short
from gate.models.digest import digest_of_names, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_UNDER_WAY = "the check is being recorded"
_TICK = timedelta(microseconds=1)


class Signer:
    """The statements of one recording.

    Args:
        document: The evidence, of a registered version.
        key: That signs.

    Attributes:
        envelope: The statement that was signed last, None before the first.
    """

    def __init__(self, document: Mapping[str, Any], key: Ed25519PrivateKey) -> None:
        self._document, self._key = document, key
        self._subject: Version | None = None
        self.envelope: str | None = None

    def begin(self, client: MlflowClient) -> None:
        """Say that nothing is decided yet, whatever an earlier statement says; on a guarded server, freeze the files.

        All statements of a recording are about the version that is there now: should it be registered anew meanwhile,
        they do not hold for what takes its place.

        Args:
            client: Of the registry.
        """
        self._subject = subject(self._row(client))
        self._sign(client, error=_UNDER_WAY)
        self.publish(client)

    def sign(self, client: MlflowClient, run_id: str, evidence: str) -> str:
        """Sign the verdict, once the files that the registry has now are those that were judged.

        Args:
            client: Of the registry.
            run_id: Of the run that holds the evidence.
            evidence: Digest of the evidence as it is recorded.

        Returns:
            The envelope.

        Raises:
            ModelError: They are others; a statement says so.
        """
        files = stored_files(client, self._document["model"]["name"], self._document["model"]["version"])
        if digest_of_names(files) != self._document["model"]["names_digest"]:
            self._sign(client, error="the files of the version changed while it was checked", run=run_id)
            self.publish(client)
            raise ModelError(
                f"the files of {self._document['model']['resolved']} are no longer those that were checked, so the "
                "verdict is not recorded; find out who changes registered models, and check the version again"
            )
        return self._sign(client, files=files, run=run_id, evidence=evidence)

    def publish(self, client: MlflowClient) -> None:
        """Put the statement that was signed last on the version.

        Args:
            client: Of the registry.
        """
        model = self._document["model"]
        publish(client, model["name"], model["version"], {self._tag: str(self.envelope)})

    def _row(self, client: MlflowClient) -> ModelVersion:
        return client.get_model_version(self._document["model"]["name"], self._document["model"]["version"])

    @property
    def _tag(self) -> str:
        return statement_key(self._document["policy"]["name"])

    def _sign(self, client: MlflowClient, files: Mapping[str, str] | None = None, **more: str) -> str:
        row = self._row(client)
        about = self._subject or subject(row)
        made = issue(self._document, about, files, now=after(row.tags.get(self._tag)), **more)
        self.envelope = sealed(made.payload, self._key)
        return self.envelope


def publish(client: MlflowClient, name: str, version: str, envelopes: Mapping[str, str]) -> None:
    """Put signed statements on a version, and then the short tags, unless the server has.

    Args:
        client: Of the registry.
        name: Of the registered model.
        version: Its number.
        envelopes: Tag → envelope.
    """
    for key, envelope in envelopes.items():
        client.set_model_version_tag(name, version, key, envelope)
    tags = client.get_model_version(name, version).tags
    for key, value in short(recorded(tags)).items():
        if tags.get(key) not in (value, NOT_IN_FORCE + value):
            client.set_model_version_tag(name, version, key, value)


def stored_files(client: MlflowClient, name: str, version: str) -> Mapping[str, str]:
    """Path → SHA-256 of the files that the store has for a version now.

    Args:
        client: Of the registry.
        name: Of the registered model.
        version: Its number.

    Raises:
        ModelError: There are none, or a symbolic link among them, or something else in place of MLflow's note.
    """
    from mlflow.artifacts import download_artifacts

    location = client.get_model_version_download_uri(name, version)
    with TemporaryDirectory(prefix="gate-") as folder:
        copy = download_artifacts(location, dst_path=folder, tracking_uri=client.tracking_uri).rstrip("/")
        try:
            return listed(Path(copy))
        except ModelError as error:  # the copy is gone when somebody reads this
            raise ModelError(str(error).replace(copy, f"models:/{name}/{version}")) from error


def subject(row: ModelVersion) -> Version:
    """A version of the registry as statements name it.

    Args:
        row: As a client of MLflow has it.
    """
    return Version.of(row.name, row.version, row.creation_timestamp, row.source, row.workspace)


def after(text: str | None, earliest: datetime | None = None) -> datetime:
    """When the next statement is issued: now, or just after the one that is there, should its clock have been ahead.

    Args:
        text: Envelope of the one that is there; None where there is none.
        earliest: In place of now.
    """
    now = datetime.now(UTC)
    first = earliest or now
    try:
        then = None if text is None else issued(text)
    except VerificationError:  # what stands there is no statement
        then = None
    # What claims to be of the future is nobody's clock; it must not date what is signed here.
    return first if then is None or then > now + CLOCKS else max(first, then + _TICK)
