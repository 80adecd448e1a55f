"""Great Expectations behind guards: the only module that imports it, silently and when something is to be checked.

By itself it passes a suite without expectations, an empty frame and a column of nulls, and returns an exception as one
more result. None of these passes here.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

from gate.errors import ProbeError
from gate.probes.validating.pages import RUN_TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.datasource.fluent.pandas_datasource import PandasDatasource

    from gate.probes.validating.checks import Check
    from gate.probes.validating.facts import Frame, FrameName

SHOWN = 5  # rows at fault
_RESULT = {"result_format": "SUMMARY", "partial_unexpected_count": SHOWN}
_NEEDS_NULLS = "expect_column_values_to_be_null"
_NEEDS_SPREAD = "expect_column_value_z_scores_to_be_less_than"
_COUNTS_ROWS = ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal")


@dataclass(frozen=True)
class Outcome:
    """What became of one check.

    Attributes:
        holds: Whether the expectation is met.
        count: Rows of the frame at fault, None where the expectation is about the frame as a whole.
        places: The first of them, by their number in the frame.
        observed: What was found in the frame as a whole.
        error: Why it could not be checked; None where it was.
    """

    holds: bool
    count: int | None = None
    places: tuple[int, ...] = ()
    observed: Any = None
    error: str | None = None


def evaluate(frames: Mapping[FrameName, Frame], checks: Sequence[Check]) -> list[Outcome]:
    """The outcome of every check, in their order.

    Raises:
        ProbeError: There is no check, or Great Expectations left one out.
    """
    if not checks:
        raise ProbeError("nothing is expected of the probe set, so nothing is known of it; ask for something")
    found: dict[int, Outcome] = {}
    with _quiet():
        context = _context()
        source = context.data_sources.add_pandas("probe")
        for name in dict.fromkeys(check.frame for check in checks):
            numbered = {number: check for number, check in enumerate(checks) if check.frame == name}
            found |= _evaluated(source, name, frames[name], numbered)
        context.data_sources.delete("probe")  # which holds the frames for as long as the process runs
    if missing := [check.name for number, check in enumerate(checks) if number not in found]:
        raise ProbeError(f"Great Expectations gave no result for {', '.join(missing)}; nothing was decided")
    return [found[number] for number in range(len(checks))]


def argument_fault(kind: str, kwargs: Mapping[str, Any]) -> str | None:
    """What is wrong with the arguments of an expectation; None when nothing is.

    Args:
        kind: A stock expectation, `expect_column_values_to_be_unique`.
        kwargs: As a suite has them.
    """
    with _quiet():
        from great_expectations.compatibility import pydantic

        try:
            _expectation(kind, kwargs)
        except pydantic.ValidationError as error:
            faults = {f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()}
            return "; ".join(sorted(faults)).replace("__root__: ", "")
    return None


def version() -> str:
    """Of Great Expectations."""
    from importlib.metadata import version

    return version("great-expectations")


def write_pages(frames: Mapping[FrameName, Frame], checks: Sequence[Check], folder: Path, *, run: str) -> None:
    """Data Docs of the same checks, as Great Expectations writes them.

    Args:
        frames: Of facts.
        checks: What they are held against.
        folder: Where the pages go; index.html is the first.
        run: Name of the run: the same for the same probe set.
    """
    with _quiet(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        context = _context()
        context.delete_data_docs_site("local_site")
        context.add_data_docs_site("gate", _site(folder))
        source = context.data_sources.add_pandas("probe")
        for name in dict.fromkeys(check.frame for check in checks):
            numbered = {number: check for number, check in enumerate(checks) if check.frame == name}
            _run_checkpoint(context, source, name, frames[name], numbered, run)
        context.build_data_docs()


def _site(folder: Path) -> Any:  # noqa: ANN401 - a typed mapping that Great Expectations keeps to itself
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    buttons = {"show_how_to_buttons": False}
    return {"class_name": "SiteBuilder", "store_backend": backend, "site_index_builder": index, **buttons}


def _run_checkpoint(
    context: EphemeralDataContext,
    source: PandasDatasource,
    name: FrameName,
    frame: Frame,
    checks: Mapping[int, Check],
    run: str,
) -> None:
    import great_expectations as gx
    import pandas as pd

    definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    expectations = [_expectation(check.type, check.kwargs, number, check) for number, check in checks.items()]
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    validation = gx.ValidationDefinition(name=name, data=definition, suite=suite)
    checkpoint = gx.Checkpoint(
        name=name, validation_definitions=[context.validation_definitions.add(validation)], result_format=_RESULT
    )
    identity = gx.RunIdentifier(run_name=run, run_time=datetime.fromisoformat(RUN_TIME))
    context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": pd.DataFrame(dict(frame))}, run_id=identity)


def _evaluated(
    source: PandasDatasource, name: FrameName, frame: Frame, checks: Mapping[int, Check]
) -> dict[int, Outcome]:
    import great_expectations as gx
    import pandas as pd

    table = pd.DataFrame(dict(frame))
    definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    expectations = [_expectation(check.type, check.kwargs, number, check) for number, check in checks.items()]
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    result = definition.get_batch({"dataframe": table}).validate(suite, result_format=_RESULT)
    outcomes = {}
    for each in result.results:
        meta = each.expectation_config.meta if each.expectation_config else None
        if meta is None or "check" not in meta:
            continue  # which is then found missing
        number = meta["check"]
        outcomes[number] = _outcome(each, checks[number].type, len(table))
    equal = Outcome(holds=False, error="all values are equal, so that none has a z-score")
    return outcomes | {number: equal for number in outcomes if _lacks_spread(checks[number], table)}


def _lacks_spread(check: Check, table: pd.DataFrame) -> bool:
    """Whether an expectation would divide by a standard deviation of 0, and pass for it."""
    column = check.kwargs.get("column")
    return check.type == _NEEDS_SPREAD and column in table and table[column].nunique() == 1


def _outcome(result: Any, kind: str, rows: int) -> Outcome:  # noqa: ANN401 - of Great Expectations
    found = result.result or {}
    if error := _raised(result.exception_info):
        return Outcome(holds=False, error=error)
    if (not rows and kind not in _COUNTS_ROWS) or found.get("element_count") == 0:
        return Outcome(holds=False, error="there is nothing to check")
    if kind != _NEEDS_NULLS and found.get("missing_count") and found["missing_count"] == found.get("element_count"):
        return Outcome(holds=False, error="every value is missing, so there is nothing to check")
    places = tuple(at for at in found.get("partial_unexpected_index_list") or () if isinstance(at, int))
    return Outcome(result.success is True, found.get("unexpected_count"), places, found.get("observed_value"))


def _raised(info: Mapping[str, Any] | None) -> str | None:
    """What was raised while a check was made; it stands flat, or below the name of a metric."""
    entries = [info or {}, *(each for each in (info or {}).values() if isinstance(each, dict))]
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "an exception without a message").strip().splitlines()[0]
    return None


def _expectation(kind: str, kwargs: Mapping[str, Any], number: int = 0, check: Check | None = None) -> Any:  # noqa: ANN401
    import great_expectations.expectations as gxe

    name = "".join(word.capitalize() for word in kind.split("_"))
    severity = "critical" if check is None else check.severity
    return getattr(gxe, name)(**kwargs, severity=severity, meta={"check": number})


def _context() -> EphemeralDataContext:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")  # by name, or variables of the environment choose the cloud
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


@contextmanager
def _quiet() -> Iterator[None]:
    """Imports without a word on stderr, without telemetry, and without collecting garbage that is none."""
    logger = logging.getLogger("great_expectations")
    logger.setLevel(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False  # modules of it set the levels of their loggers themselves
    unheard = logging.NullHandler()
    logger.addHandler(unheard)
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    collects = gc.isenabled()
    gc.disable()  # half a second of the three that the import takes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(unheard)
        logger.propagate = propagates
        if collects:
            gc.enable()
