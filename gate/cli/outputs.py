"""Where the formats go: `-o FORMAT[=PATH]`, rendered from one document, at most one of them on stdout."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gate.errors import GateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMATS = ("text", "json", "html")
_LATER = ("junit", "sarif", "github", "markdown")


@dataclass(frozen=True)
class Output:
    """One format, and the file that it goes to; None is stdout."""

    format: str
    path: Path | None


def parse(requests: Iterable[str]) -> tuple[Output, ...]:
    """The outputs of a command; text on stdout when there is no request.

    Raises:
        UsageError: An unknown format, two formats on stdout, two in one file, or a folder as a file.
    """
    outputs = tuple(_parse_one(request) for request in requests) or (Output("text", None),)
    on_stdout = [output.format for output in outputs if output.path is None]
    if len(on_stdout) > 1:
        offer = f"give all but one a file, as in {on_stdout[-1]}=PATH"
        raise UsageError(f"only one format can go to stdout, found {' and '.join(on_stdout)}; {offer}")
    files = [output.path.resolve() for output in outputs if output.path]
    if len(set(files)) < len(files):
        raise UsageError("two formats go to the same file; give each its own")
    return outputs


def _parse_one(request: str) -> Output:
    name, _, target = request.partition("=")
    if name in _LATER:
        raise UsageError(f"the format {name!r} is not supported yet; there are: {', '.join(FORMATS)}")
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1)
        offer = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(FORMATS)}."
        raise UsageError(f"there is no format {name!r}. {offer}")
    if target in ("", "-"):
        return Output(name, None)
    if Path(target).is_dir():
        raise UsageError(f"{target!r} is a folder, expected the name of a file, as in {name}={target}/gate.{name}")
    return Output(name, Path(target))


def remove_stale(outputs: Sequence[Output], *, inputs: Iterable[Path]) -> None:
    """Delete what an earlier run left, so that a run without a verdict leaves no old verdict behind.

    Raises:
        UsageError: An output would overwrite an input.
    """
    read = {path.resolve() for path in inputs}
    for output in outputs:
        if output.path and output.path.resolve() in read:
            raise UsageError(f"{str(output.path)!r} is an input of this command and would be overwritten")
        if output.path and output.path.is_file():
            output.path.unlink()


def write(outputs: Sequence[Output], document: Mapping[str, Any]) -> None:
    """Render and write every output, files first.

    Raises:
        GateError: A file cannot be written.
    """
    for output in sorted(outputs, key=lambda output: output.path is None):
        content = _rendered(output.format, document, color=output.path is None and stdout_has_color())
        if output.path is None:
            _to_stdout(content)
        else:
            _to_file(content, output.path)


def stdout_has_color() -> bool:
    """Whether stdout takes colours: `NO_COLOR` and `FORCE_COLOR` decide, else whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _rendered(format_: str, document: Mapping[str, Any], *, color: bool) -> str:
    if format_ == "json":
        from gate.evidence import bundle

        return bundle.dumps(document)
    if format_ == "html":
        from gate.evidence import html

        return html.render(document)
    from gate.evidence import text

    return text.render(document, color=color)


def _to_file(content: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_ended(content), encoding="utf-8")
    except OSError as error:
        raise GateError(f"the report {str(path)!r} cannot be written: {error.strerror or error}") from error


def _to_stdout(content: str) -> None:
    """A reader that has gone, as `| head` does, takes nothing from the verdict."""
    try:
        sys.stdout.write(_ended(content))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ended(content: str) -> str:
    return content if content.endswith("\n") else f"{content}\n"
