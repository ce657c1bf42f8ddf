from typing import Any

import numpy as np
import pytest
import torch

from tts.options import Sampling
from tts.sampling import REPETITION_WINDOW, Sampler, row_keys, uniform

CPU = torch.device("cpu")
STEP = torch.tensor([3])
PARAMETERS = [
    {},
    {"top_p": 1.0},
    {"top_k": 5, "top_p": 1.0},
    {"top_k": 40, "top_p": 0.5},
    {"min_p": 0.05, "top_p": 1.0},
    {"min_p": 0.02, "top_p": 0.8},
    {"temperature": 1.5, "top_p": 0.999},
    {"temperature": 0.0},
    {"repetition_penalty": 1.3},
]


def draw(
    sampling: Sampling,
    scores: torch.Tensor,
    *,
    is_graphable: bool = False,
    tokens: torch.Tensor | None = None,
) -> torch.Tensor:
    sampler = Sampler(sampling, CPU, is_graphable=is_graphable)
    keys = row_keys([(i, 0) for i in range(len(scores))], CPU)
    tokens = torch.zeros((len(scores), 8), dtype=torch.int64) if tokens is None else tokens
    return sampler.draw(scores, keys, STEP, tokens)[:, 0]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_shortcuts_draw_what_the_full_sort_draws(parameters: dict[str, Any]) -> None:
    scores = torch.randn((64, 3000), generator=torch.Generator().manual_seed(0)) * 3
    sampling = Sampling(**parameters)
    short = draw(sampling, scores)
    assert short.equal(draw(sampling, scores, is_graphable=True))


def test_a_flat_distribution_falls_back_to_the_full_sort() -> None:
    scores = torch.randn((8, 3000), generator=torch.Generator().manual_seed(1)) * 0.01
    sampling = Sampling(temperature=1.0, top_p=0.9)
    assert draw(sampling, scores).equal(draw(sampling, scores, is_graphable=True))


def test_draws_follow_the_probabilities() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    scores = p.log().expand(20_000, -1)
    sampling = Sampling(temperature=1.0, top_p=1.0)
    counts = torch.bincount(draw(sampling, scores), minlength=5) / 20_000
    assert torch.allclose(counts, p, atol=0.015)


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.8}, [0, 1]),
        ({"top_p": 0.81}, [0, 1, 2]),
        ({"min_p": 0.25}, [0, 1, 2]),
        ({"top_p": 0.5}, [0]),
        ({"top_k": 3, "top_p": 0.84}, [0, 1]),
    ],
)
def test_limits_keep_exactly_what_they_should(parameters: dict[str, Any], kept: list[int]) -> None:
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, -1)
    # A hair below the limit, because the cumulative sums are floats.
    limits = {k: v - 1e-6 if k != "top_k" else v for k, v in parameters.items()}
    sampling = Sampling(**{"temperature": 1.0, "top_p": 1.0, **limits})
    for is_graphable in (False, True):
        assert draw(sampling, scores, is_graphable=is_graphable).unique().tolist() == kept


def test_temperature_zero_is_greedy() -> None:
    scores = torch.randn(5, 100)
    assert draw(Sampling(temperature=0.0), scores).equal(scores.argmax(-1))


def test_a_repeated_token_is_penalised_and_an_old_one_is_not() -> None:
    scores = torch.tensor([[2.0, 1.9, -1.0, float("-inf")]])
    sampling = Sampling(temperature=0.0, repetition_penalty=1.5)
    tokens = torch.zeros((1, 100), dtype=torch.int64)
    assert draw(sampling, scores, tokens=tokens).item() == 1
    sampler = Sampler(sampling, CPU, is_graphable=False)
    late = torch.tensor([REPETITION_WINDOW + 1])
    tokens[0, 1 : REPETITION_WINDOW + 1] = 2
    assert sampler.draw(scores, row_keys([(0, 0)], CPU), late, tokens).item() == 0


def test_uniform_is_uniform_and_each_stream_its_own() -> None:
    keys = row_keys([(seed, sentence) for seed in range(100) for sentence in range(5)], CPU)
    u = torch.cat([uniform(keys, torch.tensor([step])) for step in range(200)], dim=1).numpy()
    assert u.min() >= 0
    assert u.max() < 1
    histogram = np.histogram(u, bins=50, range=(0, 1))[0] / u.size
    assert np.abs(histogram - 0.02).max() < 0.001
    assert np.abs(np.corrcoef(u[:40])[np.triu_indices(40, 1)]).max() < 0.4
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.02


def test_uniform_is_the_same_whatever_the_batch() -> None:
    alone = uniform(row_keys([(7, 1)], CPU), STEP)
    among = uniform(row_keys([(3, 0), (7, 1)], CPU), STEP)
    assert among[1].equal(alone[0])
