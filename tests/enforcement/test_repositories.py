"""Artifact stores that are no folder, and locations that are not what they seem."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException, _UnsupportedMultipartUploadException
from mlflow.server import handlers
from mlflow.store.artifact.artifact_repo import ArtifactRepository, MultipartUploadMixin
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.uri import validate_path_is_safe

from gate.attestation.envelope import sealed
from gate.attestation.names import statement_key
from gate.errors import VerificationError
from gate.mlflow_plugin import artifact_store, registry_store
from gate.mlflow_plugin.locations import DESTINATION, ROOT, in_destination, in_store
from tests.enforcement.servers import Place, stated

UNCLEAR = "the client of the store and the store may read that in different ways; take another name, of letters"
OUTSIDE = "this server changes nothing on its machine but what lies in its artifact store"


class Bucket(ArtifactRepository, MultipartUploadMixin):
    """A store in a bucket, which takes every write and keeps none."""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        pass

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        pass

    def list_artifacts(self, path: str | None = None) -> list[Any]:  # noqa: ARG002 - the signature is that of MLflow
        return []

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        pass

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        pass

    def create_multipart_upload(self, local_file: str, num_parts: int = 1, artifact_path: str | None = None) -> Any:  # noqa: ARG002
        return "begun"

    def complete_multipart_upload(
        self, local_file: str, upload_id: str, parts: Any = (), artifact_path: str | None = None
    ) -> None:
        pass

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        pass  # as that for S3, by no other method

    def abort_multipart_upload(self, local_file: str, upload_id: str, artifact_path: str | None = None) -> None:
        pass


@pytest.fixture
def registry(prepared: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A guarded registry in this process, over a bucket."""
    monkeypatch.setenv("GATE_SERVER_POLICY", str(prepared.policy))
    monkeypatch.setenv(DESTINATION, "gate+s3://bucket/store")
    registry = registry_store.build(f"gate+{prepared.database}")
    monkeypatch.setattr(handlers, "_model_registry_store", registry)
    return registry


def bucket(uri: str = "s3://bucket/store") -> Any:
    return artifact_store._guarded(Bucket, uri)


def freeze(registry: Any, place: Place) -> None:
    registry.create_registered_model("enc")
    version = registry.create_model_version("enc", "mlflow-artifacts:/1/models/m-1/artifacts")
    text = sealed(stated(version).payload, place.key)
    registry.set_model_version_tag("enc", "1", ModelVersionTag(statement_key("geometry"), text))


def test_an_upload_in_parts_that_began_before_a_statement_does_not_end_after_it(registry: Any, prepared: Place) -> None:
    store, file, folder = bucket(), "weights", "1/models/m-1/artifacts"
    assert store.create_multipart_upload(file, 2, folder) == "begun"
    freeze(registry, prepared)
    with pytest.raises(MlflowException, match="of models:/enc/1: its files are frozen"):
        store.complete_multipart_upload(file, "begun", [], folder)
    with pytest.raises(MlflowException, match="its files are frozen"):
        store.create_multipart_upload(file, 2, folder)
    store.abort_multipart_upload(file, "begun", folder)


def test_an_upload_past_the_server_is_always_refused(registry: Any) -> None:  # noqa: ARG001 - it is asked
    with pytest.raises(MlflowException, match="it would write past this server"):
        bucket().create_presigned_upload_url("1/models/m-2/artifacts/weights")


@pytest.mark.usefixtures("registry")
def test_a_file_in_parts_has_no_url_that_outlives_its_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DESTINATION, "gate+wasbs://store@me.blob.core.windows.net/models")
    store = bucket("wasbs://store@me.blob.core.windows.net/models")
    with pytest.raises(_UnsupportedMultipartUploadException):
        store.create_multipart_upload("weights", 2, "1/models/m-1/artifacts")


@pytest.mark.parametrize(
    "host", ["other.blob.core.windows.net", "me.blob.core.chinacloudapi.cn", "x@me.blob.core.windows.net"]
)
def test_a_container_is_the_store_whichever_account_is_named(
    registry: Any, prepared: Place, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv(DESTINATION, "gate+wasbs://store@me.blob.core.windows.net/models")
    freeze(registry, prepared)
    with pytest.raises(MlflowException, match="its files are frozen"):
        bucket(f"wasbs://store@{host}/models/1").delete_artifacts("models/m-1")
    bucket(f"wasbs://elsewhere@{host}/models/1").delete_artifacts("models/m-1")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("destination", ["gate+s3://bucket/store", "gate+file:{}/store"])
@pytest.mark.parametrize(
    "uri",
    [
        "{}/kept",
        "file://{}/kept",
        "file:file://{}/kept%3Fx",
        "file://{}/store%2541/x",
        "file:{}",
        "{}/store/..",
        "{}/store/%252e%252e/kept",
    ],
)
def test_nothing_of_this_machine_is_removed_outside_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, uri: str
) -> None:
    monkeypatch.setenv(DESTINATION, destination.format(tmp_path))
    for name in ("kept", "storeA/x", "store%41/x"):
        (tmp_path / name).mkdir(parents=True)
    local = artifact_store._guarded(LocalArtifactRepository, uri.format(tmp_path))
    for path in (None, "traces.pb"):
        with pytest.raises(MlflowException, match=f"{OUTSIDE}|{UNCLEAR}"):
            local.delete_artifacts(path)
    assert all((tmp_path / name).is_dir() for name in ("kept", "storeA/x", "store%41/x"))


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("destination", "root"),
    [
        ("gate+s3://bucket/store", ""),
        ("file:{}/store", "mlflow-artifacts:/"),
        ("./mlartifacts", "{}/store"),
        ("", "mlflow-artifacts:/"),
    ],
)
@pytest.mark.parametrize("uri", ["{}/kept", "file://{}/kept/new", "file:{}", "{}/store/.."])
def test_nothing_of_this_machine_is_written_outside_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, root: str, uri: str
) -> None:
    monkeypatch.setenv(DESTINATION, destination.format(tmp_path))
    if not destination:
        monkeypatch.delenv(DESTINATION)
    monkeypatch.setenv(ROOT, root.format(tmp_path))
    (tmp_path / "kept").mkdir()
    (tmp_path / "evil.pub").write_text("evil", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    local = artifact_store._guarded(LocalArtifactRepository, uri.format(tmp_path))
    for write in (
        partial(local.log_artifact, str(tmp_path / "evil.pub")),
        partial(local.log_artifact, str(tmp_path / "evil.pub"), "keys"),
        partial(local.log_artifacts, str(tmp_path / "kept")),
        partial(local.log_artifact_from_stream, BytesIO(b"evil"), "other.pub"),
        partial(local.upload_archived_trace_data_bytes, b"evil"),
    ):
        with pytest.raises(MlflowException, match=OUTSIDE):
            write()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("variable", [DESTINATION, ROOT])
def test_what_lies_in_the_store_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, f"file:{tmp_path}/store")
    artifact_store._guarded(LocalArtifactRepository, f"file://{tmp_path}/store/1/x").log_artifact(__file__)
    assert (tmp_path / "store" / "1" / "x" / Path(__file__).name).is_file()


@pytest.mark.usefixtures("registry")
def test_the_root_of_all_experiments_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT, f"file:{tmp_path}/root")
    (tmp_path / "root" / "1").mkdir(parents=True)
    with pytest.raises(MlflowException, match=OUTSIDE):
        artifact_store._guarded(LocalArtifactRepository, f"{tmp_path}/root").delete_artifacts()
    artifact_store._guarded(LocalArtifactRepository, f"{tmp_path}/root/1").delete_artifacts()
    assert not list((tmp_path / "root").iterdir())


def test_the_archive_of_a_trace_is_not_written_over_a_frozen_file(registry: Any, prepared: Place) -> None:
    freeze(registry, prepared)
    with pytest.raises(MlflowException, match="its files are frozen"):
        bucket("s3://bucket/store/1/models/m-1/artifacts").upload_archived_trace_data_bytes(b"evil")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("destination", "uri"),
    [
        ("wasbs://store@me.blob.core.windows.net/m", "wasbs://elsewhere@me.blob.core.windows.net/../store/m/1"),
        ("wasbs://store@me.blob.core.windows.net/m", "wasbs://.@me.blob.core.windows.net/store/m/1"),
        ("wasbs://store@me.blob.core.windows.net/m", "wasbs://store@me.blob.core.windows.net/%6D/1"),
        ("wasbs://store@me.blob.core.windows.net/m", "wasbs:store@me.blob.core.windows.net/m/1"),
        ("gs://bucket/m", "gs://b%75cket/m/1"),
        ("gs://bucket/m", "gs://bucket/x/../m/1"),
        ("gs://bucket/m", "gs://bucket/m/../m/1"),
        ("s3://bucket/m", "s3://bucket/./m/1"),
        ("s3://bucket/m", "s3://bucket?x/m/1"),
        ("s3://bucket/m", "s3://arn:aws:s3:eu-1:1:accesspoint/m/1"),
    ],
)
def test_a_place_that_a_client_may_read_otherwise_is_not_written(
    monkeypatch: pytest.MonkeyPatch, destination: str, uri: str
) -> None:
    monkeypatch.setenv(DESTINATION, f"gate+{destination}")
    for change in (partial(bucket(uri).log_artifact, __file__, "x"), partial(bucket(uri).delete_artifacts, "x")):
        with pytest.raises(MlflowException, match=UNCLEAR):
            change()


@pytest.mark.parametrize(
    "path", ["models\\m-1/x", "models/m-1/x.", "models./m-1", "a/../models/m-1", "/models/m-1", ".."]
)
def test_a_path_that_a_bucket_may_read_otherwise_is_not_written(registry: Any, prepared: Place, path: str) -> None:
    freeze(registry, prepared)
    store = bucket("s3://bucket/store/1")
    for change in (partial(store.log_artifact, __file__, path), partial(store.delete_artifacts, path)):
        with pytest.raises(MlflowException, match=UNCLEAR):
            change()


@pytest.mark.usefixtures("registry")
def test_no_path_leaves_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DESTINATION, f"gate+file:{tmp_path}/store")
    local = artifact_store._guarded(LocalArtifactRepository, f"{tmp_path}/store/1")
    for path in ("../../../keys", str(tmp_path / "keys")):
        with pytest.raises(MlflowException, match=UNCLEAR):
            local.log_artifact(__file__, path)
    assert not list(tmp_path.rglob(Path(__file__).name))
    local.log_artifact(__file__, "50%25 a\\b./c:d")
    assert len(list((tmp_path / "store").rglob(Path(__file__).name))) == 1


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "own", ["s3://arn:aws:s3:eu-1:1:accesspoint/a:b", "wasbs://$root@me.blob.core.windows.net", "gs://my_bucket.x/1"]
)
def test_whatever_the_store_of_the_server_is_called_it_is_written(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setenv(DESTINATION, f"gate+{own}/")
    for uri in (own, f"{own}/", f"gate+{own}/1/models/m-1/artifacts"):
        bucket(uri).log_artifact(__file__, "x")


@pytest.mark.usefixtures("registry")
def test_what_is_free_in_the_store_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DESTINATION, f"gate+file:{tmp_path}/store")
    (tmp_path / "store" / "1 ü").mkdir(parents=True)
    artifact_store._guarded(LocalArtifactRepository, f"{tmp_path}/store").delete_artifacts("1 ü")
    assert not (tmp_path / "store" / "1 ü").exists()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/store", "1"),
        ("s3://bucket/store/1/models", "m-1/artifacts/x"),
        ("s3://bucket/store/1//models/m-1", None),
        ("gate+s3://bucket/store/1/models/m-1/artifacts/below", "x"),
        ("s3://bucket", "store"),
        ("s3://bucket", None),
    ],
)
def test_frozen_files_are_found_from_every_repository_that_reaches_them(
    registry: Any, prepared: Place, uri: str, path: str | None
) -> None:
    freeze(registry, prepared)
    with pytest.raises(MlflowException, match="its files are frozen"):
        bucket(uri).delete_artifacts(path)


@pytest.mark.parametrize(
    "uri", ["s3://elsewhere/store/1", "gs://bucket/store/1", "s3://bucket/storeroom/1", "/store/1"]
)
def test_what_lies_elsewhere_is_written(registry: Any, prepared: Place, uri: str) -> None:
    freeze(registry, prepared)
    bucket(uri).delete_artifacts("models/m-1")
    assert in_destination(uri, "models/m-1") is None


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts://elsewhere:5000/1/models/m-1",
        "mlflow-artifacts://elsewhere/1",
        "mlflow-artifacts:////1",
        "mlflow-artifacts:/",
        "Mlflow-Artifacts:/1",
        " mlflow-artifacts:/1",
        "s3://bucket/store/1",
        "/store/1",
        "",
    ],
)
def test_files_that_lie_elsewhere_are_not_kept(uri: str) -> None:
    with pytest.raises(VerificationError, match="which this server does not keep"):
        in_store(uri)


@pytest.mark.parametrize("workspace", ["default", "team"])
@pytest.mark.parametrize(
    "path",
    [
        "1/models/m%2D1",
        "1/models/m-1;x",
        "1/models/m-1?x",
        "1/models/m-1#x",
        "1/models/x/../m-1",
        "1/models/./m-1",
        "./workspaces/team/m-1",
        "1//models/m-1",
        "1\\models",
        " 1/models",
        "1 /models",
        "1/models/m-1 ",
        "1/models/m-1.",
        "A:b/models",
        "X+y:b/models",
        "1/mo\x7fdel",
        "1/mo\x01del",
        "1/mo\ndel",
        "1/mo\tdel",
        "1/mode\N{COMBINING ACUTE ACCENT}l",
    ],
)
def test_files_whose_path_could_be_read_in_two_ways_are_not_kept(path: str, workspace: str) -> None:
    with pytest.raises(VerificationError, match="may read in different ways; log the model to a path of letters"):
        in_store(f"mlflow-artifacts:/{path}", workspace)


def test_mlflow_reads_what_is_kept_as_it_stands() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        with suppress(VerificationError):
            kept = in_store(f"mlflow-artifacts:/{character}a{character}/1")
            assert validate_path_is_safe(kept) == kept
            assert urlsplit(f"http://server/{quote(kept)}").path == f"/{quote(kept)}"


def test_a_place_is_known_from_the_root() -> None:
    assert in_store("mlflow-artifacts:/1/models/m-1/artifacts") == "1/models/m-1/artifacts"
    assert in_store("mlflow-artifacts:///1/models/a b/") == "1/models/a b"
    assert in_store("mlflow-artifacts:/हिन्दी/it's!") == "हिन्दी/it's!"
    assert in_store("mlflow-artifacts:/Über.uns_1/x=(1,2)+@&-") == "Über.uns_1/x=(1,2)+@&-"
