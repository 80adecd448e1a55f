"""`gate probe`: look at probe sets without any model, and make them."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli import outputs
from gate.cli.boundary import describe, evaluating
from gate.cli.collector import without_collector
from gate.errors import ProbeError, UsageError
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from gate.policy.schema import Probe
    from gate.probes.probe_set import ProbeSet
    from gate.probes.validation import Validation

app = typer.Typer(name="probe", help="Look at probe sets, and make them; no model is loaded.", no_args_is_help=False)

Spec = Annotated[
    Path,
    typer.Argument(metavar="SPEC|POLICY", help="Probe spec, or a policy that names its probe.", show_default=False),
]
Requests = Annotated[list[str] | None, outputs.option("text or json")]
DataDocs = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write the Data Docs of Great Expectations there, without anything remote."),
]
Write = Annotated[bool, typer.Option("--write", help="Pin the digests in the file itself.")]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="Probe spec, policy, or a file of rows with --input and further columns.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The .parquet file to write, with its spec beside it."),
]
Column = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of a file of rows.")]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", metavar="COLUMN", help="What a model is shown. Repeatable.")
]
Rows = Annotated[int | None, typer.Option(min=1, metavar="N", help="Take N rows, as large a share of each class.")]
Seed = Annotated[int, typer.Option(help="Of the hash of ids by which they are taken.")]

_ROWS_AT_ONCE = 1024
_EPILOG = "Exit codes: 0 whatever holds or only warns, 2 usage or a spec with faults, 3 the probe set is refused."


@app.callback()
def _group() -> None:
    """Look at probe sets, and make them; no model is loaded."""


@app.command(epilog=_EPILOG)
def validate(spec: Spec, *, output: Requests = None, data_docs: DataDocs = None) -> None:
    """Hold a probe set against what is expected of it, and list every check and every fault."""
    from gate.probes.validating import report

    targets = outputs.parse(output or (), report.FORMATS)
    outputs.remove_stale(targets, inputs=[spec], recognised=report.is_report)
    _require_empty(data_docs)
    with without_collector(), redirect_stdout(sys.stderr), evaluating():
        block, probe = _opened(spec)
        validation = _validated(probe, block)
        fault = None if validation.refused else _pass(probe, block)
        if fault is not None or validation.refused:
            told, validation = validation, validation.with_pictures()
            fault = fault if validation is told else None  # which was the first of those that are told now
        validation = validation if fault is None else validation.refused_for(str(fault))
    digests = dict.fromkeys(("digest", "slices_digest"), None) if validation.refused else _digests(probe)
    document = report.report(validation, **digests)
    outputs.write_rendered(targets, lambda format_, _: report.render(format_, document), recognised=report.is_report)
    if data_docs is not None:
        _write_pages(validation, data_docs, document)
    if fault is not None:
        typer.echo(describe(fault), err=True)
    raise typer.Exit(ProbeError.exit_code if validation.refused else 0)


@app.command()
def digest(spec: Spec, *, write: Write = False) -> None:
    """Print the digest of a probe set as a policy pins it, and that with the columns by which slices cut it."""
    with without_collector(), redirect_stdout(sys.stderr), evaluating():
        block, probe = _opened(spec)
        if fault := _pass(probe):
            _require_good(_validated(probe, block))
            raise fault
    found = {key: value for key, value in _digests(probe).items() if value is not None}
    outputs.to_stdout("".join(f"{key}: {value}\n" for key, value in found.items()))
    if write:
        from gate.policy.pinning import pin

        pin(spec, found)
        typer.echo(printable(f"wrote {spec}"), err=True)


@app.command()
def build(  # noqa: PLR0913 - one parameter for every column that a row may have
    source: Source,
    *,
    output: Out = None,
    input_: Inputs = None,
    label: Column = None,
    group: Column = None,
    length: Column = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="Column of a file of rows.")] = None,
    cluster: Column = None,
    sublabel: Column = None,
    rows: Rows = None,
    seed: Seed = 0,
) -> None:
    """Write the rows of a probe set, or some of them, to one file, with a spec beside it that pins its digest."""
    if output is None:
        raise UsageError("nothing says where to write the probe set; add -o FILE.parquet")
    named = {"label": label, "group": group, "length": length, "id": id_, "cluster": cluster, "sublabel": sublabel}
    given = {key: name for key, name in named.items() if name is not None}
    beside = output.with_suffix(".yaml")
    if beside.exists():
        raise UsageError(f"{str(beside)!r}, where the spec belongs, is there already; remove it, or name another file")
    with without_collector(), redirect_stdout(sys.stderr), evaluating():
        from gate.policy.pinning import spec_text
        from gate.probes.building import build as made

        block, probe = _of_file(source, input_ or [], given) if input_ or given else _opened(source)
        _require_good(_validated(probe, block))
        if fault := _pass(probe, block):
            raise fault
        built = made(probe, output, rows=rows, seed=seed)
        columns = block.columns.model_copy(update={"id": built.columns.id})
        spec = block.model_copy(update={"uri": str(output), "columns": columns, **_digests(built.probe)})
        _require_good(_validated(built.probe, spec), output)
    beside.write_text(spec_text(spec), encoding="utf-8")
    typer.echo(printable(f"wrote {output}, {built.probe.rows} rows, and {beside}"), err=True)


def _require_good(validation: Validation, written: Path | None = None) -> None:
    """Refuse a probe set with faults, and leave none behind that was written."""
    from gate.errors import RefusedProbeError

    if refused := validation.refused:
        if written is not None:
            written.unlink()
        raise RefusedProbeError(tuple(f"{validation.uri}: {each}" for each in refused))


def _opened(path: Path) -> tuple[Probe, ProbeSet]:
    """The probe block of a spec or policy, and its rows, with the columns by which slices cut them."""
    from gate.streaming.opening import open_rows

    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"{str(path)!r} is no YAML file; give a probe spec or a policy, or name its columns to build one"
        )
    block, tags = _block(path)
    return block, open_rows(block, tags)


def _block(path: Path) -> tuple[Probe, tuple[str, ...]]:
    from gate.policy.loading import load_policy, load_probe_spec, read_source
    from gate.policy.reading import read

    value: Any = read(read_source(path, "probe spec or policy").text).value
    if not isinstance(value, dict) or value.get("kind") != "Policy":
        return load_probe_spec(path), ()
    policy = load_policy(path).policy
    if policy.probe is None:
        raise UsageError(f"{path}: the policy has no `probe:` block; name a probe set in one")
    by = [rule.slices.by for rule in policy.rules if rule.enabled and rule.slices]
    return policy.probe, tuple(dict.fromkeys(column for columns in by for column in columns))


def _of_file(path: Path, inputs: list[str], columns: dict[str, str]) -> tuple[Probe, ProbeSet]:
    from gate.policy.schema import Columns, Probe
    from gate.streaming.opening import open_rows

    if not inputs:
        raise UsageError("--input is missing; name the column, or columns, that a model is shown")
    shown = inputs[0] if len(inputs) == 1 else tuple(inputs)
    block = Probe(uri=str(path), columns=Columns.model_validate({"input": shown, **columns}))
    return block, open_rows(block)


def _validated(probe: ProbeSet, block: Probe) -> Validation:
    from gate.probes.validation import Expectations, validate

    return validate(probe, Expectations(**block.expectations.resolved))


def _pass(probe: ProbeSet, pinned: Probe | None = None) -> ProbeError | None:
    """One complete pass, after which the digests are known; what it stops at, or which pin they differ from."""
    from gate.streaming.opening import require_pinned

    try:
        for _ in probe.batches(_ROWS_AT_ONCE, pixels=False):
            pass
        if pinned is not None:
            require_pinned(probe, pinned)
    except ProbeError as error:
        return error
    return None


def _digests(probe: ProbeSet) -> dict[str, str | None]:
    return {"digest": probe.digest, "slices_digest": probe.slices_digest}


def _require_empty(folder: Path | None) -> None:
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--data-docs {str(folder)!r} is not an empty folder; name another one")


def _write_pages(validation: Validation, folder: Path, document: dict[str, Any]) -> None:
    from gate.probes.validation import write_pages

    pages = write_pages(validation, folder, document)
    typer.echo(printable(f"wrote {pages} pages, of which {folder / 'index.html'} is the first"), err=True)
