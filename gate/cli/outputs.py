"""Where the formats go: `-o FORMAT[=PATH]`, rendered from one document, at most one of them on stdout."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlparse

import typer

from gate.errors import GateError, UsageError
from gate.evidence.recognition import beginning, is_report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from typer.models import OptionInfo

Recogniser: TypeAlias = "Callable[[str, str], bool]"

FORMATS = ("text", "json", "junit", "sarif", "github", "markdown", "html")
_SHOWN = 40  # characters of a file in a message


def option(formats: str) -> OptionInfo:
    """The option of a command that says where its formats go.

    Args:
        formats: That it has, in words.
    """
    told = f"{formats}; without a path to stdout. Repeatable. Default: text."
    found: OptionInfo = typer.Option("--output", "-o", metavar="FORMAT[=PATH]", help=told)
    return found


@dataclass(frozen=True)
class Output:
    """One format, and the file that it goes to; None is stdout."""

    format: str
    path: Path | None


def parse(requests: Iterable[str], formats: Sequence[str] = FORMATS) -> tuple[Output, ...]:
    """The outputs of a command; text on stdout when there is no request.

    Args:
        requests: As they were given, `FORMAT` or `FORMAT=PATH`.
        formats: That the command has.

    Raises:
        UsageError: An unknown format, two formats on stdout, two in one file, or a folder as a file.
    """
    outputs = tuple(_parse_one(request, formats) for request in requests) or (Output("text", None),)
    on_stdout = [output.format for output in outputs if output.path is None]
    if len(on_stdout) > 1:
        offer = f"give all but one a file, as in {on_stdout[-1]}=PATH"
        raise UsageError(f"only one format can go to stdout, found {' and '.join(on_stdout)}; {offer}")
    files = [output.path.resolve() for output in outputs if output.path]
    if len(set(files)) < len(files):
        raise UsageError("two formats go to the same file; give each its own")
    return outputs


def _parse_one(request: str, formats: Sequence[str]) -> Output:
    name, _, target = request.partition("=")
    if name not in formats:
        near = get_close_matches(name, formats, n=1)
        offer = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(formats)}."
        raise UsageError(f"there is no format {name!r}. {offer}")
    if target in ("", "-"):
        return Output(name, None)
    if Path(target).is_dir():
        raise UsageError(f"{target!r} is a folder, expected the name of a file, as in {name}={target}/gate.{name}")
    return Output(name, Path(target))


def remove_stale(
    outputs: Iterable[Output],
    *,
    inputs: Iterable[Path],
    model_uri: str | None = None,
    recognised: Recogniser = is_report,
) -> None:
    """Delete the reports of an earlier run, so that a run without a verdict leaves no old verdict behind.

    Args:
        outputs: Of this run.
        inputs: Files that it reads.
        model_uri: The model, if any; where it is a local folder, nothing may be written there.
        recognised: Whether a file that begins with a text is an earlier report of a format.

    Raises:
        UsageError: An output is an input, a file that is no earlier report, or where nothing can be written; all of
            them. Those are left alone.
    """
    read, model = {path.resolve() for path in inputs}, None if model_uri is None else _local_folder(model_uri)
    refusals = []
    for output in outputs:
        if output.path is None:
            continue
        fault = _input_fault(output.path, read, model) or _foreign_fault(output, recognised)
        if refusal := fault or _folder_fault(output.path):
            refusals.append(refusal)
        elif output.path.is_file():
            output.path.resolve().unlink()  # what a link names, never the link
    if refusals:
        raise UsageError("; ".join(refusals))


def _local_folder(model_uri: str) -> Path | None:
    path = Path(unquote(urlparse(model_uri).path) if model_uri.startswith("file:") else model_uri)
    return path.resolve() if path.is_dir() else None


def _input_fault(path: Path, read: Collection[Path], model: Path | None) -> str | None:
    if path.resolve() in read:
        return f"{str(path)!r} is an input of this command and would be overwritten; name another file"
    if model and path.resolve().is_relative_to(model):
        return f"{str(path)!r} lies in the folder of the model, which is only read; name a file outside of it"
    return None


def _folder_fault(path: Path) -> str | None:
    """Why nothing can be written there, which nobody should learn after minutes of measuring."""
    if path.exists() and not path.is_file():
        return None  # a device or a pipe
    folder = next(each for each in path.absolute().parents if each.exists())
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return None
    return f"{str(path)!r} cannot be written, {str(folder)!r} does not allow it; name another file"


def _foreign_fault(output: Output, recognised: Recogniser) -> str | None:
    """What speaks against overwriting a file: all that the gate did not write itself in this format."""
    if output.path is None or not output.path.is_file():
        return None
    text = beginning(output.path)
    if recognised(text, output.format):
        return None
    return (
        f"{str(output.path)!r} is no {output.format} report of the gate, it begins with {text[:_SHOWN]!r}; "
        "name another file, or remove it yourself"
    )


def write(outputs: Sequence[Output], document: Mapping[str, Any]) -> None:
    """Render and write the evidence in every format, files first.

    Raises:
        GateError: A file cannot be written.
        UsageError: There is a file by now that is no earlier report.
    """
    write_rendered(outputs, lambda format_, color: _rendered(format_, document, color=color))


def write_rendered(
    outputs: Sequence[Output], render: Callable[[str, bool], str], *, recognised: Recogniser = is_report
) -> None:
    """Render and write every output, files first.

    Args:
        outputs: Of this run.
        render: A format, and whether it takes colours, to its text.
        recognised: As for `remove_stale`.

    Raises:
        GateError: A file cannot be written.
        UsageError: There is a file by now that is no earlier report.
    """
    for output in sorted(outputs, key=lambda output: output.path is None):
        content = render(output.format, output.path is None and stdout_has_color())
        if output.path is None:
            to_stdout(content)
        else:
            if fault := _foreign_fault(output, recognised):
                raise UsageError(fault)
            _to_file(content, output.path)


def stdout_has_color() -> bool:
    """Whether stdout takes colours: `NO_COLOR` and `FORCE_COLOR` decide, else whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _rendered(format_: str, document: Mapping[str, Any], *, color: bool) -> str:
    from gate.evidence import bundle, github, html, junit, markdown, sarif, text

    renderers: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "text": partial(text.render, color=color),
        "json": bundle.dumps,
        "junit": junit.render,
        "sarif": sarif.render,
        "github": github.render,
        "markdown": markdown.render,
        "html": html.render,
    }
    return renderers[format_](document)


def _to_file(content: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_ended(content), encoding="utf-8")
    except OSError as error:
        raise GateError(f"the report {str(path)!r} cannot be written: {error.strerror or error}") from error


def to_stdout(content: str) -> None:
    """Write text, ended by a newline; a reader that has gone, as `| head` does, takes nothing from the exit code."""
    try:
        sys.stdout.write(_ended(content))
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()


def discard_stdout() -> None:
    """Let what is still to be written go nowhere: nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ended(content: str) -> str:
    return content if content.endswith("\n") else f"{content}\n"
