from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gate.attestation import keys
from gate.cli import main


def test_a_new_pair_says_what_to_do_with_each_half(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gate.key"
    assert main(["keys", "new", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == f"made key {keys.keyid(keys.public_key(path))}"
    assert f"GATE_SIGNING_KEY={path} gate check --record" in out
    assert f"gate verify --public-key {path}.pub" in out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["keys", "new", str(path)]) == 2
    assert "keys are never overwritten" in capsys.readouterr().err


def test_a_key_is_shown_by_its_public_half_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = keys.create(tmp_path / "gate.key")
    shown = set()
    for path in (public, tmp_path / "gate.key", tmp_path):
        assert main(["keys", "show", str(path)]) == 0
        shown.add(capsys.readouterr().out)
    (out,) = shown
    first, _, pem = out.partition("\n")
    assert first == f"keyid {keys.keyid(keys.public_key(public))}"
    assert load_pem_public_key(pem.encode()) == keys.public_key(public)
    assert "PRIVATE" not in out


@pytest.mark.parametrize("arguments", [["show", "nowhere"], ["show"], ["new"], ["new", "."]])
def test_what_makes_no_sense_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", *arguments]) == 2
    assert capsys.readouterr().out == ""
