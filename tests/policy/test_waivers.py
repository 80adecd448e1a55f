"""Exceptions: for one version, for a time, for a reason."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from gate.policy.waivers import State, Waiver, state

DIGEST = "sha256:" + "0a" * 32
LAST_DAY = date(2027, 3, 31)
MODEL = ("models:/encoder/41", DIGEST)


def waiver(**changes: Any) -> Waiver:
    content = {
        "rule": "rank",
        "model": MODEL[0],
        "expires": LAST_DAY,
        "owner": "ann",
        "reason": "The tokenizer is new.",
    }
    return Waiver.model_validate(content | changes)


def decided(given: Waiver, **changes: Any) -> State:
    asked: dict[str, Any] = {"rule": "rank", "slice_": (), "model": MODEL, "today": LAST_DAY}
    return state(given, **(asked | changes))


@pytest.mark.parametrize(
    ("days", "expected"), [(-1000, "holds"), (-1, "holds"), (0, "holds"), (1, "expired"), (1000, "expired")]
)
def test_a_waiver_holds_up_to_and_on_its_last_day(days: int, expected: State) -> None:
    assert decided(waiver(), today=LAST_DAY + timedelta(days=days)) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (("models:/encoder/41",), "holds"),
        (("models:/encoder/41", DIGEST), "holds"),
        (("models:/encoder/4", DIGEST), "other"),
        (("models:/encoder/411", DIGEST), "other"),
        (("models:/other/41", DIGEST), "other"),
        ((DIGEST,), "other"),
        ((), "other"),
    ],
)
def test_a_waiver_is_for_one_version(model: tuple[str, ...], expected: State) -> None:
    assert decided(waiver(), model=model) == expected


def test_a_waiver_may_name_the_digest_of_the_model_and_then_follows_its_files() -> None:
    assert decided(waiver(model=DIGEST)) == "holds"
    assert decided(waiver(model=DIGEST), model=("models:/other/1", DIGEST)) == "holds"
    assert decided(waiver(model=DIGEST), model=("models:/encoder/41", "sha256:" + "0b" * 32)) == "other"
    assert waiver(model=DIGEST).is_about(MODEL)
    assert not waiver(model=DIGEST).is_about(("models:/encoder/41",))


def test_a_waiver_is_for_one_rule() -> None:
    assert decided(waiver(), rule="rank-2") == "other"


@pytest.mark.parametrize(
    ("slices", "slice_", "expected"),
    [
        ({}, (), "holds"),
        ({}, (("language", "ja"),), "holds"),
        ({"language": "ja"}, (("language", "ja"),), "holds"),
        ({"language": "ja"}, (("site", "3"), ("language", "ja")), "holds"),
        ({"language": "ja"}, (("language", "de"),), "other"),
        ({"language": "ja"}, (("site", "ja"),), "other"),
        ({"language": "ja"}, (), "other"),
        ({"language": "ja", "site": "3"}, (("language", "ja"),), "other"),
        ({"language": "ja", "site": "3"}, (("site", "3"), ("language", "ja")), "holds"),
    ],
)
def test_a_waiver_of_slices_is_for_these_only(
    slices: dict[str, str], slice_: tuple[tuple[str, str], ...], expected: State
) -> None:
    assert decided(waiver(slices=slices), slice_=slice_) == expected


def test_a_waiver_of_something_else_is_not_called_expired() -> None:
    assert decided(waiver(), rule="other", today=date(2030, 1, 1)) == "other"


@pytest.mark.parametrize(
    "model",
    [
        "*", "models:/encoder/*", "models:/*/41", "models:/encoder/4?", "models:/encoder", "models:/encoder/",
        "models:/encoder@champion", "models:/encoder/latest", "models:/encoder/0", "models:/encoder/041",
        "models:/encoder/41/", "models:/a/b/41", "encoder/41", "encoder", "sha256:0a", DIGEST.upper(), "", 41,
    ],
)  # fmt: skip
def test_a_waiver_is_never_for_a_pattern_an_alias_or_a_name(model: object) -> None:
    with pytest.raises(ValidationError) as raised:
        waiver(model=model)
    assert [error["loc"] for error in raised.value.errors()] == [("model",)]


@pytest.mark.parametrize("key", ["rule", "model", "expires", "owner", "reason"])
def test_a_waiver_says_for_what_until_when_who_and_why(key: str) -> None:
    content = {name: value for name, value in waiver().model_dump().items() if name != key}
    with pytest.raises(ValidationError) as raised:
        Waiver.model_validate(content)
    assert [error["loc"] for error in raised.value.errors()] == [(key,)]


@pytest.mark.parametrize("reason", ["", "too short", " " * 20, "  short   \n  "])
def test_a_reason_has_at_least_ten_characters(reason: str) -> None:
    with pytest.raises(ValidationError, match="should say why in at least 10 characters"):
        waiver(reason=reason)
    assert waiver(reason="ten, I say").reason == "ten, I say"


@pytest.mark.parametrize("expires", ["never", "2027-02-30", "31.03.2027", "2027-03-31T10:00:00", 20270331, True, ""])
def test_a_waiver_ends_on_a_day(expires: object) -> None:
    with pytest.raises(ValidationError, match="should be a day such as 2027-01-31"):
        waiver(expires=expires)


@pytest.mark.parametrize(
    "slices", [["ja"], "ja", {"language": 3}, {"language": ["ja", "de"]}, {"": "ja"}, {"language": ""}]
)
def test_slices_of_a_waiver_are_columns_with_one_value_each(slices: object) -> None:
    with pytest.raises(ValidationError) as raised:
        waiver(slices=slices)
    assert {error["loc"][0] for error in raised.value.errors()} == {"slices"}
