from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.enforcement import servers
from tests.enforcement.servers import Place, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is deprecated in the client of MLflow is what its users call."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return servers.migrated(tmp_path_factory.mktemp("template"))


@pytest.fixture
def prepared(template: Path, tmp_path: Path) -> Place:
    """What a guarded server needs, without one."""
    return servers.place(tmp_path, servers.copied(template, tmp_path))


@pytest.fixture(scope="session")
def sqlite_server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over SQLite."""
    folder = tmp_path_factory.mktemp("sqlite")
    with servers.guarded(servers.place(folder, servers.copied(template, folder))) as server:
        yield server


@pytest.fixture(scope="session")
def plain_server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without the gate, for comparison."""
    folder = tmp_path_factory.mktemp("plain")
    with servers.guarded(servers.place(folder, servers.copied(template, folder)), gate="") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over PostgreSQL."""
    folder = tmp_path_factory.mktemp("postgres")
    with postgres() as database, servers.guarded(servers.place(folder, database)) as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Server:
    """The same attacks on both databases."""
    found = request.getfixturevalue("sqlite_server" if request.param == "sqlite" else "postgres_server")
    assert isinstance(found, Server)
    return found


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own; the URI of an empty database."""
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root, and whoever else it runs as cannot look into the folders of pytest.
    other = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.getuid() == 0 else ()
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        if other:
            shutil.chown(folder, "postgres")

        def run(program: str, *options: str) -> None:
            line = [*other, str(POSTGRES / program), "-D", f"{folder}/data", *options]
            subprocess.run(line, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

        port = servers.free_port()
        run("initdb", "--auth=trust", "--username=gate", "--no-sync")
        settings = f"-h 127.0.0.1 -p {port} -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "-w", "-t", "60", "-l", f"{folder}/log", "-o", settings, "start")
        try:
            yield f"postgresql+psycopg2://gate@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-t", "60", "-m", "immediate", "stop")
