"""What a registry server protects and whom it believes: a YAML file beside the server, with public keys only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from gate.attestation.deciding import Accepted, Trust
from gate.attestation.keys import Keyring, files, is_private, keyring
from gate.attestation.names import canonical
from gate.errors import NothingEvaluatedError, UsageError
from gate.policy.kinds import AGE, Digest, Keys, Name, Text
from gate.policy.loading import load_beside, load_keys
from gate.policy.validation import fault_at, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gate.policy.merging import Written

VARIABLE = "GATE_SERVER_POLICY"
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

Age = Annotated[str, StringConstraints(pattern=AGE)]
Texts = tuple[Text, ...]


class PolicyInForce(Keys):
    """A policy whose verdict counts, by its file or by its digest."""

    some_of = ("file", "digest")

    file: Text | None = None
    """Of the policy, from the folder of this file, or the name of a pack; name, digest, models and aliases are read
    from it when the server starts."""
    digest: Digest | None = None
    """In place of a file: what `gate check` records as the digest of the policy."""
    name: Name | None = None
    """Of the policy, where it is given by its digest."""
    models: Annotated[Texts, Field(min_length=1)] | None = None
    """Patterns of registered models that it is for. Default: `scope.models` of the file, else all."""
    aliases: Annotated[Texts, Field(min_length=1)] | None = None
    """What its verdict opens. Default: aliases at which `scope.aliases` of the file blocks, else all that is protected.
    Stages, tags and protected names are opened by a policy that opens every protected alias."""


class Protected(Keys):
    """What a version reaches with evidence only."""

    aliases: Texts = ()
    """Aliases of every model, beside those that the policies open. Case, accents and width make no difference."""
    stages: Texts = ("Production",)
    """Stages. Default: `Production`."""
    version_tags: Texts = ("deployment.status", "validation_status")
    """Tags of a version by which it is promoted. Default: `deployment.status` and `validation_status`."""
    model_tags: Texts = ("production_version",)
    """Tags of a registered model whose value is the number of the version that is promoted. Default:
    `production_version`."""
    names: Texts = ()
    """Beginnings of names of registered models that take nothing but copies of versions with evidence."""


class ServerPolicy(Keys):
    """The keys of the file."""

    api_version: Literal["gate/v1"] = Field(alias="apiVersion")
    """Version of this format."""
    kind: Literal["ServerPolicy"]
    """Kind of the file."""
    keys: Annotated[Texts, Field(min_length=1)]
    """Files of public keys, or folders of `.pub` files, from the folder of this file; never a private key."""
    policies: Annotated[tuple[PolicyInForce, ...], Field(min_length=1)]
    """Policies whose verdicts count. Each name in force for a model and an alias needs a passing statement; several
    digests of one name are alternatives."""
    protected: Protected = Field(default_factory=Protected)
    """What is protected."""
    audit: Text
    """The file that every decision is appended to, from the folder of this file."""
    max_age: Age | None = None
    """How old a statement may be when a version is promoted, such as `30d` or `12h`."""
    isolation: Literal["process", "any"] = "process"
    """`process` lets no verdict count for which a model ran inside of the gate, where its code could have reached the
    key that signs; `any` does."""
    artifacts: Literal["frozen", "anywhere"] = "frozen"
    """`frozen` takes statements only on versions whose files this server keeps, and keeps them from being written;
    `anywhere` leaves them to whoever can write there."""
    unknown_methods: Literal["refuse", "warn"] = "refuse"
    """What is done where this MLflow can change the registry in ways that gate does not know."""


@dataclass(frozen=True)
class Protection:
    """What a server enforces, with names as `canonical` has them.

    Attributes:
        trust: Keys, policies and age that count.
        aliases: Protected aliases.
        stages: Protected stages.
        version_tags: Protected tags of versions.
        model_tags: Protected tags of registered models.
        names: Beginnings of protected names.
        audit: The file of the audit log.
        artifacts: Whether files must be frozen.
        unknown_methods: What an unknown way to change the registry leads to.
        read: What it was read from: the file, its keys and its policies.
        written: The file.
    """

    trust: Trust
    aliases: frozenset[str]
    stages: frozenset[str]
    version_tags: frozenset[str]
    model_tags: frozenset[str]
    names: tuple[str, ...]
    audit: Path
    artifacts: Literal["frozen", "anywhere"]
    unknown_methods: Literal["refuse", "warn"]
    read: tuple[Path, ...]
    written: ServerPolicy

    def protects_alias(self, alias: str) -> bool:
        """Whether an alias needs evidence; one with letters that a database may take for others always does."""
        plain = canonical(alias)
        return plain in self.aliases or not plain.isascii()

    def protects_name(self, name: str) -> bool:
        """Whether a registered model of this name takes copies of versions with evidence alone."""
        return canonical(name).startswith(self.names) if self.names else False


def load(path: str | Path) -> Protection:
    """Reads the file, its keys and its policies.

    Args:
        path: Of the file.

    Raises:
        UsageError: It, a key or a policy cannot be read, or it protects nothing.
        PolicyError: It or a policy has faults; all of them, in the order of their lines.
    """
    (file, written), folder = load_keys(ServerPolicy, path, "server policy"), Path(path).parent
    policies = [_in_force(each, number, folder, written) for number, each in enumerate(file.policies)]
    protected, keys = file.protected, [folder / each for each in file.keys]
    aliases = _canonical(protected.aliases).union(*(each.aliases or () for each in policies))
    if not aliases:
        fault = "no alias is protected: name one here, or under `scope.aliases` of a policy with `block`"
        raise refusal([fault_at(written, ("protected",), fault)])
    return Protection(
        trust=Trust(
            _keys(keys, written),
            policies,
            None if file.max_age is None else age(file.max_age),
            isolated=file.isolation == "process",
        ),
        aliases=aliases,
        stages=_canonical(protected.stages),
        version_tags=_canonical(protected.version_tags),
        model_tags=_canonical(protected.model_tags),
        names=tuple(_canonical(protected.names)),
        audit=folder / file.audit,
        artifacts=file.artifacts,
        unknown_methods=file.unknown_methods,
        read=(Path(path), *keys, *files(keys), *(folder / each.file for each in file.policies if each.file)),
        written=file,
    )


def age(text: str) -> timedelta:
    """A span of time such as `30d`, `12h` or `90m`.

    Raises:
        UsageError: It is none.
    """
    if not re.fullmatch(AGE, text):
        raise UsageError(f"{text!r} is no age; write a whole number with m, h or d, such as 30d")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _keys(paths: Sequence[Path], written: Written) -> Keyring:
    for number, path in enumerate(paths):
        for each in files([path]):
            if each.is_file() and is_private(each):
                fault = f"{str(each)!r} is a private key; a server verifies with public keys alone, give its .pub file"
                raise refusal([fault_at(written, ("keys", number), fault)])
    return keyring(paths)


def _in_force(entry: PolicyInForce, number: int, folder: Path, written: Written) -> Accepted:
    """The policy of an entry, with what its file says where the entry is silent."""
    place = ("policies", number)
    if entry.file is None:
        if entry.name is None or entry.digest is None:
            raise refusal([fault_at(written, place, "a policy by its digest needs its `name` as well")])
        return Accepted(entry.name, entry.digest, entry.models or ("*",), _opened(entry, ()))
    if entry.digest is not None or entry.name is not None:
        raise refusal([fault_at(written, place, "give a `file`, or a `digest` and a `name`, not both")])
    try:
        policy = load_beside(entry.file, folder)
    except (UsageError, NothingEvaluatedError) as error:
        raise refusal([fault_at(written, (*place, "file"), str(error))]) from None
    scope = policy.policy.scope
    blocked = [alias for alias, severity in scope.aliases.items() if severity == "block"]
    return Accepted(
        policy.policy.metadata.name, policy.digest, entry.models or scope.models, _opened(entry, tuple(blocked))
    )


def _opened(entry: PolicyInForce, blocked: Texts) -> frozenset[str] | None:
    aliases = entry.aliases or blocked
    return _canonical(aliases) if aliases else None


def _canonical(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(canonical, names))
