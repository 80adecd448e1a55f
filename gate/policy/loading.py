"""Policy files: read, merged with what they extend, validated; refused with every fault at once and its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gate.errors import NothingEvaluatedError, PolicyError, UsageError
from gate.policy.extending import Found, extended, find
from gate.policy.files import Source, read_source
from gate.policy.loosening import loosened, needless
from gate.policy.merging import Place, Written, combined_digest, merged
from gate.policy.packs import named
from gate.policy.reading import read
from gate.policy.schema import Policy, Probe
from gate.policy.validation import fault_at, faults_of, refusal, validated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from gate.errors import Fault
    from gate.policy.kinds import Location
    from gate.policy.validation import Model

__all__ = ["LoadedPolicy", "Source", "load_beside", "load_keys", "load_policy", "load_probe_spec", "read_source"]


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
        return self.written.place(location)

    def anchor(self, *location: str | int) -> Place:
        """The same inside the policy's own file: what stands in another is anchored at the rule, or at `extends`."""
        return self.written.anchor(location)


def load_policy(reference: str | Path, *, baseline: str | None = None) -> LoadedPolicy:
    """Read a policy file, or a ready-made pack by its name, with all that it extends.

    Args:
        reference: Path of the file, or name of the pack.
        baseline: Model to compare with, in place of the policy's own.

    Raises:
        UsageError: There is no such file or version of a pack, or it cannot be read.
        PolicyError: Files have faults; all of them, in the order of their lines.
        NothingEvaluatedError: The policy is well-formed, and no rule of it is switched on.
    """
    found = find(str(reference))
    loaded = _loaded(found, (), baseline)
    if found.major and (fault := found.version_fault(loaded.policy.metadata.version)):
        raise UsageError(fault)
    if not any(rule.enabled for rule in loaded.policy.rules):
        lack = "no rule that is switched on" if loaded.policy.rules else "no rules"
        raise NothingEvaluatedError(
            f"{reference}: policy {loaded.policy.metadata.name!r} has {lack}, so nothing is evaluated; "
            "write one under `rules`"
        )
    return loaded


def load_probe_spec(path: str | Path) -> Probe:
    """Read a YAML file that holds the keys of a policy's `probe` block.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: The file has faults; all of them, in the order of their lines.
    """
    return load_keys(Probe, path, "probe spec")[0]


def load_keys(model: type[Model], path: str | Path, kind: str) -> tuple[Model, Written]:
    """Read a YAML file of any kind.

    Args:
        model: Its keys.
        path: Of the file.
        kind: What it should be, for messages ("policy tests").

    Returns:
        The file, and its keys with their places.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: The file has faults; all of them, in the order of their lines.
    """
    source = read_source(path, kind)
    tree = read(source.text)
    written = _written(tree.value, tree.positions, source.path)
    return validated(model, tree, written), written


def load_beside(reference: str, folder: Path) -> LoadedPolicy:
    """The policy that another file names: a pack by its name, anything else by its path from the folder of that file.

    Args:
        reference: As it is written there.
        folder: Of the file.

    Raises:
        UsageError: As of `load_policy`.
        PolicyError: As of `load_policy`.
        NothingEvaluatedError: As of `load_policy`.
    """
    beside = folder / reference
    return load_policy(reference if named(reference) and not beside.exists() else beside)


def _loaded(found: Found, above: tuple[Path, ...], baseline: str | None = None) -> LoadedPolicy:
    source = read_source(found.file, "policy", found.name)
    tree = read(source.text)
    own = _written(tree.value, tree.positions, found.name)
    bases, faults = _bases(own, (*above, found.file))
    if faults or (tree.problems and "extends" in own.value) or not _is_list_of_texts(own.value.get("extends", [])):
        raise refusal({*faults, *faults_of(Policy, tree, own, partial=True)})
    written = own
    for base in reversed(bases.values()):
        written = merged(base.written, written)
    entries = {each.path: entry for entry, base in reversed(bases.items()) for each in base.sources}
    written = _compared_with(baseline, replace(written, entries=entries))
    policy = validated(Policy, tree, written)
    if faults := list(_against(policy, written, own, bases.values(), asked=baseline)):
        raise refusal(faults)
    sources = {each.path: each for each in (source, *(more for base in bases.values() for more in base.sources))}
    return LoadedPolicy(policy, written, tuple(sources.values()))


def _bases(own: Written, by: tuple[Path, ...]) -> tuple[dict[int, LoadedPolicy], list[Fault]]:
    """The policies that one extends, by the number of their entry; and all faults of theirs and of the entries."""
    bases: dict[int, LoadedPolicy] = {}
    faults: list[Fault] = []
    extends = own.value.get("extends", [])
    for entry, reference in enumerate(extends if isinstance(extends, list) else []):
        try:
            base = _base(reference, by) if isinstance(reference, str) else None
        except PolicyError as error:
            faults += error.faults
            continue
        if isinstance(base, str):
            faults.append(fault_at(own, ("extends", entry), base))
        elif base is not None:
            bases[entry] = base
    return bases, faults


def _base(reference: str, by: tuple[Path, ...]) -> LoadedPolicy | str:
    """What an entry of `extends` means, or what is wrong with the entry."""
    found = extended(reference, by)
    if isinstance(found, str):
        return found
    loaded = _loaded(found, by)
    return found.version_fault(loaded.policy.metadata.version) or loaded


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _compared_with(uri: str | None, written: Written) -> Written:
    """The same with another baseline, which must be there. A block that is none stays, and is a fault."""
    block = written.value.get("baseline", {})
    if uri is None or not isinstance(block, dict):
        return written
    return replace(written, value={**written.value, "baseline": {**block, "uri": uri, "when_absent": "error"}})


def _against(
    policy: Policy, written: Written, own: Written, bases: Collection[LoadedPolicy], *, asked: str | None
) -> Iterator[Fault]:
    """What may not be, beside what the policy extends; a baseline that was asked for in place of theirs may."""
    for location, message in needless([base.policy for base in bases], policy, own.value):
        yield fault_at(written, location, message)
    for base in bases:
        for location, what in loosened(base.policy, policy, written.value):
            if asked is not None and location == ("baseline", "uri"):
                continue
            block = "rule" if location[0] == "rules" else f"`{_block(location)}` block"
            advice = f"take it out, or write `override: true` and a `reason` in this {block}"
            yield fault_at(written, location, f"loosens {base.path}, {what}; {advice}")


def _block(location: Location) -> object:
    return "expectations" if location[0] == "probe" else location[0]


def _written(value: object, positions: Mapping[Location, tuple[int, int]], path: str) -> Written:
    places = {location: Place(path, *position) for location, position in positions.items()}
    return Written(value if isinstance(value, dict) else {}, places)
