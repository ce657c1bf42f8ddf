"""Attention is tried before anything is built on it: what it cannot take is said in words."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tts.conftest import LM
from tts import attention
from tts.decoder import DecoderConfig, Where
from tts.errors import InapplicableError
from tts.options import Attention

CPU = torch.device("cpu")


def check(name: Attention, config: DecoderConfig = LM) -> str:
    return attention.check(name, config, torch.float32, CPU, has_mask=True).detail


@pytest.mark.parametrize("name", ["math", "flash"])
def test_a_kernel_that_runs_is_said_to_be_the_only_one(name: Attention) -> None:
    assert "tried on a prefill and on a decode step with a mask" in check(name)


def test_a_kernel_of_another_device_is_refused() -> None:
    with pytest.raises(InapplicableError, match=r"attention=cudnn: no such kernel for .* on cpu"):
        check("cudnn")


@pytest.mark.parametrize("head_dim", [8, 48, 80, 96])
def test_our_kernel_names_the_heads_that_it_takes(head_dim: int) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    config = replace(LM, head_width=head_dim)
    with pytest.raises(InapplicableError, match=f"head_dim {head_dim} is not among .*64, 128"):
        check("split_k", config)


def test_what_triton_raises_is_a_refusal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("triton.runtime.errors", reason="Triton is not installed")

    def too_large(q: Tensor, k: Tensor, v: Tensor, where: Where) -> Tensor:
        raise errors.OutOfResources(300_000, 232_448, "shared memory")

    monkeypatch.setattr(attention, "split_k", too_large)
    with pytest.raises(InapplicableError, match=r"attention=split_k: .*shared memory"):
        check("split_k")
