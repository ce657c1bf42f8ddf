"""The kernel against the plain sort: interpreted where there is no GPU."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports triton

from tts.embedded.lm import EOS
from tts.embedded.state import State
from tts.options import Sampling
from tts.sampling import RowSampling, Sampler, row_keys

SAMPLINGS = [
    Sampling(),
    Sampling(top_p=1.0),
    Sampling(top_k=5, top_p=1.0, temperature=1.0),
    Sampling(top_k=40, top_p=0.5, repetition_penalty=1.5),
    Sampling(min_p=0.05, top_p=0.9),
    Sampling(temperature=2.0, top_p=0.999, repetition_penalty=0.8),
    Sampling(temperature=0.0),
    Sampling(temperature=0.0, repetition_penalty=1.3),
    Sampling(top_p=1e-6),
]
ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)


def drawn(
    method: str, n_vocabulary: int, device: str, *, is_tied: bool, seed: int
) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    n = 2 * len(SAMPLINGS)
    scores = torch.randn((n, n_vocabulary), generator=generator)
    scores *= torch.tensor([0.3, 6.0]).repeat_interleave(n // 2)[:, None]
    if is_tied:
        scores = (scores * 2).round() / 2
    scores[:, -1] = float("-inf")
    tokens = torch.randint(n_vocabulary - 1, (n, 80), generator=generator)
    tokens[:, ::2] = scores.argmax(dim=-1, keepdim=True)
    step = torch.randint(80, (n, 1), generator=generator)
    where = torch.device(device)
    rows = RowSampling(n, where)
    rows.set(range(n), SAMPLINGS * 2)
    keys = row_keys([(i, seed) for i in range(n)], where)
    sampler = Sampler(method)
    return sampler.draw(scores.to(where), rows, keys, step.to(where), tokens.to(where)).tolist()


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_kernel_draws_what_the_sort_draws(device: str, is_tied: bool) -> None:
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("not interpreted beside a GPU")
    found = drawn("kernel", 200, device, is_tied=is_tied, seed=0)
    assert found == drawn("sort", 200, "cpu", is_tied=is_tied, seed=0)


@pytest.mark.gpu
@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("n_vocabulary", [1000, 8194, 15_424])
def test_the_kernel_draws_what_the_sort_draws_at_full_size(
    n_vocabulary: int, is_tied: bool
) -> None:
    """Two exponentials may differ in the last bit: one draw in a thousand is let off."""
    n_other = 0
    for seed in range(20):
        found = drawn("kernel", n_vocabulary, "cuda", is_tied=is_tied, seed=seed)
        expected = drawn("sort", n_vocabulary, "cpu", is_tied=is_tied, seed=seed)
        n_other += sum(f != e for f, e in zip(found, expected, strict=True))
    assert n_other <= 20 * 2 * len(SAMPLINGS) / 1000 + 1


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, interpreting
def test_scores_that_are_no_numbers_draw_some_token() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keys, step = row_keys([(0, 0)], device), torch.zeros((1, 1), dtype=torch.int64, device=device)
    scores = torch.full((1, 50), float("nan"), device=device)
    tokens = torch.zeros((1, 8), dtype=torch.int64, device=device)
    found = Sampler("kernel").draw(scores, RowSampling(1, device), keys, step, tokens)
    assert 0 <= found.item() < 50


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_a_drawn_token_is_noted_as_by_plain_operations(device: str) -> None:
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("not interpreted beside a GPU")
    from tts.sampling_kernel import note

    plain, other = (State.idle(5, 5, 12, torch.device(d)) for d in ("cpu", device))
    for state in (plain, other):
        state.is_done.copy_(torch.tensor([[0], [1], [0], [0], [0]], dtype=torch.bool))
        state.step.copy_(torch.tensor([[0], [4], [6], [3], [11]]))
        state.caps.copy_(torch.tensor([[9], [9], [7], [9], [99]]))
    token = torch.tensor([[70], [71], [72], [EOS], [74]])
    plain.note(token)
    note(
        token.to(device), other.last, other.tokens, other.step, other.is_done, other.caps, EOS
    )  # fmt: skip
    for name in ("last", "tokens", "step", "is_done"):
        assert getattr(other, name).cpu().equal(getattr(plain, name))
    assert plain.is_done.flatten().tolist() == [False, True, True, True, False]
