"""What the guard costs a server."""

from __future__ import annotations

from statistics import quantiles

from benchmarks.enforcement.__main__ import measured
from tests.enforcement.servers import Server


def test_a_promotion_reads_no_file(sqlite_server: Server) -> None:
    server = sqlite_server
    version = server.passed()
    away = server.place.folder / "away"
    server.place.artifacts.rename(away)
    try:
        assert server.promote(version).status_code == 200
    finally:
        away.rename(server.place.artifacts)


def test_a_promotion_takes_hardly_longer_than_on_a_plain_server(plain_server: Server, sqlite_server: Server) -> None:
    found = measured({"plain": plain_server, "guarded": sqlite_server}, 40)["set a protected alias"]
    # The fast quarter of the calls, because this machine may be busy; benchmarks/enforcement has the medians.
    plain, guarded = (quantiles(found[kind], n=4)[0] for kind in ("plain", "guarded"))
    assert guarded - plain < 10
