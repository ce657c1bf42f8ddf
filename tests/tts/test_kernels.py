"""Our kernels against plain float64: in Triton's interpreter here, in machine code on a GPU.

Whether a kernel is interpreted is settled when Triton is imported, so the tests on the CPU run in a
process of their own, started by the first test below with TRITON_INTERPRET=1.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tts.kernels.weights import Weight, to_int4, to_int8
from tts.kv_cache import quantize_rows

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES: list[Any] = ["cpu"] if IS_INTERPRETED else [CUDA]
on_devices = pytest.mark.parametrize("device", DEVICES)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROUNDING = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def interpret(*files: str) -> None:
    """Run tests with interpreted kernels in a fresh process."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-m", "not gpu", "-o", "timeout=300", *files),
        ],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.skipif(IS_INTERPRETED, reason="this is that process")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interpreted_kernels_agree_with_float64() -> None:
    interpret("tests/tts/test_kernels.py")


def randn(*shape: int, device: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device, dtype)


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (found.double() - expected).norm() / expected.norm()
    assert error < tolerance, float(error)


def rms_norm(x: Tensor, gains: Tensor, eps: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gains


# --- matrix products -------------------------------------------------------------------------


def product(
    x: Tensor, w: Tensor, gains: Tensor | None, residual: Tensor | None, is_swiglu: bool
) -> Tensor:
    """The same in float64."""
    x, w = x.double(), w.double()
    if gains is not None:
        x = rms_norm(x, gains.double(), 1e-5)
    y = x @ w.t()
    if is_swiglu:
        gate, up = y.chunk(2, dim=-1)
        y = gate * gate.sigmoid() * up
    return y if residual is None else y + residual.double()


def weight_of(kind: str, w: Tensor) -> tuple[Weight, Tensor]:
    """A weight as a kernel reads it, and what it stands for."""
    if kind == "native":
        return w, w
    codes = to_int8(w) if kind == "int8" else to_int4(w, 32)
    return codes, codes.dequantized()


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["native", "int8", "int4"])
@pytest.mark.parametrize(
    ("n_rows", "n_out", "n_in", "has_norm", "has_residual", "is_swiglu"),
    [
        (2, 24, 96, True, False, False),
        (2, 20, 64, False, True, False),
        (3, 12, 160, True, False, True),
        (1, 8, 32, False, False, False),
        (4, 9, 352, True, True, False),
    ],
)
def test_products_of_few_rows(
    device: str,
    dtype: torch.dtype,
    kind: str,
    n_rows: int,
    n_out: int,
    n_in: int,
    has_norm: bool,
    has_residual: bool,
    is_swiglu: bool,
) -> None:
    from tts.kernels.linear import choose_tile, multiply

    x = randn(n_rows, n_in, device=device, dtype=dtype)
    w = randn(n_out * (2 if is_swiglu else 1), n_in, device=device, dtype=dtype, seed=1)
    gains = 1 + 0.1 * randn(n_in, device=device, seed=2).to(dtype) if has_norm else None
    residual = randn(n_rows, n_out, device=device, dtype=dtype, seed=3) if has_residual else None
    weight, exact = weight_of(kind, w)
    y = torch.full((n_rows, n_out), torch.nan, device=device, dtype=dtype)
    found = multiply(  # a tile of this kernel's: without one, tensor cores take rows of 16 bits
        x, weight, y, norm=gains, eps=1e-5, residual=residual, is_swiglu=is_swiglu,
        tile=choose_tile(weight),
    )  # fmt: skip
    tolerance = max(ROUNDING[dtype], 3e-4 if kind != "native" else 0.0)
    assert_close(found, product(x, exact, gains, residual, is_swiglu), tolerance)


@on_devices
@pytest.mark.parametrize("kind", ["native", "int8", "int4"])
@pytest.mark.parametrize("n_columns", [1, 4])
@pytest.mark.parametrize("n_warps", [1, 8])
def test_products_do_not_depend_on_how_they_are_cut(
    device: str, kind: str, n_columns: int, n_warps: int
) -> None:
    from tts.kernels.linear import Tile, multiply

    x, w = randn(2, 96, device=device), randn(18, 96, device=device, seed=1)
    weight, exact = weight_of(kind, w)
    y = torch.full((2, 18), torch.nan, device=device)
    tile = Tile(n_columns=n_columns, n_warps=n_warps, max_registers=255)
    tolerance = 3e-4 if kind != "native" else 2e-6
    assert_close(multiply(x, weight, y, tile=tile), product(x, exact, None, None, False), tolerance)


@on_devices
def test_a_product_may_overwrite_its_residual(device: str) -> None:
    from tts.kernels.linear import multiply

    x, w, y = randn(2, 64, device=device), randn(16, 64, device=device), randn(2, 16, device=device)
    expected = product(x, w, None, y.clone(), False)
    assert_close(multiply(x, w, y, residual=y), expected, 2e-6)


def test_8_bits_are_off_by_at_most_half_a_scale() -> None:
    w = randn(6, 10, device="cpu")
    codes = to_int8(w)
    assert codes.shape == (6, 10)
    assert ((codes.dequantized() - w).abs() <= codes.scales[:, None] / 2 + 1e-6).all()


def test_4_bits_are_off_by_at_most_half_a_scale() -> None:
    w = randn(6, 128, device="cpu")
    codes = to_int4(w, 32)
    assert codes.shape == (6, 128)
    off = (codes.dequantized() - w).abs().view(6, 4, 32)
    # The scale itself is rounded to 8 bits: the largest weight may be cut by 7 times that.
    assert (off <= codes.scales.float()[..., None] * (0.5 + 7 * 2**-8)).all()


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="groups of 64"):
        to_int4(torch.zeros(2, 96), 64)
    with pytest.raises(ValueError, match="paired"):
        to_int8(torch.zeros(2, 7))


# --- between the products --------------------------------------------------------------------


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_and_swiglu_of_many_rows(device: str, dtype: torch.dtype) -> None:
    from tts.kernels.pointwise import normalise, swiglu

    x, gains = randn(5, 48, device=device, dtype=dtype), randn(48, device=device, dtype=dtype)
    found = normalise(x, gains, 1e-5, torch.empty_like(x))
    assert_close(found, rms_norm(x.double(), gains.double(), 1e-5), ROUNDING[dtype])
    gate, up = x.double().chunk(2, dim=-1)
    y = torch.empty((5, 24), dtype=dtype, device=device)
    assert_close(swiglu(x, y), gate * gate.sigmoid() * up, ROUNDING[dtype])


# --- attention -------------------------------------------------------------------------------


def attention(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """The same in float64, row by row."""
    n_heads, rows = q.shape[1], []
    for row, n in enumerate(lengths):
        group = n_heads // k.shape[1]
        keys = k[row, :, :n].double().repeat_interleave(group, dim=0)
        values = v[row, :, :n].double().repeat_interleave(group, dim=0)
        weights = (q[row].double() @ keys.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
        rows.append(weights @ values)
    return torch.stack(rows)


LENGTHS = [[1, 1], [7, 40], [40, 33], [2, 17]]


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_attention_reads_the_live_slots(
    device: str, dtype: torch.dtype, kv_heads: int, lengths: list[int]
) -> None:
    from tts.kernels.decode_attention import decode_attention

    q = randn(2, 4, 1, 16, device=device, dtype=dtype)
    k = randn(2, kv_heads, 40, 16, device=device, dtype=dtype, seed=1)
    v = randn(2, kv_heads, 40, 16, device=device, dtype=dtype, seed=2)
    expected = attention(q, k, v, lengths)
    for row, n in enumerate(lengths):  # what lies behind must never be read
        k[row, :, n:], v[row, :, n:] = torch.nan, torch.nan
    found = decode_attention(q, k, v, torch.tensor(lengths, device=device, dtype=torch.int32))
    assert_close(found, expected, ROUNDING[dtype])


@on_devices
@pytest.mark.parametrize("n_splits", [1, 2, 8])
@pytest.mark.parametrize("lengths", [[1, 150], [65, 64], [129, 192], [5, 97]], ids=str)
def test_attention_does_not_depend_on_how_it_is_cut(
    device: str, n_splits: int, lengths: list[int]
) -> None:
    from tts.kernels.decode_attention import Splits, Workspace, attend

    q = randn(2, 2, 8, device=device)
    k, v = randn(2, 1, 192, 8, device=device, seed=1), randn(2, 1, 192, 8, device=device, seed=2)
    splits = Splits(n_splits=n_splits, min_chunk=16, block=16)
    workspace = Workspace(4, splits, 8, torch.device(device))
    at = torch.tensor(lengths, device=device)
    for _ in range(2):  # the counters must have come back to zero
        y = torch.full((2, 2, 8), torch.nan, device=device)
        found = attend(q, k, v, at, y, workspace, splits, n_heads=2)
        assert_close(found[:, :, None], attention(q[:, :, None], k, v, lengths), 2e-6)
    assert not workspace.counters.any()


@on_devices
def test_attention_reads_8_bits(device: str) -> None:
    from tts.kernels.decode_attention import decode_attention

    q, lengths = randn(2, 4, 1, 16, device=device), [9, 24]
    k, k_scales = quantize_rows(randn(2, 2, 24, 16, device=device, seed=1))
    v, v_scales = quantize_rows(randn(2, 2, 24, 16, device=device, seed=2))
    at = torch.tensor(lengths, device=device)
    found = decode_attention(q, k, v, at, key_scales=k_scales, value_scales=v_scales)
    assert_close(found, attention(q, k * k_scales, v * v_scales, lengths), 2e-6)


@on_devices
@pytest.mark.parametrize("page_size", [4, 16])
def test_attention_reads_pages(device: str, page_size: int) -> None:
    from tts.kernels.decode_attention import decode_attention

    q, lengths = randn(2, 4, 1, 16, device=device), [21, 32]
    k, v = randn(2, 2, 32, 16, device=device, seed=1), randn(2, 2, 32, 16, device=device, seed=2)
    n_pages = 32 // page_size
    order = torch.randperm(2 * n_pages, generator=torch.Generator().manual_seed(3)).to(device)
    table = order.view(2, n_pages).to(torch.int32)

    def paged(x: Tensor) -> Tensor:
        pages = x.view(2, 2, n_pages, page_size, 16).transpose(1, 2).reshape(-1, 2, page_size, 16)
        pool = torch.full_like(pages, torch.nan)
        pool[order] = pages
        return pool

    at = torch.tensor(lengths, device=device)
    found = decode_attention(q, paged(k), paged(v), at, block_table=table)
    assert_close(found, attention(q, k, v, lengths), 2e-6)


@on_devices
def test_attention_reads_a_view_of_a_larger_cache(device: str) -> None:
    from tts.kernels.decode_attention import decode_attention

    q, lengths = randn(2, 2, 1, 16, device=device), [10, 3]
    k = randn(2, 2, 64, 16, device=device, seed=1)[:, :, :12]
    v = randn(2, 2, 64, 16, device=device, seed=2)[:, :, :12]
    found = decode_attention(q, k, v, torch.tensor(lengths, device=device))
    assert_close(found, attention(q, k, v, lengths), 2e-6)
