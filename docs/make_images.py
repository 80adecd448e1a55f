# ruff: noqa: INP001 - a script beside the pictures that it makes, not a package
"""The two pictures of the README, from what a demo left: `python docs/make_images.py gate-demo`.

Run `make demo` first. The report is looked at with chromium.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from gate.evidence import bundle, text

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES = Path(__file__).parent / "images"
COLUMNS = 121
FRAMES = 2  # of the failing rules; the others look alike
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# A dark terminal on its own ground is readable on a light page and on a dark one.
THEME = TerminalTheme(
    background=(22, 27, 34),
    foreground=(230, 237, 243),
    normal=[
        *((110, 118, 129), (255, 123, 114), (86, 211, 100), (240, 200, 90)),
        *((121, 192, 255), (210, 168, 255), (118, 227, 234), (230, 237, 243)),
    ],
)
PAGE = (980, 927)  # the part of the report that is shown, in CSS pixels: down to the end of the second rule
SHARPNESS = 1.7


def terminal_text(document: Mapping[str, Any]) -> str:
    """What `gate check` prints for the evidence, between the prompt and the exit code, with a cut."""
    head, *frames, passed = text.render(document, color=True).rstrip("\n").split("\n\n")
    command = f"gate check {document['model']['uri']} -p {document['policy']['path']} --probe gate-demo/probe.yaml"
    left_out = f"\x1b[2m[… {len(frames) - FRAMES} more findings, left out of this picture …]\x1b[0m"
    blocks = [f"$ {command}", head, *frames[:FRAMES], left_out, passed, f"$ echo $?\n{document['exit_code']}"]
    return "\n\n".join(blocks)


def terminal(document: Mapping[str, Any]) -> str:
    """The text output as an SVG that loads nothing: the fonts are those of the reader's machine."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text.from_ansi(terminal_text(document)))
    drawn = console.export_svg(title="gate check", theme=THEME, unique_id="gate")
    drawn = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", FONTS).replace("font-family: arial", "font-family: sans-serif")
    return re.sub(r"[ \t]*\n(?:[ \t]*\n)+", "\n", drawn)


def report(page: Path, target: Path) -> None:
    """The top of the report as a picture of few colours, which keeps the file small."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        width, height = PAGE
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={folder}/profile"),
            *(f"--window-size={width},{height}", f"--force-device-scale-factor={SHARPNESS}"),
            *(f"--screenshot={shot}", page.resolve().as_uri()),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - the page is our own
        with Image.open(shot) as picture:
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)


def main(folder: Path) -> None:
    """Draw both.

    Args:
        folder: Of the demo, with `collapsed.json` and `collapsed.html`.
    """
    IMAGES.mkdir(exist_ok=True)
    document = bundle.load(folder / "collapsed.json")
    document["probe"]["uri"] = f"{folder.name}/probe.npz"  # where it lay on the disk of whoever drew it tells nobody
    (IMAGES / "terminal.svg").write_text(terminal(document), encoding="utf-8")
    report(folder / "collapsed.html", IMAGES / "report.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
