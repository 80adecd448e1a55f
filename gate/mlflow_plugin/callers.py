"""Who asks for a change of the registry."""

from __future__ import annotations

import getpass
import os
import sys

from gate.mlflow_plugin.locations import DESTINATION


def caller() -> str:
    """The user of a request, verified or not, with the address it came from; outside of a server, who runs this."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return f"local user {_user()}" if DESTINATION not in os.environ else "a client that MLflow does not name here"
    user = getattr(flask.g, "mlflow_authenticated_user", None)
    if user is not None:
        return f"{getattr(user, 'username', user)} from {flask.request.remote_addr}"
    claimed = (flask.request.authorization or {}).get("username")
    name = f"{claimed} (not verified)" if claimed else "anonymous"
    return f"{name} from {flask.request.remote_addr}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run without a name for its user
        return "unknown"
