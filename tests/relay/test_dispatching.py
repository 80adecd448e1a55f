"""The relay as a process, with a GitHub that counts."""

from __future__ import annotations

import asyncio
import http.client
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from gate.errors import UsageError
from gate.relay.dispatching import Dispatch
from tests.relay.playing import Delivery, GitHub, Relay, free_port, told, until

Start = Callable[..., Relay]
FORGED = "guessed"
VERSIONS = [(f"team-{name}", str(version)) for name in "abcde" for version in range(1, 51)]


def deliveries() -> list[Delivery]:
    """A thousand, of which 250 versions are to be dispatched, in an order of chance."""
    good = [told(*version) for version in VERSIONS]
    late = [each.again(sent=each.sent - random.Random(0).randint(1, 200)) for each in good[:50]]  # noqa: S311
    good[:50] = late
    sent_again = [*good, *good[:150]]
    of_a_second_webhook = [told(*version) for version in VERSIONS[:75]]
    forged = [told(f"team-f{number}").again(secret=FORGED) for number in range(80)]
    stale = [told(f"team-s{number}").again(sent=int(time.time()) - 400 + 1000 * (number % 2)) for number in range(80)]
    example = [told("example_model") for _ in range(40)]
    foreign = [told(f"other-{number}") for number in range(50)]
    events = [told("team-a", event="model_version_tag.set", key="k", value="v") for _ in range(25)]
    everything = [*good, *sent_again, *of_a_second_webhook, *forged, *stale, *example, *foreign, *events]
    random.Random(1).shuffle(everything)  # noqa: S311
    return everything


def test_of_a_thousand_deliveries_around_a_crash_every_good_version_is_dispatched_once(
    relay: Start, github: GitHub
) -> None:
    github.hold_at, github.drop = 100, True
    running, sent = relay("--model=team-*", "--max-queue=100000"), deliveries()
    assert len(sent) == 1000
    with ThreadPoolExecutor(8) as senders:
        answers = senders.map(running.insist, sent)
        assert github.held.wait(60)
        running.kill()
        github.go.set()
        running.start()
        statuses = list(answers)
    until(lambda: len(github.accepted) == len(VERSIONS), "some are lost")
    until(lambda: running.health()["dispatched"] == len(VERSIONS), "some are not settled")
    assert dict(github.accepted) == dict.fromkeys(VERSIONS, 1)
    assert len(github.requests) == len(VERSIONS) + 1  # the one that GitHub had dropped
    assert set(statuses) == {200, 202, 401}
    assert statuses.count(401) == 160
    assert 245 <= statuses.count(202) <= 250  # the answer of some was lost with the relay, and they were told again

    until(lambda: running.health()["error"], "the registry that is not there was looked for")
    before = running.resident()
    with ThreadPoolExecutor(8) as senders:
        assert set(senders.map(running.send, [each.again(id=f"{each.id}-2") for each in sent])) == {200, 401}
    assert len(github.requests) == len(VERSIONS) + 1
    assert running.resident() - before < 8
    assert running.end() == 0


def test_a_request_to_github_has_the_documented_shape(relay: Start, github: GitHub) -> None:
    running = relay()
    odd = "-rf $(id); 'ü' [x] {{y}}"
    assert running.send(told(odd, "7")) == 202
    until(lambda: running.health()["dispatched"], "nothing was dispatched")
    ((path, headers, body),) = github.requests
    assert path == "/repos/acme/models/dispatches"
    assert body == {"event_type": "model-registered", "client_payload": {"model": odd, "version": "7"}}
    assert headers["Authorization"] == "Bearer ghp_token"
    assert (headers["Accept"], headers["X-GitHub-Api-Version"]) == ("application/vnd.github+json", "2022-11-28")
    assert "ghp_token" not in running.log.read_text()
    assert "the secret" not in running.log.read_text()


def test_what_github_cannot_take_now_is_tried_again(relay: Start, github: GitHub) -> None:
    github.answers = [(503, {}), (429, {"Retry-After": "1"}), (403, {"X-RateLimit-Remaining": "0"})]
    running, began = relay("--backoff=0"), time.monotonic()
    running.send(told("encoder"))
    until(lambda: running.health()["dispatched"], "it was given up")
    assert time.monotonic() - began > 1
    assert dict(github.accepted) == {("encoder", "1"): 1}
    assert len(github.requests) == 4


def test_a_version_that_stays_behind_is_failed_and_seen_until_the_relay_is_started_again(
    relay: Start, github: GitHub
) -> None:
    github.answers = [(502, {})] * 3
    running = relay("--backoff=0", "--attempts=3")
    running.send(told("encoder"))
    until(lambda: running.health()["failed"] == 1, "it was not given up")
    assert len(github.requests) == 3
    assert 'gate_relay_versions{state="failed"} 1' in running.get("/metrics")[1]
    assert running.lines("version")[-1]["decision"] == "failed"
    assert running.send(told("encoder")) == 200
    assert (running.end(), running.start()) == (0, running)
    until(lambda: running.health()["dispatched"] == 1, "it was not taken up")
    assert dict(github.accepted) == {("encoder", "1"): 1}


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 422])
def test_what_github_refuses_is_not_tried_again_and_a_redirect_not_followed(github: GitHub, status: int) -> None:
    github.answers = [(status, {"Location": f"{github.url}/elsewhere"})]
    outcome = asyncio.run(Dispatch("acme/models", github.url, "t")("encoder", "1"))
    assert (outcome.state, outcome.note[:3]) == ("failed", str(status))
    assert len(github.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (500, {}, 0),
        (503, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "Fri, 31 Dec"}, 0),
        (403, {"Retry-After": "60"}, 60),
    ],
)
def test_what_is_for_now_is_to_be_tried_again(
    github: GitHub, status: int, headers: dict[str, str], wait: float
) -> None:
    github.answers = [(status, headers)]
    outcome = asyncio.run(Dispatch("acme/models", github.url, "t")("encoder", "1"))
    assert (outcome.state, outcome.wait) == ("again", wait)


def test_a_github_that_does_not_answer_is_tried_again() -> None:
    outcome = asyncio.run(Dispatch("acme/models", f"http://127.0.0.1:{free_port()}", "hidden")("encoder", "1"))
    assert outcome.state == "again"
    assert "ConnectionError" in outcome.note
    assert "hidden" not in outcome.note


def test_a_dispatch_that_a_crash_broke_off_is_sent_again(relay: Start, github: GitHub) -> None:
    github.hold_at = 1
    running = relay()
    running.send(told("encoder"))
    assert github.held.wait(60)
    running.kill()
    github.go.set()
    running.start()
    until(lambda: running.health()["dispatched"] == 1, "it was lost")
    assert dict(github.accepted) == {("encoder", "1"): 2}  # nobody knows that GitHub had heard the first


def test_a_dispatch_on_its_way_is_waited_for_at_the_end(relay: Start, github: GitHub) -> None:
    github.hold_at = 1
    running = relay()
    running.send(told("encoder"))
    running.send(told("encoder", "2"))
    assert github.held.wait(60)
    running.process.terminate()
    time.sleep(0.5)
    github.go.set()
    assert running.end() == 0
    assert running.lines("relay")[-1]["decision"] == "ended"
    assert dict(github.accepted) == {("encoder", "1"): 1}
    running.start()
    until(lambda: running.health()["dispatched"] == 2, "the one that waited was lost")
    assert dict(github.accepted) == {("encoder", "1"): 1, ("encoder", "2"): 1}


def test_a_full_queue_answers_503_and_takes_the_same_delivery_later(relay: Start, github: GitHub) -> None:
    github.hold_at = 1
    running, third = relay("--max-queue=2"), told("encoder", "3")
    assert [running.send(told("encoder", number)) for number in "12"] == [202, 202]
    assert [running.send(third), running.send(third)] == [503, 503]
    assert running.send(told("encoder", "1")) == 200
    github.go.set()
    assert running.insist(third) == 202
    until(lambda: running.health()["dispatched"] == 3, "one was lost")
    assert set(github.accepted.values()) == {1}


def test_health_is_503_while_the_queue_cannot_be_written_and_work_goes_on_after_it(relay: Start) -> None:
    running = relay()
    assert running.get("/health")[0] == 200
    other = sqlite3.connect(running.queue, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert running.get("/health")[0] == 503
    assert running.health()["error"] == "the queue cannot be written: database is locked"
    assert running.send(told("encoder")) == 503
    other.execute("ROLLBACK")
    other.close()
    assert running.get("/health")[0] == 200
    assert running.send(told("encoder")) == 202
    until(lambda: running.health()["dispatched"] == 1, "no worker lives")


def test_health_is_503_when_another_file_lies_in_the_place_of_the_queue(relay: Start) -> None:
    running = relay()
    running.queue.rename(running.folder / "away.db")
    assert running.get("/health")[0] == 503
    running.queue.touch()
    assert (running.get("/health")[0], "another file" in running.health()["error"]) == (503, True)


def test_a_registry_that_cannot_be_listed_is_told_and_deliveries_are_taken(relay: Start) -> None:
    running = relay()
    until(lambda: running.health()["error"], "nothing was told")
    status, answer = running.get("/health")
    assert status == 200
    assert "nowhere.db" in answer
    assert running.health()["last_reconcile"] is None
    assert running.send(told("encoder")) == 202


def test_metrics_count_deliveries_by_reason(relay: Start) -> None:
    running = relay("--model=enc*")
    running.send(told("encoder"))
    for each in (told("encoder"), told("other"), told("example_model"), told("encoder").again(secret=FORGED)):
        running.send(each)
    status, text = running.get("/metrics")
    counted = [line for line in text.splitlines() if line.startswith("gate_relay_deliveries_total{")]
    assert status == 200
    assert counted == [
        'gate_relay_deliveries_total{decision="duplicate",reason="known"} 1',
        'gate_relay_deliveries_total{decision="ignored",reason="example"} 1',
        'gate_relay_deliveries_total{decision="ignored",reason="other model"} 1',
        'gate_relay_deliveries_total{decision="queued",reason=""} 1',
        'gate_relay_deliveries_total{decision="refused",reason="signature"} 1',
    ]
    for name in ("versions", "up", "reconcile_timestamp_seconds", "reconcile_duration_seconds"):
        assert f"# TYPE gate_relay_{name} gauge" in text


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(relay: Start) -> None:
    running = relay()
    large = told("encoder", description="x" * (1 << 20))
    assert running.send(large, **{"Content-Length": str(1 << 40)}) == 413
    assert running.send(large) == 413
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("POST", "/webhook", iter([large.body[: 1 << 19]] * 3), large.headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("repository", ["acme", "acme/", "/models", "a/b/c", "acme/..", "acme/mo dels", "acme/m?x", ""])
def test_a_repository_has_an_owner_and_a_name(repository: str) -> None:
    with pytest.raises(UsageError, match="is no repository: write OWNER/REPO"):
        Dispatch(repository, "https://api.github.com", "t")


@pytest.mark.parametrize(
    "url", ["http://github.acme.example", "https://me:pw@api.github.com", "ftp://x", "api.github.com", "https://x/?q"]
)
def test_a_token_goes_to_no_address_that_could_leak_it(url: str) -> None:
    with pytest.raises(UsageError, match="no address that a token can be sent to") as refused:
        Dispatch("acme/models", url, "t")
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ü"])
def test_a_token_is_one_word_and_never_shown(token: str) -> None:
    with pytest.raises(UsageError, match="needs a token in the variable GITHUB_TOKEN") as refused:
        Dispatch("acme/models", "https://api.github.com", token)
    assert not token or token not in str(refused.value)
    assert "secret" not in repr(Dispatch("acme/models", "https://api.github.com", "secret"))
