"""The version that a candidate is compared with, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from gate.errors import AbsentError, ModelError, RegistryError, UsageError
from gate.models.baseline import Absent, find
from gate.models.finding import FoundModel
from gate.models.mlmodel import Permissions
from tests.models.loaded import find as load

if TYPE_CHECKING:
    from tests.models.conftest import Registry

When = Literal["error", "skip_relative"]


def found(uri: str, candidate: FoundModel, folder: Path, when: When = "error", **options: Any) -> FoundModel | Absent:
    return find(uri, candidate, when_absent=when, directory=folder, permissions=Permissions(**options))


@pytest.fixture
def single(registry: Registry, tmp_path: Path) -> FoundModel:  # noqa: ARG001 - it lies in that registry
    return load("models:/single/1", directory=tmp_path)


@pytest.fixture
def pickled(registry: Registry, tmp_path: Path) -> FoundModel:  # noqa: ARG001
    return load("models:/encoder/2", directory=tmp_path, allow_pickle=True)


@pytest.mark.parametrize("uri", ["models:/encoder@champion", "models:/encoder/1"])
def test_a_baseline_is_a_model_like_any_other(single: FoundModel, tmp_path: Path, uri: str) -> None:
    earlier = found(uri, single, tmp_path)
    assert isinstance(earlier, FoundModel)
    assert (earlier.resolved, earlier.name, earlier.version) == ("models:/encoder/1", "encoder", "1")
    assert earlier.serialization == "pt2"


def test_an_alias_alone_is_one_of_the_candidates_own_model(pickled: FoundModel, tmp_path: Path) -> None:
    earlier = found("@champion", pickled, tmp_path)
    assert isinstance(earlier, FoundModel)
    assert earlier.resolved == "models:/encoder/1"


def test_an_alias_alone_of_a_model_outside_of_a_registry_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    candidate = load(f"features:{tmp_path}/v.npy", directory=tmp_path)
    with pytest.raises(UsageError, match=r"is an alias of the candidate's own model, but features:.* is no registered"):
        found("@champion", candidate, tmp_path, "skip_relative")


@pytest.mark.parametrize("uri", ["models:/nobody/1", "models:/nobody@champion"])
@pytest.mark.parametrize("when", ["error", "skip_relative"])
def test_a_model_that_the_registry_does_not_know_is_a_mistake_and_no_absent_version(
    pickled: FoundModel, tmp_path: Path, uri: str, when: When
) -> None:
    with pytest.raises(RegistryError, match=r"name=nobody.* not found; the nearest models are") as no:
        found(uri, pickled, tmp_path, when)
    assert not isinstance(no.value, AbsentError)


@pytest.mark.parametrize("when", ["error", "skip_relative"])
def test_a_pinned_version_must_be_there(pickled: FoundModel, tmp_path: Path, when: When) -> None:
    with pytest.raises(AbsentError, match=r"models:/encoder/99.* a version that is named must be there"):
        found("models:/encoder/99", pickled, tmp_path, when)


@pytest.mark.parametrize("uri", ["@stable", "models:/encoder@stable"])
def test_a_version_that_the_registry_does_not_know_is_absent_as_the_policy_says(
    pickled: FoundModel, tmp_path: Path, uri: str
) -> None:
    full = f"models:/encoder{uri}" if uri.startswith("@") else uri
    assert found(uri, pickled, tmp_path, "skip_relative") == Absent(f"there is no baseline {full}", full)
    with pytest.raises(AbsentError, match=f"baseline {full}.*`when_absent: skip_relative` lets a first version do"):
        found(uri, pickled, tmp_path, "error")


def test_the_candidate_is_no_baseline_of_itself(registry: Registry, tmp_path: Path) -> None:  # noqa: ARG001
    candidate = load("models:/encoder/1", directory=tmp_path)
    absent = Absent("the baseline models:/encoder/1 is the candidate itself", "models:/encoder@champion")
    assert found("@champion", candidate, tmp_path, "skip_relative") == absent
    with pytest.raises(AbsentError, match="is the candidate itself, so nothing can be compared; name another one"):
        found("@champion", candidate, tmp_path, "error")


@pytest.mark.parametrize("when", ["error", "skip_relative"])
def test_a_baseline_that_is_there_and_cannot_be_loaded_is_an_error_whatever_the_policy_says(
    single: FoundModel, tmp_path: Path, when: When
) -> None:
    with pytest.raises(ModelError, match="allow_pickle"):
        found("models:/encoder/2", single, tmp_path, when)
    with pytest.raises(ModelError, match="there is no such file of precomputed vectors"):
        found(f"features:{tmp_path}/nothing.npy", single, tmp_path, when)
    with pytest.raises(RegistryError, match="names no fixed version") as raised:
        found("models:/encoder/latest", single, tmp_path, when)
    assert not isinstance(raised.value, AbsentError)


@pytest.mark.parametrize("when", ["error", "skip_relative"])
def test_a_registry_that_does_not_answer_is_no_first_version(
    registry: Registry, single: FoundModel, tmp_path: Path, when: When
) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/nowhere.db")
    try:
        with pytest.raises(RegistryError, match="there is no database file") as raised:
            found("models:/encoder/1", single, tmp_path, when)
    finally:
        mlflow.set_tracking_uri(f"sqlite:///{registry.database}")
    assert not isinstance(raised.value, AbsentError)
