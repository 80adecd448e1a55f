from __future__ import annotations

import re

import pytest

from gate.calibration.naming import versions_of
from gate.errors import UsageError


def test_numbers_aliases_and_uris_are_versions_of_the_one_model_that_is_named() -> None:
    found = versions_of(["models:/digits"], ["3, 4", "@champion"], ["6,features:x.npz"])
    assert found.good == ("models:/digits/3", "models:/digits/4", "models:/digits@champion")
    assert found.bad == ("models:/digits/6", "features:x.npz")


def test_full_uris_are_good_and_say_which_model_a_number_is_of() -> None:
    found = versions_of(["models:/digits/1", "models:/digits@old"], ["2"], ["3"])
    assert found.good == ("models:/digits/1", "models:/digits@old", "models:/digits/2")
    assert found.bad == ("models:/digits/3",)
    assert versions_of(["runs:/abc/model", "./folder", "models:/m-12"]).good == (
        "runs:/abc/model",
        "./folder",
        "models:/m-12",
    )


@pytest.mark.parametrize(
    ("models", "good", "bad", "message"),
    [
        (["models:/digits"], [], [], "'models:/digits' names no version; say which ones are good: --good 3,4,5"),
        ([], [], ["features:a.npz"], "no good version was named"),
        (["features:a.npz"], ["3"], [], "version 3 of which registered model? none is named"),
        (["models:/a/1", "models:/b/1"], ["3"], [], "version 3 of which registered model? there are a, b"),
        (["models:/a/1"], ["model"], [], "'model' is no version number and no model URI"),
        (["models:/a/1"], ["2"], ["1"], "models:/a/1: named twice; a version counts once, as good or as bad"),
        (["models:/a/1", "models:/a/1"], [], [], "models:/a/1: named twice"),
    ],
)
def test_what_names_no_version_is_refused(models: list[str], good: list[str], bad: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        versions_of(models, good, bad)
