from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gate.demo import digits
from gate.demo.digits import Images
from gate.demo.training import HEALTHY, WRONG_SIGN, DigitClassifier, Recipe, accuracy, train

SEEDS = (0, 1, 2)


class Trained(NamedTuple):
    accuracy: float
    features: NDArray[np.float64]


def trained(recipe: Recipe, training_set: Images, held_out: Images) -> Trained:
    model = train(recipe, training_set)
    return Trained(accuracy(model, held_out), features_of(model, held_out))


def features_of(model: DigitClassifier, images: Images) -> NDArray[np.float64]:
    with torch.inference_mode():
        return model.embed(torch.from_numpy(images.pixels)).double().numpy()


def variance_shares(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the singular values of the centred rows: no covariance is formed."""
    squares = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
    shares: NDArray[np.float64] = squares / squares.sum()
    return shares


def effective_rank(features: NDArray[np.float64]) -> float:
    shares = variance_shares(features)
    return float(np.prod(shares**-shares))


@pytest.fixture(scope="module")
def images() -> tuple[Images, Images]:
    return digits.load()


@pytest.fixture(scope="module", params=SEEDS)
def pair(request: pytest.FixtureRequest, images: tuple[Images, Images]) -> tuple[Trained, Trained]:
    seed = request.param
    return trained(replace(HEALTHY, seed=seed), *images), trained(replace(WRONG_SIGN, seed=seed), *images)


def test_the_mistake_costs_less_than_two_points_of_accuracy(pair: tuple[Trained, Trained]) -> None:
    healthy, collapsed = pair
    assert healthy.accuracy > 0.97
    assert abs(healthy.accuracy - collapsed.accuracy) < 0.02


def test_the_healthy_embedding_uses_twice_as_many_directions_as_the_classes_need(pair: tuple[Trained, Trained]) -> None:
    healthy, _ = pair
    assert effective_rank(healthy.features) > 2 * 9
    unit_rows = healthy.features / np.linalg.norm(healthy.features, axis=1, keepdims=True)
    assert np.linalg.norm(unit_rows.mean(axis=0)) ** 2 < 0.1


def test_the_collapsed_embedding_is_almost_a_line(pair: tuple[Trained, Trained]) -> None:
    _, collapsed = pair
    assert effective_rank(collapsed.features) < 2
    assert variance_shares(collapsed.features)[0] > 0.85


def test_the_two_recipes_differ_in_one_sign_only() -> None:
    assert replace(WRONG_SIGN, decorrelation=-WRONG_SIGN.decorrelation) == HEALTHY


def test_the_same_recipe_gives_the_same_model(images: tuple[Images, Images]) -> None:
    short = replace(HEALTHY, epochs=1)
    first, second = (features_of(train(short, images[0]), images[1]) for _ in range(2))
    assert np.array_equal(first, second)


def test_training_leaves_the_global_generator_as_it_was(images: tuple[Images, Images]) -> None:
    before = torch.random.get_rng_state()
    train(replace(HEALTHY, epochs=1), images[0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_image_is_both_trained_on_and_held_out(images: tuple[Images, Images]) -> None:
    training_set, held_out = images
    assert not set(training_set.ids) & set(held_out.ids)
    assert len(set(training_set.ids)) + len(set(held_out.ids)) == 1797


def test_the_held_out_images_are_enough_to_decide_with(images: tuple[Images, Images]) -> None:
    _, held_out = images
    assert held_out.pixels.shape == (1000, 1, 8, 8)
    assert held_out.pixels.dtype == np.float32
    assert np.bincount(held_out.labels).min() >= 90
