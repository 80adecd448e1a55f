"""The keys of a policy file, and what each of them may hold.

Keys are closed sets, numbers are strict, and a value that a later version will understand is refused by name: a bound
that is ignored is a bound that passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StringConstraints, ValidationInfo, model_validator

from gate.policy.consistency import policy_faults
from gate.policy.expectations import Expectations
from gate.policy.kinds import (
    BYTES,
    LARGEST_SEED,
    SECONDS,
    VERSION,
    Address,
    BatchSize,
    ColumnNames,
    ColumnsByName,
    Count,
    Digest,
    Duration,
    Keys,
    Memory,
    Name,
    OptionalColumnNames,
    OptionalSeveralNames,
    Permission,
    Severity,
    Text,
    as_faults,
    not_yet,
)
from gate.policy.reads import Layer, Reads
from gate.policy.rules import Rule
from gate.policy.transform import Transform
from gate.policy.waivers import Waiver

MOST_CONFIDENCE = 0.9999  # an interval of more says little, and the quantile of 1 is infinite


class Metadata(Keys):
    """What the policy is called, and whose it is."""

    name: Name
    """Name of the policy."""
    version: Annotated[str, StringConstraints(pattern=VERSION)]
    """In quotes: YAML reads a bare 3.10 as 3.1."""
    owner: Text | None = None
    """Who answers for it."""
    description: Text | None = None
    """What it is for."""


class Scope(Keys):
    """Which models the policy is for, and how strictly it is enforced where."""

    models: Annotated[tuple[Text, ...], Field(min_length=1)] = ("*",)
    """Names of registered models, or patterns such as `text-encoder-*`; a model that none matches is an error."""
    aliases: dict[Name, Severity] = Field(default_factory=dict)
    """Alias → `warn` or `block`: with `warn`, a check of a model by that alias blocks nothing."""


class Columns(Keys):
    """Which columns of the probe set hold what."""

    input: ColumnNames
    """What the model is shown: one column of numbers, lists, texts or pictures, or several. Columns of numbers alone
    are one row of numbers; of any others, the model is shown each by its name."""
    label: Text | None = None
    """Class of each row; rows out of distribution need one too, such as `none`, which is not counted."""
    group: Text | None = None
    """Site, device or batch of each row."""
    length: Text | None = None
    """Tokens or seconds of each row."""
    id: Text | None = None
    """Unique name of each row."""
    cluster: Text | None = None
    """Rows of one cluster are not independent: intervals widen."""
    sublabel: Text | None = None
    """Subclass of each row."""
    target: OptionalColumnNames = None
    """Continuous targets, one column or several."""
    pair: OptionalColumnNames = None
    """A second view of each input, of the same kind: as many columns as `input` has, in its order."""
    split: Text | None = None
    """What each row is for: `probe`, `reference` or `ood`."""
    tasks: ColumnsByName = None
    """Further classes: task → column, or a list of columns that are the names of their tasks."""
    attributes: OptionalSeveralNames = None
    """Further categories, one column or several."""
    cue: Text | None = None
    """Category of what may be a shortcut to the class, such as the background."""
    pretext: Text | None = None
    """Class in the task that the model was trained on, where that is another."""

    @property
    def given(self) -> frozenset[str]:
        """The keys that name a column."""
        return frozenset(key for key, name in self if name is not None)


class Probe(Keys):
    """The fixed inputs that the model is shown."""

    uri: Address
    """A .parquet, .csv, .jsonl, .npz, .npy or .safetensors file, or a folder of pictures with `metadata.csv` or class
    folders: a path, looked up from the working folder; a URL of any place that fsspec reads, such as `s3://` or
    `https://`; `runs:/RUN/path`; or `dataset:/RUN/NAME`, an input dataset of an MLflow run."""
    columns: Columns
    """Which columns hold what."""
    digest: Digest | None = None
    """Of the columns that are named here; a probe set with another content is an error. It does not hold the columns by
    which slices alone cut the rows."""
    slices_digest: Digest | None = None
    """The same with these columns: rows that are cut otherwise are an error."""
    shape: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Shape of one input row, where the file holds flat ones."""
    transform: Transform | None = None
    """What is done to the pictures that the model is shown; the digest of a probe set depends on it."""
    expectations: Expectations = Expectations()
    """What it must be before anything is measured; without this key, what the pack `basic` asks for."""

    @property
    def written(self) -> dict[str, Any]:
        """The keys that are given, as a file has them."""
        asked = self.expectations.written
        rest = self.model_dump(exclude_none=True, mode="json", exclude={"expectations"})
        return {**rest, **({"expectations": asked} if asked else {})}


class Run(Keys):
    """How the model is run."""

    seed: Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)] = 0
    """Of the hash that picks the sampled rows."""
    precision: Annotated[
        Literal["float32", "bfloat16", "autocast"], not_yet("float64", "float16", known="float32, bfloat16, autocast")
    ] = "float32"
    """Of the model's arithmetic: `bfloat16` converts the model, `autocast` mixes both as torch chooses."""
    batch_size: BatchSize = "auto"
    """Rows that the model is shown at once; `auto`: 256, 64 texts, and half of it as often as memory runs out."""
    isolation: Literal["process", "none"] = "process"
    """`process`: the model is loaded and runs in a process of its own, without credentials, network or files beyond its
    own; `none`: in that of the gate."""
    timeout: Duration = "1h"
    """How long the model may take, such as `20m`; `isolation: process` alone can keep to it."""
    memory: Memory | None = None
    """How much memory the model may take, such as `8GB`; by default seven eighths of what the machine has."""
    allow_pickle: StrictBool = False
    """Whether a pickled model may be loaded, which runs its code."""
    allow_code: StrictBool = False
    """Whether Python files of the model may run: models from code, and a folder `code`."""

    @property
    def seconds(self) -> float:
        """The timeout."""
        return float(self.timeout[:-1]) * SECONDS[self.timeout[-1]]

    @property
    def bytes(self) -> int | None:
        """The memory."""
        return None if self.memory is None else int(float(self.memory[:-2]) * BYTES[self.memory[-2:]])


class Baseline(Keys):
    """The version that the candidate is compared with, on the same rows."""

    uri: Text
    """`models:/NAME@ALIAS`, `models:/NAME/VERSION`, …, or `@ALIAS`: the version of the same model with that alias."""
    when_absent: Literal["error", "skip_relative"] = "error"
    """What to do where the registry knows no such version, or it is the candidate itself: stop, or leave out what
    compares with it, which the evidence then says."""
    layers: dict[Name, Layer] = Field(default_factory=dict)
    """Where the baseline has another path to a layer of the policy."""
    reason: Text | None = None
    """Why it is looser than that of a policy that this one extends; needed with `override`."""
    override: Permission = False
    """Lets it be looser: compare with another version or layer, or leave out what compares where the other stops."""


class Defaults(Keys):
    """What holds for every rule that does not say otherwise."""

    confidence: Annotated[float, Field(strict=True, gt=0.5, le=MOST_CONFIDENCE)] = 0.95
    """Two-sided level of the intervals."""
    inconclusive: Literal["block", "warn", "pass"] = "block"
    """What an interval across a bound does: `block`; `warn`; `pass` counts the rule as not evaluated."""
    severity: Severity = "block"
    """Of rules that name none."""
    multiplicity: Literal["none", "holm"] = "none"
    """`holm`: decisions hold for all rules at once at this level, and weaker ones are inconclusive (Holm 1979)."""
    reason: Text | None = None
    """Why these are looser than those of a policy that this one extends; needed with `override`."""
    override: Permission = False
    """Lets them be looser."""


class Policy(Keys):
    """A whole policy file."""

    api_version: Literal["gate/v1"] = Field(alias="apiVersion")
    """Version of this format."""
    kind: Literal["Policy"]
    """What the file is."""
    metadata: Metadata
    """What the policy is called, and whose it is."""
    extends: tuple[Text, ...] = ()
    """Packs, `NAME@MAJOR`, and policy files by their path from this one, that it adds to; merged in order."""
    scope: Scope = Scope()
    """Which models it is for."""
    probe: Probe | None = None
    """The fixed inputs that the model is shown."""
    run: Run = Run()
    """How the model is run."""
    layers: dict[Name, Layer] = Field(default_factory=dict)
    """Name → where features are read."""
    reads: Reads = Reads()
    """What metrics may read of the model besides."""
    defaults: Defaults = Defaults()
    """What holds for every rule that does not say otherwise."""
    baseline: Baseline | None = None
    """The version to compare with."""
    rules: tuple[Rule, ...] = ()
    """What must hold."""
    waivers: tuple[Waiver, ...] = ()
    """Exceptions for one version and for a time."""

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_severity(cls, data: object) -> object:
        """Give `defaults.severity` to the rules that name none."""
        defaults = data.get("defaults") if isinstance(data, Mapping) else None
        severity = defaults.get("severity") if isinstance(defaults, Mapping) else None
        if not isinstance(data, Mapping) or severity not in ("block", "warn"):
            return data
        rules = data.get("rules")
        if not isinstance(rules, list | tuple):
            return data
        filled = [{"severity": severity, **rule} if isinstance(rule, Mapping) else rule for rule in rules]
        return {**data, "rules": filled}

    @model_validator(mode="after")
    def _parts_fit_together(self, info: ValidationInfo) -> Self:
        if not (info.context and "parts" in info.context) and (faults := policy_faults(self.model_dump(by_alias=True))):
            raise as_faults(faults)
        return self
