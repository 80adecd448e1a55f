"""`gate policy validate`: what it says of policies that are well-formed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gate import server_policy
from gate.cli import main
from gate.cli.policy import _expired
from gate.errors import PolicyError
from gate.policy import packs
from gate.policy.loading import load_policy

HEAD = 'apiVersion: gate/v1\nkind: Policy\nmetadata: {name: encoder, version: "1.0.0"}\n'
RULES = "rules:\n  - {id: rank, metric: effective_rank, min: 3}\nwaivers:\n"
WAIVER = "  - {rule: rank, model: models:/enc/%d, expires: %s, owner: ann, reason: the tokenizer is new}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("today", "ago"),
    [
        (date(2027, 3, 30), None),
        (date(2027, 3, 31), None),
        (date(2027, 4, 1), "1 day ago"),
        (date(2027, 4, 12), "12 days ago"),
    ],
)
def test_a_waiver_is_noted_from_the_day_after_its_last_one(today: date, ago: str | None) -> None:
    Path("base.yaml").write_text(HEAD + RULES + WAIVER % (4, "2027-03-31"), encoding="utf-8")
    Path("child.yaml").write_text(
        f"{HEAD}extends: [base.yaml]\nwaivers:\n{WAIVER % (5, '2999-01-01')}", encoding="utf-8"
    )
    notes = [f"base.yaml:7:5: note: the waiver of 'rank' for models:/enc/4 expired {ago}, on 2027-03-31; it is ignored"]
    assert list(_expired(load_policy("child.yaml"), today)) == (notes if ago else [])


def test_expired_waivers_are_noted_on_stderr_and_the_policy_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    waivers = WAIVER % (4, "2020-01-01") + WAIVER % (5, "2999-01-01") + WAIVER % (6, "2020-01-01")
    Path("policy.yaml").write_text(HEAD + RULES + waivers, encoding="utf-8")
    assert main(["policy", "validate", "policy.yaml"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == "policy.yaml: ok, encoder@1.0.0, 1 rule\n"
    assert [line.partition(": note: ")[0] for line in stderr.splitlines()] == ["policy.yaml:7:5", "policy.yaml:9:5"]


@pytest.mark.parametrize(
    ("kind", "command"), [("ServerPolicy", "gate doctor --server-policy"), ("PolicyTests", "gate policy test")]
)
def test_a_file_of_another_kind_is_one_fault_that_names_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, command: str
) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(f"apiVersion: gate/v1\nkind: {kind}\nkeys: [ci.pub]\naudit: a\n", encoding="utf-8")
    assert main(["policy", "validate", str(file)]) == 2
    told = f"{file}:2:1: error[policy]: kind: this is a `{kind}`, expected a `Policy`; `{command}` looks at it\n"
    assert capsys.readouterr().err == told


def test_a_policy_is_no_server_policy_and_that_is_one_fault_too() -> None:
    with pytest.raises(
        PolicyError, match="kind: this is a `Policy`, expected a `ServerPolicy`; `gate policy validate`"
    ):
        server_policy.load(packs.folder() / "classifier.yaml")
