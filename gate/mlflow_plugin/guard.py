"""What a guarded registry refuses: every route by which a version without evidence could be promoted.

A mixin over a concrete store of MLflow: whichever request, button or caller leads here, the same is decided, within the
transaction that changes the registry.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS, IS_PROMPT_TAG_KEY
from mlflow.store.artifact.utils.models import _parse_model_uri

from gate.attestation.deciding import require_newer, require_promotable, statement
from gate.attestation.names import FROZEN, KEY, PREFIX, canonical, kind_of, statement_key
from gate.errors import VerificationError
from gate.mlflow_plugin.callers import caller
from gate.mlflow_plugin.display import without_ours
from gate.mlflow_plugin.locations import in_store
from gate.mlflow_plugin.refusing import refusing
from gate.mlflow_plugin.sessions import JoinedSessions, Row, all_versions, frozen_version, lock, row_of
from gate.mlflow_plugin.tags import recorded, short
from gate.mlflow_plugin.uploads import freezing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gate.mlflow_plugin.audit import Audit
    from gate.server_policy import Protection

    _Store: TypeAlias = Any  # any registry store of MLflow
else:
    _Store = object

_IS_PROMPT = canonical(IS_PROMPT_TAG_KEY)


class Tag(Protocol):
    """A tag as MLflow hands it on."""

    key: str
    value: str


class Guard(_Store):
    """Decides before the store under it does.

    Attributes:
        protection: What is protected, and who is believed.
        audit: Where every decision is written down.
        keeps_files: Whether this is the server that keeps the files, and freezes them.
    """

    protection: Protection
    audit: Audit
    keeps_files: bool

    def guarded_by(self, protection: Protection, audit: Audit) -> None:
        """Take up the guard.

        Args:
            protection: What is protected, and who is believed.
            audit: Where every decision is written down.
        """
        self.protection, self.audit = protection, audit
        maker = getattr(self, "ManagedSessionMaker", None)
        self._sessions = None if maker is None else JoinedSessions(maker)
        self.keeps_files = maker is not None and protection.artifacts == "frozen"
        if self._sessions is not None:
            self.ManagedSessionMaker = self._sessions

    # Aliases and stages

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Needs evidence where the alias is protected."""
        if not self.protection.protects_alias(alias):
            super().set_registered_model_alias(name, alias, version)
            return
        with self._deciding(f"alias {alias!r}", name, version):
            self._require_evidence(name, version, {canonical(alias)})
            super().set_registered_model_alias(name, alias, version)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Is written down where the alias is protected."""
        with self._deciding(f"removal of the alias {alias!r}", name, of_note=self.protection.protects_alias(alias)):
            super().delete_registered_model_alias(name, alias)

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Needs evidence where the stage is protected, and is always written down: it may leave such a one."""
        with self._deciding(f"stage {stage!r}", name, version):
            if canonical(stage) in self.protection.stages:
                self._require_evidence(name, version, self.protection.aliases)
            return super().transition_model_version_stage(name, version, stage, archive_existing_versions)

    # Tags

    def set_model_version_tag(self, name: str, version: str, tag: Tag) -> None:
        """Takes signed statements, refuses other tags of the gate, and needs evidence for tags that promote."""
        kind, key = kind_of(tag.key), canonical(tag.key)
        if kind == "statement":
            self._accept(name, version, tag)
            return
        if kind == "free" and key not in (_IS_PROMPT, *self.protection.version_tags):
            super().set_model_version_tag(name, version, tag)
            return
        with self._deciding(f"tag {tag.key!r}", name, version):
            _require_free(tag.key)
            self._require_evidence(name, version, self.protection.aliases)
            super().set_model_version_tag(name, version, tag)

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        """Refuses to take away what the gate has written."""
        of_note = _is_reserved(key) or canonical(key) in self.protection.version_tags
        with self._deciding(f"removal of the tag {key!r}", name, version, of_note=of_note):
            _require_free(key)
            super().delete_model_version_tag(name, version, key)

    def set_registered_model_tag(self, name: str, tag: Tag) -> None:
        """Refuses tags of the gate, and needs evidence for the version that a tag promotes."""
        if not _is_reserved(tag.key) and canonical(tag.key) not in self.protection.model_tags:
            super().set_registered_model_tag(name, tag)
            return
        with self._deciding(f"tag {tag.key!r}", name):
            _require_free(tag.key)
            self._require_evidence(name, _number(tag), self.protection.aliases)
            super().set_registered_model_tag(name, tag)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Refuses to take away what the gate has written."""
        of_note = _is_reserved(key) or canonical(key) in self.protection.model_tags
        with self._deciding(f"removal of the tag {key!r}", name, of_note=of_note):
            _require_free(key)
            super().delete_registered_model_tag(name, key)

    # Registered models and their versions

    def create_registered_model(self, name: str, tags: Sequence[Tag] | None = None, *more: Any, **further: Any) -> Any:
        """Refuses tags of the gate, and tags that promote a version before there is one."""
        refused = [tag for tag in tags or () if self._promotes(tag) or kind_of(tag.key) != "free"]
        if refused:
            with self._deciding(f"tag {refused[0].key!r}", name):
                _require_free(refused[0].key)
                raise VerificationError("a registered model cannot be created with a tag that promotes a version")
        return super().create_registered_model(name, tags, *more, **further)

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Sequence[Tag] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        *more: Any,
        **further: Any,
    ) -> Any:
        """Drops what the gate wrote on what this is a copy of, and what promoted it: it needs evidence of its own."""
        promoting = [tag for tag in tags or () if self._promotes(tag)]
        copied, protected = _copied(source), self.protection.protects_name(name) and not self._is_prompt(name, source)
        kept: list[Tag] = [tag for tag in tags or () if kind_of(tag.key) == "free" and tag not in promoting]
        about = (run_link, without_ours(description) if description else description, *more)
        hides = any(canonical(tag.key) == _IS_PROMPT for tag in kept) and not self._holds_prompts(name)
        if not protected and not hides and (copied or not promoting):
            return super().create_model_version(name, source, run_id, kept, *about, **further)
        with self._deciding("registration", name, also=copied[0] if copied else name):
            if hides:  # MLflow's searches would no longer show any version of the model
                raise VerificationError(
                    f"a version of {name!r}, which is no prompt, cannot carry {IS_PROMPT_TAG_KEY!r}"
                )
            if not copied and promoting:
                raise VerificationError(f"a version cannot be created with the promotion tag {promoting[0].key!r}")
            if not copied:
                raise VerificationError(
                    f"{name!r} only takes copies of versions with evidence; register {source!r} elsewhere, check it, "
                    "and copy the version"
                )
            self._require_evidence(*copied, self.protection.aliases)
            kept += self._frozen_with(*copied)
            return super().create_model_version(name, source, run_id, kept, *about, **further)

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Refuses what would carry promotions or evidence to another name, or anything into a protected one."""
        with self._deciding(f"renaming to {new_name!r}", name, also=new_name):
            if self.protection.protects_name(new_name):
                raise VerificationError(f"renaming would move unattested versions into the protected name {new_name!r}")
            self._require_unpromoted(name)
            return super().rename_registered_model(name, new_name)

    def delete_registered_model(self, name: str) -> None:
        """Is written down."""
        with self._deciding("deletion", name):
            super().delete_registered_model(name)

    def delete_model_version(self, name: str, version: str) -> None:
        """Is written down."""
        with self._deciding("deletion", name, version):
            super().delete_model_version(name, version)

    # Files

    def frozen_at(self, path: str) -> str | None:
        """The version whose frozen files are at a path of the artifact store, below it or above it; None for none.

        Args:
            path: From the root of the store; nothing for the root itself.
        """
        if self._sessions is None:
            return None
        with self._sessions.together() as session:
            return frozen_version(session, path)

    def refuse(self, what: str, model: str, reason: str) -> NoReturn:
        """Write a refusal down and answer it.

        Args:
            what: Somebody wanted.
            model: That it was about.
            reason: Why not.

        Raises:
            MlflowException: Always.
        """
        with refusing(self.audit, {"who": caller(), "what": what, "model": model}):
            raise VerificationError(reason)

    # What all of these need

    @contextmanager
    def _deciding(
        self,
        what: str,
        name: str,
        version: str | None = None,
        *,
        also: str | None = None,
        of_note: bool = True,
        holding: AbstractContextManager[None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """One transaction with the models locked; what leaves it is written down before it takes effect."""
        model = f"models:/{name}" if version is None else f"models:/{name}/{version}"
        entry: dict[str, Any] = {"who": caller(), "what": what, "model": model}
        # Inside as well, because a session of MLflow turns what it does not know into a crash.
        outside, inside = refusing(self.audit, entry), refusing(self.audit, entry)
        with outside, holding or nullcontext(), self._together(name, also or name), inside:
            yield entry
            if of_note:
                self.audit.append({**entry, "decision": "allowed"})

    @contextmanager
    def _together(self, *names: str) -> Iterator[None]:
        if self._sessions is None:
            yield
            return
        with self._sessions.together() as session:
            lock(session, names)
            yield

    def _require_evidence(self, name: str, version: str, aliases: Collection[str]) -> None:
        row = row_of(self, name, version)
        if self._is_prompt(name, row.subject.source):
            return
        require_promotable(row.tags, row.subject, aliases, self.protection.trust, datetime.now(UTC))
        if self.keeps_files and row.tags.get(FROZEN) != _kept_at(row):
            raise VerificationError("its files are not frozen on this server; check the version again")

    def _require_unpromoted(self, name: str) -> None:
        model = self.get_registered_model(name)
        versions = all_versions(self, name)
        if all(self._is_prompt(name, each.source) for each in versions) and versions:
            return
        held = [alias for alias in model.aliases if canonical(alias) in self.protection.aliases]
        if held:
            raise VerificationError(f"it holds the alias {held[0]!r}, which would go with it; remove that first")
        for each in versions:
            if canonical(each.current_stage) in self.protection.stages:
                raise VerificationError(f"version {each.version} is in stage {each.current_stage!r}; archive it first")
            if any(kind_of(key) != "free" for key in each.tags):
                raise VerificationError(
                    f"version {each.version} has evidence under this name; copy it to the new one and check it there"
                )

    def _accept(self, name: str, version: str, tag: Tag) -> None:
        """Take a signed statement in, freeze the files that it is about, and show its verdict."""
        holding = self._no_uploads(name, version) if self.keeps_files else None
        with self._deciding(f"tag {tag.key!r}", name, version, holding=holding) as entry:
            row = row_of(self, name, version)
            found = statement(tag.value, self.protection.trust.keys, row.subject)
            if tag.key != statement_key(found.policy.name):
                raise VerificationError(f"a statement of policy {found.policy.name!r} belongs under another tag")
            require_newer(found, row.tags.get(tag.key), datetime.now(UTC))
            entry["verdict"] = found.verdict
            if self._sessions is None:  # the server behind this one writes the other tags, or the recorder does
                self._write(row, {tag.key: tag.value})
                return
            frozen = {FROZEN: _kept_at(row)} if self.keeps_files else {}
            shown = short({**recorded(row.tags), tag.key: found}, self.protection.trust)
            # MLflow's table of versions shows tags in the order in which they came: first what a person can read.
            self._write(row, {**dict(reversed(shown.items())), **frozen, tag.key: tag.value})

    @contextmanager
    def _no_uploads(self, name: str, version: str) -> Iterator[None]:
        with freezing(self.audit.locks, _kept_at(row_of(self, name, version))):
            yield

    def _write(self, row: Row, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if row.tags.get(key) != value:
                super().set_model_version_tag(row.subject.name, row.subject.version, ModelVersionTag(key, value))

    def _frozen_with(self, name: str, version: str) -> list[Any]:
        """The tag that keeps the files of a copy frozen, whatever becomes of the version that it is a copy of."""
        tags = row_of(self, name, version).tags
        return [ModelVersionTag(FROZEN, tags[FROZEN])] if FROZEN in tags else []

    def _promotes(self, tag: Tag) -> bool:
        return canonical(tag.key) in self.protection.version_tags | self.protection.model_tags

    def _is_prompt(self, name: str, source: str) -> bool:
        """Whether a version is text and no model: the tag of a prompt alone proves nothing, its source does as well."""
        return source in _PROMPT_SOURCE_PLACEHOLDERS and self._holds_prompts(name)

    def _holds_prompts(self, name: str) -> bool:
        with self._sessions.together() if self._sessions else nullcontext():  # a replica may not know it yet
            return bool(self.get_registered_model(name)._is_prompt())  # noqa: SLF001 - the public tags hide it


def _kept_at(row: Row) -> str:
    """Where the files of a version lie, from the root of the server's artifact store."""
    return in_store(row.location, row.subject.workspace)


def _is_reserved(key: str) -> bool:
    return kind_of(key) != "free" or canonical(key) == _IS_PROMPT


def _require_free(key: str) -> None:
    if canonical(key) == _IS_PROMPT:
        raise VerificationError(f"the tag {key!r} is set when a prompt is created, and never after")
    if kind_of(key) != "free":
        raise VerificationError(
            f"the tag {key!r} is reserved: the server itself writes {KEY!r} and {PREFIX + '*'!r}, when it takes a "
            "signed statement, and they stay; run `gate check --record` with a signing key"
        )


def _number(tag: Tag) -> str:
    """The version that a tag of a registered model promotes."""
    if not re.fullmatch(r"[1-9][0-9]*", str(tag.value)):
        raise VerificationError(f"its value is {tag.value!r}, expected the number of a version with evidence")
    return str(tag.value)


def _copied(source: str) -> tuple[str, str] | None:
    """Name and version that a source `models:/NAME/VERSION` is a copy of; None for anything else."""
    try:
        parsed = _parse_model_uri(source)
    except MlflowException:
        return None
    name, version = parsed.name, parsed.version
    return (name, str(version)) if name and version and source == f"models:/{name}/{version}" else None
