# ruff: noqa: INP001 - a script beside the pages that it makes, not a package
"""The reference of the policy: `python -m docs.make_policy` writes `policy.md` and `policy-v1.schema.json`.

The text of the tables is that of the code: the docstring below every key.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.make_metrics import escaped, table
from gate.policy import json_schema
from gate.policy.expectations import Expectations, LengthBounds
from gate.policy.kinds import IN_WORDS
from gate.policy.reads import Attention, Depths, Layer, Layers, Output, Reads, Weights
from gate.policy.rules import OwnBounds, Relative, Rule, Slices, WorstGap
from gate.policy.schema import Baseline, Columns, Defaults, Metadata, Policy, Probe, Run, Scope
from gate.policy.transform import Transform
from gate.policy.waivers import Waiver
from gate.policy_tests.schema import Answer, Answers, Case, Expect, PolicyTests, Slice
from gate.probes.validating.suites import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from gate.policy.kinds import Keys

PAGE = Path(__file__).with_name("policy.md")
SCHEMA = Path(__file__).with_name("policy-v1.schema.json")

BLOCKS: dict[str, type[Keys]] = {
    "metadata": Metadata,
    "scope": Scope,
    "probe": Probe,
    "probe.columns": Columns,
    "probe.transform": Transform,
    "probe.expectations": Expectations,
    "probe.expectations.length": LengthBounds,
    "run": Run,
    "layers.NAME": Layer,
    "reads": Reads,
    "reads.NAME": Output,
    "reads.depths": Depths,
    "reads.tokens": Layers,
    "reads.attention": Attention,
    "reads.head": Weights,
    "defaults": Defaults,
    "baseline": Baseline,
    "rules[]": Rule,
    "rules[].relative": Relative,
    "rules[].slices": Slices,
    "rules[].slices.bounds.NAME": OwnBounds,
    "rules[].slices.worst_gap": WorstGap,
    "waivers[]": Waiver,
}  # where it stands → its keys, in the order of the page
TESTS: dict[str, type[Keys]] = {
    "tests[]": Case,
    "tests[].given.METRIC": Answers,
    "tests[].given.METRIC.layers.NAME": Answer,
    "tests[].slices.NAME": Slice,
    "tests[].expect": Expect,
}  # the same of a file of policy tests

HEAD = """\
# Policies

A policy is a YAML file that says what must hold of a model. `gate policy validate FILE` lists all of its faults at
once, each with line, column and what to write instead; `gate policy show FILE` prints what it comes to with all that it
extends; `gate policy test` holds it to what it must say of numbers that are written by hand ([Testing a
policy](#testing-a-policy)). `make reference` writes this page from the code, and a test fails when it is stale.

```yaml
# yaml-language-server: $schema=policy-v1.schema.json
apiVersion: gate/v1
kind: Policy
metadata: {name: text-encoder, version: "3.2.0", owner: search-quality}
probe:
  uri: probes/wiki-10k.parquet
  columns: {input: text, label: topic, id: id}
layers:
  embedding: {path: encoder.pooler, pooling: mean}
baseline: {uri: "@champion", when_absent: skip_relative}
rules:
  - id: rank
    metric: effective_rank.share
    layer: embedding
    min: 0.2
    relative: {max_drop: 5%}
    why: Below it the index needs twice the shards.
    fix: Check the projection head.
  - id: neighbours
    metric: knn_label_agreement
    layer: embedding
    slices: {by: [language], min: 0.72, min_rows: 200, required: [en, de, ja], worst_gap: {max: 0.1}}
    severity: warn
    enforce_from: 2027-01-15
waivers:
  - rule: neighbours
    model: models:/text-encoder/41
    slices: {language: ja}
    expires: 2027-12-31
    owner: kenji@acme.example
    reason: The new tokenizer halves what is covered of ja.
```

The first line is for editors: `gate policy schema` writes the schema, which is also
[policy-v1.schema.json](policy-v1.schema.json).

## How a rule is judged

The **whole interval** of a number is held against its bounds: inside both it passes, outside one it fails, across one
it is inconclusive. What cannot be measured is an error and never a pass. With many rules, some pass or fail by chance:
`defaults: {multiplicity: holm}` decides all of them at once at the confidence of the policy, and what is too weak for
that is inconclusive.

**Relative** rules ask how far the value may move against the baseline. Both models are measured on the same rows, and
the interval is that of the difference. `max_drop: 5%` is 5 % of the baseline's value, `max_drop: 0.02` an amount in the
unit of the metric; a percentage of zero is an error. A first version has nothing to be compared with:
`when_absent: skip_relative` leaves out what compares, and the evidence says so.

**Slices** cut the probe set by one column or several, and ask the same of each part: `min` and `max`, or `bounds` of
its own, a `relative` change, and how far the best and the worst may lie apart (`worst_gap`). Parts of fewer than
`min_rows` rows are listed and not judged; those that are `required` must have as many, or the rule is an error. A
metric is measured within the slice: neighbours, for one, are searched among its own rows, which are fewer and lie
farther apart. A number on a slice can therefore lie below that of the whole where nothing is wrong; choose its bound
from the slices of versions that you know to be good, not from the whole.

**Dates.** Until `enforce_from` a rule only warns, with a count of the days that are left. `severity: warn` never
blocks. Neither turns an error into a warning.

**Waivers** are for one version of a model, by its number or by the digest of its files, and end on a day. The rule is
still measured and shown, as waived; an error is never waived. One that has expired is ignored and listed, one that
matches nothing is noted.

## Extending packs and other policies

```yaml
# team.yaml
apiVersion: gate/v1
kind: Policy
metadata: {name: team, version: "1.0.0"}
extends: [classifier@1]
probe: {uri: probes/images.parquet, columns: {input: pixels, label: kind}}
layers:
  embedding: {path: encoder.pooler}
rules:
  - id: rank
    min: 0.3
  - id: neighbours
    min: 0.7
    override: true
    reason: The new classes are near each other; agreed in RQ-204.
```

`NAME@MAJOR` is a pack of the folder [policies](../policies), anything else the path of a policy, from the folder of the
one that names it (the `uri` of a probe set is looked up from the working folder, wherever the policy lies). They are
merged in their order, and the policy itself comes last:

- Keys are merged with keys at every depth, rules by their ids. Of numbers, texts and lists the last one counts.
- Waivers are added to those that are there. `metadata` and `scope` are each file's own.
- A policy may be **stricter** freely. Whatever would let pass what an extended policy stops is refused, with its line:
  a lower `min`, a larger margin, fewer slices, a later date, a weaker severity, another question, less confidence, a
  comparison that is left out, another baseline or another layer of it (`models:/NAME@champion` is `@champion` where
  NAME is the one model of the scope). `override: true` and
  a `reason` in the same rule, or in the same block `defaults`, `baseline` or `expectations`, allow it. Both are for
  this policy alone: one that extends it is held against what it made of the rule.
- `enabled: false`, with an override, switches a rule off. Reports still list it, with the reason.
- `run`, `layers`, `reads` and `probe` say where things are, and are not compared, apart from `probe.expectations`.

## Layers, tokens and outputs

`gate layers MODEL_URI --probe probe.yaml` lists the layers of a model, what each gives and the poolings that suit it. A
policy names those that its rules are about under `layers`. What metrics read besides stands under `reads`: states of
tokens, logits, the weights of the head, earlier layers, attention maps. `gate metrics --needs tokens` lists the metrics
that read one of these. This policy is for a sentence encoder:

```yaml
# encoder.yaml
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe: {uri: sentences.parquet, columns: {input: text, label: topic}}
layers:
  sentence: {path: encoder.layer.5, pooling: mean}  # the mean of the states of real tokens
reads:
  tokens: {paths: [encoder.layer.0, encoder.layer.2, encoder.layer.5]}  # from shallow to deep
rules:
  - id: topics
    metric: knn_label_agreement
    layer: sentence
    min: 0.7
  - id: smoothing
    metric: token_mean_cosine  # of the last of `tokens`
    layer: sentence
    max: 0.9
```

## Vectors that you already have

Vectors need no model: `gate check features:PATH` takes them from a `.npy`, `.npz` or `.parquet` file. The policy still
names its probe set, which may be the same file. A `.npy` file is one array (n, d), and its column is called `features`.
With it, and this policy, `gate check features:vectors.npy -p vectors.yaml` judges them:

```yaml
# vectors.yaml
apiVersion: gate/v1
kind: Policy
metadata: {name: vectors, version: "1.0.0"}
probe: {uri: vectors.npy, columns: {input: features}}
rules:
  - id: rank
    metric: effective_rank.share
    min: 0.2
```

What else is known of the rows stands beside the vectors, in a `.npz` file or in a Parquet file whose column `features`
holds a list for each row:

```python
import numpy as np

np.savez("vectors.npz", features=vectors, label=labels, id=ids)  # (n, d), and n of each
```

```yaml
# labelled.yaml
apiVersion: gate/v1
kind: Policy
metadata: {name: labelled, version: "1.0.0"}
probe: {uri: vectors.npz, columns: {input: features, label: label, id: id}}  # or vectors.parquet
layers:
  embedding: {path: output}
rules:
  - id: rank
    metric: effective_rank.share
    layer: embedding
    min: 0.2
  - id: neighbours
    metric: knn_label_agreement
    layer: embedding
    min: 0.8
```

It is run with `gate check features:vectors.npz -p labelled.yaml`. The only layers of vectors are `input` and `output`,
which are the same; a rule without `layer` asks about `output`, and a pack is told with `layers`, as above. The vectors
of another version may lie in a file of their own, one for each row of the probe set, in its order and with its ids.

## Text, numbers and dates

YAML 1.2: `no` and `on` are words, `1e-3` is a number, a key that is given twice is a fault. Put versions and all text
that looks like a number into quotes: a bare `3.10` is the number 3.1. A number in quotes is text, and no bound; `true`
is no number; not-a-number and infinity are refused everywhere. Days are written `2027-01-31` and are those of UTC.
Values that begin with `@`, `*` or `%` need quotes.
"""


TESTING = """\
## Testing a policy

`gate policy test [PATH]...` runs the files `NAME.test.yaml` below a folder. Each names a policy and holds **policy
tests**: what was measured, written by hand, and what the policy must say of it. No model is loaded, so they run in a
second in a pull request, and a bound that someone moves by mistake fails one of them. The exit code is 0 when all
passed, 1 when one failed, 2 when a file has faults and 5 when there are none.

With the policy at the top of this page as `policy.yaml`, this beside it is all right:

```yaml
# policy.test.yaml
kind: PolicyTests
policy: policy.yaml                   # by its path from here, or a pack such as classifier@1
tests:
  - name: A healthy version passes
    date: 2027-02-01                  # needed where the policy has dates or waivers
    given:
      effective_rank.share: {value: 0.3, interval: [0.29, 0.31]}
    baseline:
      effective_rank.share: {value: 0.302, interval: [0.292, 0.312]}
    change:                           # paired, so narrower than the two intervals tell
      effective_rank.share: {value: -0.002, interval: [-0.004, 0]}
    slices:
      language=en: {rows: 4000, given: {knn_label_agreement: {value: 0.84, interval: [0.83, 0.85]}}}
      language=de: {rows: 2000, given: {knn_label_agreement: {value: 0.82, interval: [0.8, 0.84]}}}
      language=ja: {rows: 900, given: {knn_label_agreement: {value: 0.8, interval: [0.78, 0.82]}}}
      language=sw: {rows: 40, given: {knn_label_agreement: {value: 0.6, interval: [0.4, 0.8]}}}  # below min_rows
    expect: {status: passed, exit_code: 0, fail: [], warn: []}

  - name: A drop against the baseline is blocked, though the rank keeps its bound
    date: 2027-02-01
    given: {effective_rank.share: {value: 0.25, interval: [0.24, 0.26]}}
    baseline: {effective_rank.share: {value: 0.3, interval: [0.29, 0.31]}}
    expect: {pass: [rank], fail: [rank (relative)]}

  - name: Without a baseline only the bound is asked for, and an interval across it decides nothing
    date: 2027-02-01
    no_baseline: this is the first version
    given: {effective_rank.share: {value: 0.21, interval: [0.19, 0.23]}}
    expect: {inconclusive: [rank], not_evaluated: [rank (relative)]}

  - name: Too few rows for a number decide nothing either
    date: 2027-02-01
    no_baseline: this is the first version
    given: {effective_rank.share: {status: inconclusive, reason: "few_rows: 20 rows; it needs at least 30"}}
    expect: {inconclusive: [rank], fail: []}

  - name: What is low for ja only warns, and is waived for version 41
    date: 2027-02-01
    model: models:/text-encoder/41
    slices:
      language=ja: {rows: 900, given: {knn_label_agreement: {value: 0.6, interval: [0.58, 0.62]}}}
    expect: {waived: ["neighbours[language=ja]"], warn: []}
```

What a rule asks for and a test does not give was not measured: an error of that rule. A test that is about one rule
gives only what this rule needs, and says in `expect` only what becomes of that rule: `fail: [rank]` means that `rank`
fails and nothing else does, and leaves open which rules are errors. An interval counts as that of the level at which
the rule is judged.
"""


def page() -> str:
    """The page."""
    of_tests = json_schema.tidied(PolicyTests.model_json_schema(by_alias=True))
    blocks = [HEAD, "## Keys of a policy\n", *tables(Policy, json_schema.policy_schema(), BLOCKS)]
    blocks += [TESTING, "### Keys of a file of policy tests\n", *tables(PolicyTests, of_tests, TESTS)]
    return "\n".join(blocks)


def tables(file: type[Keys], schema: dict[str, Any], blocks: dict[str, type[Keys]]) -> Iterator[str]:
    """The table of a file, and a section for each of its blocks."""
    yield keys(file, schema, "")
    for place, model in blocks.items():
        yield f"### `{place}`\n"
        yield f"{escaped(described(model))}\n"
        yield keys(model, schema["$defs"][model.__name__], place)
        if model is Expectations:
            listed = ", ".join(f"`{kind}`" for kind in sorted(KINDS))
            yield f"A `suite` may hold these expectations of Great Expectations: {listed}.\n"


def keys(model: type[Keys], schema: dict[str, Any], place: str) -> str:
    """The table of a block, those keys first that it must have."""
    fields = sorted(model.model_fields.items(), key=lambda item: not item[1].is_required())
    rows = [row(field.alias or name, field, schema["properties"][field.alias or name], place) for name, field in fields]
    return table(("Key", "What it holds", "Default", "What it is"), rows)


def row(key: str, field: FieldInfo, schema: dict[str, Any], place: str) -> tuple[str, str, str, str]:
    """One key."""
    where = f"{place}.{key}" if place else key
    default = "required" if field.is_required() else f"`{schema['default']}`" if "default" in schema else "-"
    return f"`{key}`", in_words(schema, where), lowered(default), escaped(described_field(field))


def in_words(schema: dict[str, Any], where: str) -> str:
    """What a value may be."""
    if "$ref" in schema:
        return link(where)
    if "anyOf" in schema:
        return " or ".join(in_words(each, where) for each in schema["anyOf"] if each != {"type": "integer"})
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "a [metric](metrics.md)" if where == "rules[].metric" else one_of(schema["enum"])
    return of_type(schema, where)


def of_type(schema: dict[str, Any], where: str) -> str:
    """What a value may be that is not one of a few."""
    match schema["type"]:
        case "array":
            return of_list(schema, where)
        case "object":
            inner = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
            return f"names, each with {in_words(inner, f'{where}.NAME')}"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return text(schema)
        case number:
            return f"{'a whole number' if number == 'integer' else 'a number'}{limits(schema)}"


def of_list(schema: dict[str, Any], where: str) -> str:
    """What a list may hold."""
    if "prefixItems" in schema:
        return f"a list of {len(schema['prefixItems'])} numbers"
    if "$ref" in schema["items"]:
        return f"a list of {link(f'{where}[]')}"
    each = in_words(schema["items"], where)
    return "a list of text" if each == "text" else f"a list, each entry {each}"


def text(schema: dict[str, Any]) -> str:
    """What a text may be."""
    if schema.get("format") == "date":
        return "a day, `2027-01-31`"
    if "pattern" in schema:
        return IN_WORDS[schema["pattern"]].removesuffix(" that is not empty")
    least = schema.get("minLength", 1)
    return f"text of at least {least} characters" if least > 1 else "text"


def limits(schema: dict[str, Any]) -> str:
    """Smallest and largest number."""
    words = {"exclusiveMinimum": "more than", "minimum": "at least", "maximum": "at most"}
    return "".join(f", {word} {schema[key]}" for key, word in words.items() if key in schema)


def one_of(allowed: list[str]) -> str:
    """A choice."""
    *others, last = (f"`{each}`" for each in allowed)
    return f"{', '.join(others)} or {last}"


def link(where: str) -> str:
    """To the section of a block; what slices share with a rule or a test, and what was measured, has one section."""
    where = where.replace("slices.relative", "relative").replace("tests[].slices.NAME.", "tests[].")
    where = where.replace("reads.codebook", "reads.head")
    where = re.sub(r"^tests\[\]\.(?:given|baseline|change)\.NAME", "tests[].given.METRIC", where)
    where = where if where in BLOCKS or where in TESTS else re.sub(r"\.\w+$", ".NAME", where).replace("baseline.", "")
    return f"[keys](#{re.sub(r'[^a-z_]', '', where.lower())})"


def described(model: type[Keys]) -> str:
    """What a block is."""
    return str(model.__doc__)


def described_field(field: FieldInfo) -> str:
    """What a key is, on one line."""
    return str(field.description).replace("\n", " ")


def lowered(default: str) -> str:
    """A default as YAML has it."""
    return default.replace("True", "true").replace("False", "false")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(json_schema.render(), encoding="utf-8")
