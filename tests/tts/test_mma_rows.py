"""Our products of few rows on tensor cores: interpreted here, in machine code on a GPU."""

import pytest
import torch

from tests.tts.test_kernels import (
    IS_INTERPRETED,
    assert_close,
    interpret,
    on_devices,
    product,
    randn,
)
from tts.kernels.weights import Weight, to_int4, to_int8

EPS = 1e-5
# Rows times gains are rounded to 16 bits once more than by the kernels of float32.
ROUNDING = {torch.float16: 1.5e-3, torch.bfloat16: 1.3e-2}
# Rows, columns, inputs, norm, residual, SwiGLU, blocks, warps: whole tiles, and all that is not.
CASES = [
    (2, 24, 128, True, False, False, 1, 2),
    (2, 32, 256, False, True, False, 4, 1),
    (3, 20, 384, True, False, True, 2, 2),
    (8, 40, 128, True, True, False, 2, 4),
    (1, 16, 256, True, False, True, 1, 8),
    (5, 12, 640, False, False, False, 8, 1),
    (7, 72, 256, True, True, True, 4, 2),
]


@pytest.mark.skipif(IS_INTERPRETED, reason="this is that process")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interpreted_products_agree_with_float64() -> None:
    interpret("tests/tts/test_mma_rows.py")


def weight_of(kind: str, w: torch.Tensor) -> tuple[Weight, torch.Tensor]:
    """A weight as the kernel reads it, and what it stands for."""
    if kind == "native":
        return w, w
    codes = to_int8(w) if kind == "int8" else to_int4(w, 128)
    return codes, codes.dequantized()


@on_devices
@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("kind", ["native", "int8", "int4"])
@pytest.mark.parametrize("case", CASES)
def test_products_agree_with_float64(
    device: str,
    dtype: torch.dtype,
    kind: str,
    case: tuple[int, int, int, bool, bool, bool, int, int],
) -> None:
    from tts.kernels.mma_rows import MmaTile, multiply_mma

    n_rows, n_out, n_in, has_norm, has_residual, is_swiglu, n_blocks, n_warps = case
    has_norm = has_norm and dtype == torch.bfloat16  # of float16 it is refused
    x = randn(n_rows, n_in, device=device, dtype=dtype)
    w = randn(n_out * (2 if is_swiglu else 1), n_in, device=device, dtype=dtype, seed=1)
    weight, exact = weight_of(kind, w)
    gains = 1 + 0.1 * randn(n_in, device=device, seed=2).to(dtype) if has_norm else None
    residual = randn(n_rows, n_out, device=device, dtype=dtype, seed=3) if has_residual else None
    y = torch.full((n_rows, n_out), torch.nan, dtype=dtype, device=device)
    tile = MmaTile(n_blocks=n_blocks, n_warps=n_warps, max_registers=255)
    found = multiply_mma(
        x, weight, y, norm=gains, eps=EPS, residual=residual, is_swiglu=is_swiglu, tile=tile
    )
    rounding = ROUNDING[dtype] * (1.5 if is_swiglu else 1.0)  # of two products
    assert_close(found, product(x, exact, gains, residual, is_swiglu), rounding)


@on_devices
@pytest.mark.parametrize("kind", ["native", "int8", "int4"])
def test_a_row_does_not_depend_on_the_others(device: str, kind: str) -> None:
    from tts.kernels.linear import multiply

    x = randn(8, 256, device=device, dtype=torch.bfloat16)
    weight, _ = weight_of(kind, randn(48, 256, device=device, dtype=torch.bfloat16, seed=1))
    whole = multiply(x, weight, torch.empty(8, 48, dtype=x.dtype, device=device))
    for n in (1, 2, 3, 5, 8):
        part = multiply(x[:n], weight, torch.empty(n, 48, dtype=x.dtype, device=device))
        assert part.equal(whole[:n])


@on_devices
def test_residual_may_be_written_over(device: str) -> None:
    from tts.kernels.linear import multiply

    x = randn(2, 64, device=device, dtype=torch.bfloat16)
    w = randn(64, 64, device=device, dtype=torch.bfloat16, seed=1)
    y = randn(2, 64, device=device, dtype=torch.bfloat16, seed=2)
    expected = product(x, w, None, y, is_swiglu=False)
    assert_close(multiply(x, w, y, residual=y), expected, 8e-3)


@on_devices
def test_what_tensor_cores_do_not_take_is_refused_or_multiplied_otherwise(device: str) -> None:
    from tts.kernels.linear import multiply
    from tts.kernels.mma_rows import MmaTile, fits

    x = randn(2, 64, device=device)
    w = randn(16, 64, device=device, seed=1)
    y = torch.empty(2, 16, device=device)
    assert not fits(x, w)
    with pytest.raises(ValueError, match=r"not 2 of torch\.float32 by"):
        multiply(x, w, y, tile=MmaTile())
    assert_close(multiply(x, w, y), product(x, w, None, None, is_swiglu=False), 2e-6)
    half = x.to(torch.float16)
    assert not fits(half, to_int4(w.to(torch.float16), 64))
    assert not fits(half, w.to(torch.bfloat16))
    assert fits(half, w.to(torch.float16))
    assert not fits(half, w.to(torch.float16), torch.ones_like(half[0]))  # gains may overflow
    wide = half.to(torch.bfloat16)
    assert fits(wide, w.to(torch.bfloat16), torch.ones_like(wide[0]))
    assert not fits(wide, w.to(torch.bfloat16), torch.ones_like(x[0]))
    assert not fits(wide, w.to(torch.bfloat16), None, y)
    # Its 16 bytes would begin in the middle of others.
    shifted = torch.zeros(129, device=device, dtype=torch.float16)[1:].view(2, 64)
    assert not fits(shifted, w.to(torch.float16))
