"""What this MLflow can do to a registry or an artifact store, held against what was looked at."""

from __future__ import annotations

_READS = ("get_", "search_", "list_", "supports_", "download_")
_REGISTRY = frozenset(
    {
        # decided on
        "create_registered_model", "delete_registered_model", "rename_registered_model", "set_registered_model_tag",
        "delete_registered_model_tag", "create_model_version", "delete_model_version", "transition_model_version_stage",
        "set_model_version_tag", "delete_model_version_tag", "set_registered_model_alias",
        "delete_registered_model_alias",
        # change nothing but a description
        "update_registered_model", "update_model_version",
        # made of the above
        "copy_model_version", "create_prompt", "delete_prompt", "set_prompt_tag", "delete_prompt_tag",
        "create_prompt_version", "delete_prompt_version", "set_prompt_version_tag", "delete_prompt_version_tag",
        "set_prompt_alias", "delete_prompt_alias", "link_prompts_to_trace", "link_prompt_version_to_model",
        "link_prompt_version_to_run",
        # tell others of changes
        "create_webhook", "update_webhook", "delete_webhook", "test_webhook",
    }
)  # fmt: skip
_ARTIFACTS = frozenset(
    {
        # decided on
        "log_artifact", "log_artifacts", "log_artifact_from_stream", "log_artifact_from_async_stream",
        "delete_artifacts", "create_multipart_upload", "complete_multipart_upload", "create_presigned_upload_url",
        "upload_archived_trace_data_bytes",
        # made of the above
        "upload_trace_data", "upload_archived_trace_data", "upload_attachment",
        # writes no file
        "abort_multipart_upload", "flush_async_logging",
    }
)  # fmt: skip
_WORKSPACES = frozenset(
    {
        # decided on
        "delete_workspace",
        # moves nothing that is there
        "create_workspace", "update_workspace",
    }
)  # fmt: skip
_WRITES = (
    "log_",
    "upload",
    "delete",
    "create",
    "complete",
    "abort",
    "put",
    "write",
    "copy",
    "move",
    "rename",
    "set_",
    "append",
    "flush",
)


def unknown_of_registry(store: type) -> list[str]:
    """Public methods of a registry store that may change it and that nobody has looked at."""
    return [name for name in _public(store) if name not in _REGISTRY and not name.startswith(_READS)]


def unknown_of_workspaces(store: type) -> list[str]:
    """Public methods of a workspace store that may change it and that nobody has looked at."""
    return [name for name in _public(store) if name not in _WORKSPACES and not name.startswith((*_READS, "resolve_"))]


def unknown_of_artifacts(repository: type) -> list[str]:
    """Public methods of an artifact repository that may write and that nobody has looked at."""
    return [name for name in _public(repository) if name not in _ARTIFACTS and name.startswith(_WRITES)]


def _public(found: type) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_") and callable(getattr(found, name))]
