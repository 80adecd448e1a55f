"""One line of JSON on stderr for each decision."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


def tell(event: str, **facts: str | float | None) -> None:
    """Write a line; control characters of names come out escaped.

    Args:
        event: What happened: "delivery", "version", "reconcile", "relay".
        facts: More of it; what is None is left out.
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    sys.stderr.write(json.dumps({key: value for key, value in line.items() if value is not None}) + "\n")
    sys.stderr.flush()
