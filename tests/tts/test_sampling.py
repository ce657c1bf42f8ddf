from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
import torch

from tts.options import Sampling
from tts.sampling import (
    REPETITION_WINDOW,
    UNIT,
    RowSampling,
    Sampler,
    guide,
    likelihoods,
    row_keys,
    uniform_bits,
)

CPU = torch.device("cpu")
METHODS = ("sort", "short")
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"top_p": 1.0},
    {"top_k": 5, "top_p": 1.0},
    {"top_k": 40, "top_p": 0.5},
    {"min_p": 0.05, "top_p": 1.0},
    {"min_p": 0.02, "top_p": 0.8},
    {"temperature": 1.5, "top_p": 0.999},
    {"temperature": 0.0},
    {"repetition_penalty": 1.3},
    {"top_k": 1500, "top_p": 1.0, "temperature": 2.0},
    {"top_p": 1e-6},
    {"min_p": 1.0},
]


def rows_of(samplings: Sequence[Sampling]) -> RowSampling:
    rows = RowSampling(len(samplings), CPU)
    rows.set(range(len(samplings)), samplings)
    return rows


def draw(
    samplings: Sampling | Sequence[Sampling],
    scores: torch.Tensor,
    *,
    method: str = "short",
    tokens: torch.Tensor | None = None,
    step: int = 3,
) -> torch.Tensor:
    if isinstance(samplings, Sampling):
        samplings = [samplings] * len(scores)
    keys = row_keys([(i, 0) for i in range(len(scores))], CPU)
    steps = torch.full((len(scores), 1), step)
    tokens = torch.zeros((len(scores), 8), dtype=torch.int64) if tokens is None else tokens
    return Sampler(method).draw(scores.clone(), rows_of(samplings), keys, steps, tokens)[:, 0]


def defined(sampling: Sampling, relative: torch.Tensor, bits: int) -> int:
    """The plain definition, in exact arithmetic, for one row of relative probabilities."""
    s = sampling.canonical()
    values = relative.tolist()
    ids = sorted(range(len(values)), key=lambda i: (-values[i], i))
    if s.temperature == 0:
        return ids[0]
    ids = ids[: s.top_k or None]
    ids = [i for i in ids if values[i] >= float(np.float32(s.min_p))]
    weight = {i: floor(values[i] * UNIT) for i in ids}
    top_p = Fraction(round(s.top_p * 2**24), 2**24)
    needed, running, kept = ceil(top_p * sum(weight.values())), 0, []
    for i in ids:
        kept.append(i)
        running += weight[i]
        if running >= needed:
            break
    target, running = floor(Fraction(bits, 2**24) * running), 0
    for i in kept:
        running += weight[i]
        if running > target:
            return i
    raise AssertionError("the target lies below the sum")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_those_of_the_plain_definition(method: str, is_tied: bool, seed: int) -> None:
    """Rows of mixed parameters; with ties, scores come in steps, so that most have equals."""
    generator = torch.Generator().manual_seed(seed)
    samplings = [Sampling(**{**p, "repetition_penalty": 1.0}) for p in PARAMETERS] * 4
    spread = torch.tensor([0.01, 1.0, 3.0, 8.0]).repeat_interleave(len(PARAMETERS))[:, None]
    scores = torch.randn((len(samplings), 2000), generator=generator) * spread
    if is_tied:
        scores = (scores * 2).round() / 2
    scores[:, -1] = float("-inf")
    keys = row_keys([(i, 0) for i in range(len(scores))], CPU)
    bits = uniform_bits(keys, torch.tensor([[3]])).flatten().tolist()
    relative = likelihoods(scores, rows_of(samplings))
    expected = [defined(*case) for case in zip(samplings, relative, bits, strict=True)]
    assert draw(samplings, scores, method=method).tolist() == expected


def test_a_row_draws_the_same_whoever_shares_its_batch() -> None:
    samplings = [Sampling(**parameters) for parameters in PARAMETERS]
    scores = torch.randn((len(samplings), 3000), generator=torch.Generator().manual_seed(4)) * 3
    together = draw(samplings, scores)
    keys = row_keys([(i, 0) for i in range(len(scores))], CPU)
    for i, sampling in enumerate(samplings):
        found = Sampler("short").draw(
            scores[i : i + 1],
            rows_of([sampling]),
            keys[i : i + 1],
            torch.tensor([[3]]),
            torch.zeros((1, 8), dtype=torch.int64),
        )
        assert found.item() == together[i]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_shortcuts_draw_what_the_full_sort_draws(parameters: dict[str, Any]) -> None:
    scores = torch.randn((64, 3000), generator=torch.Generator().manual_seed(0)) * 3
    sampling = Sampling(**parameters)
    assert draw(sampling, scores).equal(draw(sampling, scores, method="sort"))


def test_a_flat_distribution_falls_back_to_the_full_sort() -> None:
    scores = torch.randn((8, 3000), generator=torch.Generator().manual_seed(1)) * 0.01
    sampling = Sampling(temperature=1.0, top_p=0.9)
    assert draw(sampling, scores).equal(draw(sampling, scores, method="sort"))


@pytest.mark.parametrize("method", METHODS)
def test_draws_follow_the_probabilities(method: str) -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    scores = p.log().expand(20_000, -1)
    sampling = Sampling(temperature=1.0, top_p=1.0)
    counts = torch.bincount(draw(sampling, scores, method=method), minlength=5) / 20_000
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
@pytest.mark.parametrize("method", METHODS)
def test_limits_keep_exactly_what_they_should(
    parameters: dict[str, Any], kept: list[int], method: str
) -> None:
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, -1)
    # A hair below the limit, because probabilities are floats.
    limits = {k: v - 1e-6 if k != "top_k" else v for k, v in parameters.items()}
    sampling = Sampling(**{"temperature": 1.0, "top_p": 1.0, **limits})
    assert draw(sampling, scores, method=method).unique().tolist() == kept


@pytest.mark.parametrize("method", METHODS)
def test_temperature_zero_is_greedy_and_the_first_of_equals(method: str) -> None:
    scores = torch.randn(5, 100).round()
    assert draw(Sampling(temperature=0.0), scores, method=method).equal(scores.argmax(-1))


@pytest.mark.parametrize("method", METHODS)
def test_a_greedy_row_beside_a_drawn_one_stays_greedy(method: str) -> None:
    scores = torch.randn((6, 500), generator=torch.Generator().manual_seed(2))
    samplings = [Sampling(temperature=0.0), Sampling(temperature=3.0)] * 3
    found = draw(samplings, scores, method=method)
    assert found[::2].equal(scores.argmax(-1)[::2])
    assert not found[1::2].equal(scores.argmax(-1)[1::2])


@pytest.mark.parametrize("method", METHODS)
def test_a_repeated_token_is_penalised_and_an_old_one_is_not(method: str) -> None:
    scores = torch.tensor([[2.0, 1.9, -1.0, float("-inf")]])
    sampling = Sampling(temperature=0.0, repetition_penalty=1.5)
    tokens = torch.zeros((1, 100), dtype=torch.int64)
    assert draw(sampling, scores, tokens=tokens, method=method).item() == 1
    tokens[0, 1 : REPETITION_WINDOW + 1] = 2
    late = REPETITION_WINDOW + 1
    assert draw(sampling, scores, tokens=tokens, step=late, method=method).item() == 0


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_are_no_numbers_draw_some_token(method: str) -> None:
    found = draw(Sampling(), torch.full((2, 50), float("nan")), method=method)
    assert ((found >= 0) & (found < 50)).all()


def test_each_row_is_guided_by_its_own_weight_and_one_leaves_it_exactly_alone() -> None:
    c, u = torch.randn(3, 16), torch.randn(3, 16)
    rows = rows_of([Sampling(cfg_weight=w) for w in (1.0, 3.0, 0.0)])
    guided = guide(c, u, rows)
    assert guided[0].equal(c[0])
    assert guided[2].equal(u[2])
    assert torch.allclose(guided[1], u[1] + 3 * (c[1] - u[1]), atol=1e-5)


def test_parameters_of_a_row_change_in_place() -> None:
    rows = rows_of([Sampling()] * 3)
    address = rows.values.data_ptr()
    rows.set([1], [Sampling(temperature=0.25, top_k=7)])
    assert rows.values.data_ptr() == address
    assert rows.column("temperature").flatten().tolist() == pytest.approx([0.7, 0.25, 0.7])
    assert rows.column("top_k")[1].item() == 7


def uniform(keys: torch.Tensor, step: int) -> torch.Tensor:
    return uniform_bits(keys, torch.tensor([step])).float() * 2.0**-24


def test_uniform_is_uniform_and_each_stream_its_own() -> None:
    keys = row_keys([(seed, sentence) for seed in range(100) for sentence in range(5)], CPU)
    u = torch.cat([uniform(keys, step) for step in range(200)], dim=1).numpy()
    assert u.min() >= 0
    assert u.max() < 1
    histogram = np.histogram(u, bins=50, range=(0, 1))[0] / u.size
    assert np.abs(histogram - 0.02).max() < 0.001
    assert np.abs(np.corrcoef(u[:40])[np.triu_indices(40, 1)]).max() < 0.4
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.02


def test_uniform_is_the_same_whatever_the_batch() -> None:
    alone = uniform(row_keys([(7, 1)], CPU), 3)
    among = uniform(row_keys([(3, 0), (7, 1)], CPU), 3)
    assert among[1].equal(alone[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_temperature_that_would_overflow_is_greedy(method: str) -> None:
    scores = torch.randn((4, 100), generator=torch.Generator().manual_seed(5))
    found = draw(Sampling(temperature=1e-40), scores, method=method)
    assert found.equal(scores.argmax(-1))
