"""Which models a policy is for, and what it does at an alias."""

from __future__ import annotations

from typing import Any

import pytest

from gate.errors import NothingEvaluatedError
from gate.policy import Policy
from gate.policy.scope import enforcement, require_in_scope


def policy(**scope: Any) -> Policy:
    rules = [{"id": "rank", "metric": "effective_rank", "min": 3}]
    metadata = {"name": "encoders", "version": "1"}
    content = {"apiVersion": "gate/v1", "kind": "Policy", "metadata": metadata, "rules": rules, "scope": scope}
    return Policy.model_validate(content)


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        (["text-*"], "text-encoder"), (["image-*", "text-*"], "text-encoder"), (["text-encoder"], "text-encoder"),
        (["text-encoder-[ab]"], "text-encoder-b"), (["*"], None), (["text-*", "*"], None),
    ],
)  # fmt: skip
def test_a_model_that_a_pattern_matches_is_in_scope(patterns: list[str], name: str | None) -> None:
    require_in_scope(policy(models=patterns), name, "models:/x/1")


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        (["text-*"], "image-encoder"), (["text"], "text-encoder"), (["text-*"], "my-text-encoder"),
        (["Text-*"], "text-encoder"), (["text-encoder-[ab]"], "text-encoder-c"),
    ],
)  # fmt: skip
def test_a_model_that_no_pattern_matches_is_an_error(patterns: list[str], name: str) -> None:
    expected = rf"no policy matched: the registered model '{name}' is not in the scope of policy 'encoders', .* is "
    with pytest.raises(NothingEvaluatedError, match=expected) as raised:
        require_in_scope(policy(models=patterns), name, "models:/x/1")
    assert patterns[0] in str(raised.value)


def test_a_model_outside_of_a_registry_has_no_name_that_a_pattern_could_match() -> None:
    with pytest.raises(
        NothingEvaluatedError, match=r"features:x\.npz, which is no registered model, is not in the scope"
    ):
        require_in_scope(policy(models=["text-*", "?*"]), None, "features:x.npz")


def test_a_policy_without_a_scope_is_for_every_model() -> None:
    require_in_scope(policy(), None, "features:x.npz")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/encoder@challenger", "warn"),
        ("models:/encoder@champion", "block"),
        ("models:/encoder@other", "block"),
        ("models:/encoder/41", "block"),
        ("models:/challenger/41", "block"),
        ("runs:/abc/model@challenger", "block"),
        ("models@challenger", "block"),
        ("challenger", "block"),
    ],
)
def test_only_a_check_of_a_model_by_that_alias_is_enforced_otherwise(uri: str, expected: str) -> None:
    assert enforcement(policy(aliases={"challenger": "warn", "champion": "block"}), uri) == expected
