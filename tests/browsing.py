"""Pages as a real browser builds them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium")


def dumped(url: str, folder: Path, *options: str, reaching: str = "") -> str:
    """The document of a page, once it is built.

    Args:
        url: Of the page.
        folder: For the profile of the browser.
        options: Further ones of the browser.
        reaching: The one host that it may ask.
    """
    hosts = "MAP * ~NOTFOUND" + (f", EXCLUDE {reaching}" if reaching else "")
    arguments = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--host-resolver-rules={hosts}",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        "--dump-dom",
        url,
    ]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120).stdout
