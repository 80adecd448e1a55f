"""What a guarded artifact repository refuses: to write, replace or remove files of a version that has a statement.

A mixin over a concrete repository of MLflow: whatever a URL looked like, its path has been decoded when it comes here.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException, _UnsupportedMultipartUploadException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED
from mlflow.tracing.otel.otel_archival import TRACE_ARCHIVAL_FILENAME
from mlflow.utils.file_utils import local_file_uri_to_path

from gate.attestation.names import REFUSED
from gate.mlflow_plugin.locations import DESTINATION, RESERVED, in_destination, in_root, is_reserved, reads_in_one_way
from gate.mlflow_plugin.uploads import writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterator
    from typing import IO, BinaryIO

    from gate.mlflow_plugin.guard import Guard

    _Repository: TypeAlias = Any  # any artifact repository of MLflow
else:
    _Repository = object

_ENDS_WITH_UPLOAD = ("s3", "gs")
"""Schemes of stores whose URL of one part ends with its upload; that of Azure writes the whole file while it lasts."""
_IN_MEMORY = 2**20  # bytes of a body that need no disk


class WriteOnce(_Repository):
    """Decides before the repository under it writes.

    Attributes:
        place: Its URI.
    """

    place: str = ""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Refused below a frozen model."""
        with self._writing(artifact_path, Path(local_file).name):
            super().log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Refused in, below and above a frozen model."""
        with self._writing(artifact_path):
            super().log_artifacts(local_dir, artifact_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Refused in, below and above a frozen model."""
        self._require_one_reading(artifact_path or "")
        with self._writing(artifact_path):
            super().delete_artifacts(artifact_path)

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Refused below a frozen model, also where it became frozen before the last part was there."""
        self._require_free(artifact_file_name, artifact_path)
        with self._spool() as spool:
            shutil.copyfileobj(stream, spool, _IN_MEMORY)
            self._land(spool, artifact_file_name, artifact_path)

    async def log_artifact_from_async_stream(
        self, chunks: AsyncIterable[bytes], artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Refused below a frozen model, also where it became frozen before the last part was there."""
        await asyncio.to_thread(self._require_free, artifact_file_name, artifact_path)
        with self._spool() as spool:
            async for chunk in chunks:
                await asyncio.to_thread(spool.write, chunk)
            # As one call: what holds a lock must not wait for a thread, which may wait for the lock.
            await asyncio.to_thread(self._land, spool, artifact_file_name, artifact_path)

    def create_multipart_upload(self, local_file: str, num_parts: int = 1, artifact_path: str | None = None) -> Any:
        """Refused below a frozen model, and where its URL could still write when the model is frozen."""
        if urlsplit(self.place).scheme not in _ENDS_WITH_UPLOAD:
            raise _UnsupportedMultipartUploadException  # clients then send the file through the server
        with self._writing(artifact_path, posixpath.basename(local_file)):
            return super().create_multipart_upload(local_file, num_parts, artifact_path)

    def complete_multipart_upload(
        self, local_file: str, upload_id: str, parts: Any = (), artifact_path: str | None = None
    ) -> None:
        """Refused below a frozen model, also where the upload began before."""
        with self._writing(artifact_path, posixpath.basename(local_file)):
            super().complete_multipart_upload(local_file, upload_id, parts, artifact_path)

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        """Refused below a frozen model."""
        with self._writing(None, TRACE_ARCHIVAL_FILENAME):
            super().upload_archived_trace_data_bytes(data)

    def create_presigned_upload_url(self, artifact_path: str, expiration: int = 900) -> Any:
        """Always refused: whoever has such a URL can still write when the model is frozen."""
        _registry().refuse(
            "a presigned URL",
            artifact_path,
            f"for {expiration} seconds it would write past this server, so that files could change after their check; "
            "upload through the server",
        )

    def _require_free(self, name: str, artifact_path: str | None) -> None:
        """Refuse before a body has come."""
        with self._writing(artifact_path, posixpath.basename(name)):
            pass

    def _in_store(self, path: str) -> str | None:
        """Where a path lies in the store of this server; None in another bucket.

        Of its machine the server changes nothing but its store: whoever makes an experiment or a trace says where its
        files lie, and could name the folder of the keys, of the audit log or of its locks.
        """
        if not reads_in_one_way(self.place, path):
            self._refuse_unclear(path)
        found, folder = in_destination(self.place, path), getattr(self, "artifact_dir", None)
        own = found and os.environ.get(DESTINATION)
        if folder is not None and not own and not in_root(posixpath.join(folder, path)):
            _registry().refuse(
                "a change",
                posixpath.join(folder, path),
                "this server changes nothing on its machine but what lies in its artifact store",
            )
        return found

    def _require_one_reading(self, path: str) -> None:
        """MLflow decodes the path of a local folder once more before it removes it, so that must not change it."""
        folder = getattr(self, "artifact_dir", None)
        whole = posixpath.join(folder or "", path)
        if folder is not None and local_file_uri_to_path(whole) != whole:
            self._refuse_unclear(path)

    def _refuse_unclear(self, path: str) -> None:
        _registry().refuse(
            f"a change of {path!r}",
            self.place,
            "MLflow, the client of the store and the store may read that in different ways; take another name, of "
            "letters, digits and -_.,=+@&()!~'$ that ends with no dot",
        )

    def _spool(self) -> SpooledTemporaryFile[bytes]:
        """Where a body waits until all of it is there, because a lock cannot: on the disk that it goes to, unnamed."""
        folder = getattr(self, "artifact_dir", None)
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        return SpooledTemporaryFile(_IN_MEMORY, dir=folder)

    def _land(self, spool: IO[bytes], name: str, artifact_path: str | None) -> None:
        spool.seek(0)
        with self._writing(artifact_path, posixpath.basename(name)):
            super().log_artifact_from_stream(spool, name, artifact_path)

    @contextmanager
    def _writing(self, artifact_path: str | None, name: str = "") -> Iterator[None]:
        """Nothing here becomes frozen while this lasts, and nothing here is."""
        path = self._in_store(posixpath.join(artifact_path or "", name))
        if path is None:
            yield
            return
        registry = _registry()
        if registry.keeps_files and is_reserved(path):
            raise MlflowException(f"{REFUSED}nothing is written below {RESERVED!r}.", PERMISSION_DENIED)
        with writing(registry.audit.locks, path):
            frozen = registry.frozen_at(path)
            if frozen is not None:
                registry.refuse(
                    f"a change of {path!r}",
                    frozen,
                    "its files are frozen, a signed statement covers their digest; register a new version instead",
                )
            yield


def _registry() -> Guard:
    """The guarded registry of this server, which knows what is frozen."""
    from mlflow.server.handlers import _get_model_registry_store

    from gate.mlflow_plugin.guard import Guard

    registry = _get_model_registry_store()
    if not isinstance(registry, Guard):
        raise MlflowException(
            f"{REFUSED}the artifact store is guarded and the registry is not, so nobody knows what is frozen; "
            "start the server with --registry-store-uri gate+….",
            INTERNAL_ERROR,
        )
    return registry
