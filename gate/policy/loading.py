"""Policy files: read, merged with what they extend, validated; refused with every fault at once and its place."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import Fault, NothingEvaluatedError, PolicyError, UsageError
from gate.policy import packs
from gate.policy.loosening import loosened
from gate.policy.merging import Place, Written, combined_digest, merged
from gate.policy.reading import nearest, read
from gate.policy.schema import Policy, Probe
from gate.policy.validation import faults_of, validated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.policy.kinds import Location


@dataclass(frozen=True)
class Source:
    """A file that a policy was made of."""

    path: str
    text: str
    digest: str  # "sha256:…" of its bytes


@dataclass(frozen=True)
class LoadedPolicy:
    """A valid policy and the files that it was read from.

    Attributes:
        policy: With all that it extends.
        written: Its keys as they were merged, each with the place that it was written at.
        sources: The policy's own file first, then what it extends.
    """

    policy: Policy
    written: Written
    sources: tuple[Source, ...]

    @property
    def path(self) -> str:
        """Of the policy's own file."""
        return self.sources[0].path

    @property
    def text(self) -> str:
        """Of the policy's own file."""
        return self.sources[0].text

    @property
    def digest(self) -> str:
        """SHA-256 of the file, or of the digests of all files where it extends others."""
        return combined_digest([source.digest for source in self.sources])

    def position(self, *location: str | int) -> Place:
        """Where a key or list item is written: `position("rules", 1, "min")`; else what is around it."""
        return nearest(self.written.places, location)

    def anchor(self, *location: str | int) -> Place:
        """The same inside the policy's own file: what stands in another is anchored at `extends`."""
        place = self.position(*location)
        return place if place.path == self.path else self.position("extends")


def load_policy(reference: str | Path, *, baseline: str | None = None) -> LoadedPolicy:
    """Read a policy file, or a ready-made pack by its name, with all that it extends.

    Args:
        reference: Path of the file, or name of the pack.
        baseline: Model to compare with, in place of the policy's own.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: A file has faults; all of them, in the order of its lines.
        NothingEvaluatedError: The policy is well-formed and has no rule.
    """
    loaded = _loaded(_found(str(reference)), (), baseline)
    if not any(rule.enabled for rule in loaded.policy.rules):
        raise NothingEvaluatedError(
            f"{reference}: policy {loaded.policy.metadata.name!r} has no rules, so nothing is evaluated; "
            "write one under `rules`"
        )
    return loaded


def load_probe_spec(path: str | Path) -> Probe:
    """Read a YAML file that holds the keys of a policy's `probe` block.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: The file has faults; all of them, in the order of their lines.
    """
    source = read_source(path, "probe spec")
    tree = read(source.text)
    written = Written(tree.value if isinstance(tree.value, dict) else {}, _placed(tree.positions, source.path))
    return validated(Probe, tree, written, source.path)


def _found(reference: str) -> tuple[Path, str]:
    """The file of a policy, and how it is called: a pack by its name, unless a file of that name lies here."""
    pack = packs.named(reference)
    path = packs.path_of(pack[0]) if pack and not Path(reference).exists() else None
    return (path, reference) if path else (Path(reference), reference)


def _loaded(found: tuple[Path, str], above: tuple[Path, ...], baseline: str | None = None) -> LoadedPolicy:
    file, name = found
    source = read_source(file, "policy", name)
    tree = read(source.text)
    own = Written(tree.value if isinstance(tree.value, dict) else {}, _placed(tree.positions, name))
    bases, faults = _bases(own, file, name, above)
    if faults:
        raise PolicyError(tuple(sorted({*faults, *faults_of(Policy, tree, own, name, partial=True)}, key=_by_line)))
    written = own
    for base in reversed(bases):
        written = merged(base.written, written)
    if baseline is not None:
        written = _compared_with(baseline, written)
    policy = validated(Policy, tree, written, name)
    faults = [*_needless(policy, written, bases, name), *_looser(policy, written, bases)]
    if faults:
        raise PolicyError(tuple(sorted(set(faults), key=_by_line)))
    sources = {each.path: each for each in (source, *(more for base in bases for more in base.sources))}
    return LoadedPolicy(policy, written, tuple(sources.values()))


def _bases(own: Written, file: Path, name: str, above: tuple[Path, ...]) -> tuple[list[LoadedPolicy], list[Fault]]:
    """The policies that one extends, and the faults of their names; their own faults are raised as they are."""
    extends = own.value.get("extends", [])
    bases, faults = [], []
    for index, reference in enumerate(extends if isinstance(extends, list) else []):
        place = nearest(own.places, ("extends", index))
        found = _extended(reference, file)
        if isinstance(found, str):
            faults.append(Fault(name, place.line, place.column, f"extends.{index}: {found}"))
        elif found[0].resolve() in (*above, file.resolve()):
            message = f"extends.{index}: {reference!r} extends this policy in turn; take one of the two out"
            faults.append(Fault(name, place.line, place.column, message))
        else:
            bases.append(_loaded(found, (*above, file.resolve())))
    return bases, faults


def _extended(reference: object, file: Path) -> tuple[Path, str] | str:
    """File and name of what is extended, or what is wrong with the reference."""
    if not isinstance(reference, str):
        return f"should be a pack such as `classifier@1` or the path of a policy file, found {reference!r}"
    pack = packs.named(reference)
    if pack is None:
        path = file.parent / reference
        return (path, str(path)) if path.is_file() else f"there is no policy file {str(path)!r}"
    name, major = pack
    path_of_pack = packs.path_of(name)
    if path_of_pack is None:
        near = get_close_matches(name, packs.names(), n=1)
        offer = f"Did you mean `{near[0]}@1`?" if near else f"There are: {', '.join(packs.names())}."
        return f"there is no pack {name!r}. {offer}"
    there = read(path_of_pack.read_text(encoding="utf-8")).value
    version = str(there["metadata"]["version"]) if isinstance(there, dict) else ""
    current = f"write `{name}@{version.partition('.')[0]}`"
    if major is None:
        return f"names no version of the pack; {current}"
    if version.partition(".")[0] != major:
        return f"there is no version {major} of the pack {name!r}, this is {version}; {current}"
    return path_of_pack, reference


def _compared_with(uri: str, written: Written) -> Written:
    block = written.value.get("baseline")
    return Written(
        {**written.value, "baseline": {**(block if isinstance(block, dict) else {}), "uri": uri}}, written.places
    )


def _needless(policy: Policy, written: Written, bases: list[LoadedPolicy], name: str) -> Iterator[Fault]:
    """Permissions to be looser than nothing."""
    known = {rule.id for base in bases for rule in base.policy.rules}
    flags: list[tuple[Location, bool]] = [(("defaults", "override"), policy.defaults.override and not bases)]
    for index, rule in enumerate(policy.rules):
        flags.append((("rules", index, "override"), rule.override and rule.id not in known))
        flags.append((("rules", index, "enabled"), not rule.enabled and rule.id not in known))
    for location, needless in flags:
        place = nearest(written.places, location)
        if needless and place.path == name:
            where = ".".join(map(str, location))
            yield Fault(*place, f"{where}: this policy extends none with that rule, so there is nothing to override")


def _looser(policy: Policy, written: Written, bases: list[LoadedPolicy]) -> Iterator[Fault]:
    for base in bases:
        for location, what in loosened(base.policy, policy):
            where = ".".join(map(str, location))
            message = (
                f"{where}: loosens {base.path}, {what}; take it out, or write `override: true` and a `reason` beside it"
            )
            yield Fault(*nearest(written.places, location), message)


def _by_line(fault: Fault) -> tuple[str, int, int, str]:
    return fault.path, fault.line, fault.column, fault.message


def _placed(positions: Mapping[Location, tuple[int, int]], path: str) -> dict[Location, Place]:
    return {location: Place(path, *position) for location, position in positions.items()}


def read_source(path: str | Path, kind: str, name: str | None = None) -> Source:
    """The text of a YAML file.

    Args:
        path: Of the file.
        kind: What it should be, for messages ("policy").
        name: How it is called, its path when None.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: It is no text in UTF-8.
    """
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{kind} {str(path)!r} is a folder, expected a YAML file")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{kind} {str(path)!r} does not exist, expected a YAML file.{_similar_file(file)}") from None
    except OSError as error:
        raise UsageError(f"{kind} {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"not a text file: byte {content[error.start]:#04x} is not UTF-8; expected a YAML file in UTF-8"
        raise PolicyError((Fault(str(path), line, column, message),)) from None
    return Source(name or str(path), text, f"sha256:{sha256(content).hexdigest()}")


def _similar_file(file: Path) -> str:
    if not file.parent.is_dir():
        return f" There is no folder {str(file.parent)!r} either."
    near = get_close_matches(file.name, [each.name for each in file.parent.iterdir()], n=1)
    pack = get_close_matches(file.name, packs.names(), n=1) if file.parent == Path() else []
    offer = f"{file.parent / near[0]}" if near else f"{pack[0]}" if pack else None
    return f" Did you mean `{offer}`?" if offer else ""
