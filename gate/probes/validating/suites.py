"""Suites of Great Expectations that a user wrote, read strictly: whatever would pass without asking is refused."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gate.errors import RefusedProbeError
from gate.probes.validating.checks import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.probes.validating.checks import Severity

_BETWEEN = """
    expect_column_max_to_be_between expect_column_mean_to_be_between expect_column_median_to_be_between
    expect_column_min_to_be_between expect_column_proportion_of_non_null_values_to_be_between
    expect_column_proportion_of_unique_values_to_be_between expect_column_stdev_to_be_between
    expect_column_sum_to_be_between expect_column_unique_value_count_to_be_between
    expect_column_value_lengths_to_be_between expect_column_values_to_be_between expect_table_row_count_to_be_between
""".split()  # noqa: SIM905 - a list of words
_OTHERS = """
    expect_column_distinct_values_to_be_in_set expect_column_distinct_values_to_contain_set
    expect_column_distinct_values_to_equal_set expect_column_most_common_value_to_be_in_set
    expect_column_pair_values_a_to_be_greater_than_b expect_column_pair_values_to_be_equal
    expect_column_pair_values_to_be_in_set expect_column_value_lengths_to_equal
    expect_column_value_z_scores_to_be_less_than
    expect_column_values_to_be_dateutil_parseable expect_column_values_to_be_decreasing
    expect_column_values_to_be_in_set expect_column_values_to_be_increasing
    expect_column_values_to_be_json_parseable expect_column_values_to_be_null expect_column_values_to_be_unique
    expect_column_values_to_match_json_schema expect_column_values_to_match_regex
    expect_column_values_to_match_regex_list expect_column_values_to_match_strftime_format
    expect_column_values_to_not_be_in_set expect_column_values_to_not_be_null
    expect_column_values_to_not_match_regex expect_column_values_to_not_match_regex_list
    expect_compound_columns_to_be_unique expect_multicolumn_sum_to_equal expect_multicolumn_values_to_be_unique
    expect_select_column_values_to_be_unique_within_record expect_table_row_count_to_equal
""".split()  # noqa: SIM905 - a list of words
KINDS = frozenset((*_BETWEEN, *_OTHERS))
_LISTED = ", ".join(sorted(KINDS))

_SUITE_KEYS = {"name", "id", "expectations", "meta", "notes"}
_KEYS = {"type", "kwargs", "severity", "id", "meta", "notes", "description", "rendered_content"}
_REFUSED = {
    "row_condition": "conditions on rows are not supported: one that selects none would pass",
    "condition_parser": "conditions on rows are not supported: one that selects none would pass",
    "batch_id": "the batch is always the probe set",
    "result_format": "the gate chooses it",
    "catch_exceptions": "the gate chooses it",
    "windows": "windows are not supported",
}
_SEVERITIES: dict[str, Severity] = {"critical": "critical", "warning": "warning", "info": "warning"}
_COLUMN_KEYS = ("column", "column_A", "column_B")


def read_suite(path: str) -> tuple[list[Check], str]:
    """The expectations of a file, as checks of the rows, and its digest; their arguments are still to be looked at.

    Args:
        path: A suite as `ExpectationSuite.to_json_dict` gives it: a name and `expectations`, each with type and kwargs.

    Raises:
        RefusedProbeError: There is no such file, or it is no suite that asks for something; every fault.
    """
    content = _content(path)
    entries = _entries(path, _parsed(path, content))
    faults, checks = [], []
    for number, entry in enumerate(entries):
        found = list(_entry_faults(entry))
        faults += [f"{path}: expectations[{number}]{fault}" for fault in found]
        if not found:
            checks.append(_check(entry, number))
    if faults:
        raise RefusedProbeError(tuple(faults))
    return checks, f"sha256:{hashlib.sha256(content).hexdigest()}"


def columns_of(kwargs: Mapping[str, Any]) -> list[str]:
    """The columns that an expectation names."""
    one = [kwargs[key] for key in _COLUMN_KEYS if isinstance(kwargs.get(key), str)]
    several = kwargs.get("column_list")
    return [*one, *(several if isinstance(several, list) else [])]


def guards(checks: list[Check]) -> Iterator[Check]:
    """For every column that a suite names: that it has a value at all, which most expectations take for granted."""
    asked = [check for check in checks if check.type != "expect_column_values_to_be_null"]
    named = dict.fromkeys(column for check in asked for column in columns_of(check.kwargs))
    kind = "expect_column_proportion_of_non_null_values_to_be_between"
    for column in named:
        kwargs = {"column": column, "min_value": 0, "strict_min": True}
        words = f"column {column!r} has no value at all, so the suite asks nothing of it"
        yield Check("suite", column, "rows", kind, kwargs, words, which="has a value")


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror}; check probe.expectations.suite") from None


def _parsed(path: str, content: bytes) -> Any:  # noqa: ANN401 - read from JSON
    try:
        return json.loads(content, parse_constant=_refuse, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise _fault(f"{path}:{error.lineno}:{error.colno}", f"is no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _fault(path, f"is no suite in JSON: {error}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


def _entries(path: str, suite: Any) -> list[Any]:  # noqa: ANN401 - read from JSON
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise _fault(path, "should be a suite, {name: …, expectations: [{type: …, kwargs: …}, …]}")
    if strange := sorted(suite.keys() - _SUITE_KEYS):
        raise _fault(path, f"there is no key {strange[0]!r}; there are: {', '.join(sorted(_SUITE_KEYS))}")
    if not suite["expectations"]:
        raise _fault(path, "the suite holds no expectation, so it asks nothing; add one, or remove it from the policy")
    return list(suite["expectations"])


def _fault(where: str, message: str) -> RefusedProbeError:
    return RefusedProbeError((f"{where}: {message}",))


def _entry_faults(entry: Any) -> Iterator[str]:  # noqa: ANN401 - read from JSON
    if not isinstance(entry, dict) or not isinstance(entry.get("kwargs"), dict):
        yield ": should hold a type and kwargs"
        return
    for key in sorted(entry.keys() - _KEYS):
        yield f": there is no key {key!r}; there are: {', '.join(sorted(_KEYS))}"
    if entry.get("severity", "critical") not in _SEVERITIES:
        yield f".severity: is {entry['severity']!r}, expected {', '.join(_SEVERITIES)}"
    if entry.get("type") not in KINDS:
        kind = entry.get("type")
        yield f".type: {kind!r} is none of the expectations that are supported{_nearest(kind)}; there are: {_LISTED}"
    else:
        yield from _kwargs_faults(entry["type"], entry["kwargs"])


def _nearest(kind: object) -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(kind), KINDS, n=1, cutoff=0.9)  # a slip of the pen, and not another expectation
    return f"; did you mean {near[0]!r}?" if near else ""


def _kwargs_faults(kind: str, kwargs: Mapping[str, Any]) -> Iterator[str]:
    for key, value in kwargs.items():
        if key in _REFUSED:
            yield f".kwargs.{key}: {_REFUSED[key]}"
        elif value in ([], {}, ""):
            yield f".kwargs.{key}: is empty, so nothing is asked"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f".kwargs.{key}: is no finite number"
        elif isinstance(value, dict) and "$PARAMETER" in value:
            yield f".kwargs.{key}: parameters of a run are not supported; write the value"
    if kind in _BETWEEN and kwargs.get("min_value") is None and kwargs.get("max_value") is None:
        yield ".kwargs: has neither min_value nor max_value, so nothing is asked"
    if kwargs.get("mostly") == 0:
        yield ".kwargs.mostly: is 0, so nothing is asked"


def _check(entry: Mapping[str, Any], number: int) -> Check:
    kind, kwargs = entry["type"], entry["kwargs"]
    columns = columns_of(kwargs)
    of = f" of {', '.join(map(repr, columns))}" if columns else ""
    words = f"expectations[{number}]: {kind}{of} does not hold in {{rows}}"
    severity = _SEVERITIES[entry.get("severity", "critical")]
    which = f"[{number}] {kind.removeprefix('expect_')}"
    return Check("suite", ", ".join(columns), "rows", kind, kwargs, words, severity, which=which)
