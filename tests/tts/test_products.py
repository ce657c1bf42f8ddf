"""Our products of many rows against float64: interpreted here, in machine code on a GPU."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.tts.test_kernels import (
    IS_INTERPRETED,
    ROUNDING,
    assert_close,
    interpret,
    on_devices,
    product,
    randn,
)

if TYPE_CHECKING:
    from tts.kernels.products import DotTile, Parts, Stream

DTYPES = [torch.float16, torch.bfloat16]
EPS = 1e-5
# Rows, columns, inputs, splits: whole tiles, and all that is not.
SHAPES = [(32, 32, 64, 1), (5, 24, 40, 1), (33, 40, 96, 2), (17, 49, 24, 1), (20, 16, 160, 4)]


@pytest.mark.skipif(IS_INTERPRETED, reason="this is that process")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interpreted_products_agree_with_float64() -> None:
    interpret("tests/tts/test_products.py")


def small(n_splits: int = 1, **changes: Any) -> "DotTile":  # noqa: ANN401 - passed on
    from tts.kernels.products import DotTile

    return DotTile(**{"block_m": 16, "block_n": 16, "block_k": 16, "n_splits": n_splits, **changes})


def parts_for(tile: "DotTile", n_rows: int, n_out: int, x: Tensor, *, is_swiglu: bool) -> "Parts":
    from tts.kernels.products import Parts, sizes

    return Parts(*sizes(tile, n_rows, n_out, is_swiglu=is_swiglu), x.device)


class Case:
    """Random operands of a product; weights that leave numbers as large as they were."""

    def __init__(
        self, n_rows: int, n_out: int, n_in: int, device: str, dtype: torch.dtype, n_tall: int = 1
    ) -> None:
        self.x = randn(n_rows, n_in, device=device, dtype=dtype)
        self.w = randn(n_tall * n_out, n_in, device=device, dtype=dtype, seed=1) * n_in**-0.5
        self.residual = randn(n_rows, n_out, device=device, dtype=dtype, seed=2)
        self.gains = 1 + 0.2 * randn(n_out, device=device, dtype=dtype, seed=3)
        self.y = torch.full_like(self.residual, torch.nan)

    def stream(self, tile: "DotTile", residual: Tensor | None = None) -> "Stream":
        from tts.kernels.products import Stream

        n_rows, n_out = self.y.shape
        shape = n_rows, tile.n_column_tiles(n_out)
        return Stream(
            residual=self.residual if residual is None else residual,
            gains=self.gains,
            scaled=torch.full_like(self.y, torch.nan),
            squares=torch.full(shape, torch.nan, device=self.y.device),
        )

    def run(self, tile: "DotTile", **how: Any) -> Tensor:  # noqa: ANN401 - passed on
        from tts.kernels.products import multiply_tiles

        is_swiglu = how.get("is_swiglu", False)
        n_rows, n_out = self.y.shape
        parts = parts_for(tile, n_rows, n_out, self.x, is_swiglu=is_swiglu)
        found = multiply_tiles(self.x, self.w, self.y, parts, tile, eps=EPS, **how)
        assert not parts.counters.any()
        return found


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_rows", "n_out", "n_in", "n_splits"), SHAPES)
def test_a_product_alone(
    device: str, dtype: torch.dtype, n_rows: int, n_out: int, n_in: int, n_splits: int
) -> None:
    case = Case(n_rows, n_out, n_in, device, dtype)
    found = case.run(small(n_splits))
    assert_close(found, product(case.x, case.w, None, None, False), ROUNDING[dtype])


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_swiglu", [False, True])
@pytest.mark.parametrize(("n_rows", "n_out", "n_in", "n_splits"), SHAPES)
def test_a_product_of_what_a_norm_would_give(
    device: str,
    dtype: torch.dtype,
    is_swiglu: bool,
    n_rows: int,
    n_out: int,
    n_in: int,
    n_splits: int,
) -> None:
    from tts.kernels.pointwise import prepare

    case = Case(n_rows, n_out, n_in, device, dtype, n_tall=2 if is_swiglu else 1)
    gains = 1 + 0.2 * randn(n_in, device=device, dtype=dtype, seed=4)
    stream, squares = 3 * case.x, torch.full((n_rows, 3), torch.nan, device=device)
    case.x = prepare(stream, gains, torch.full_like(stream, torch.nan), squares)
    found = case.run(small(n_splits), squares=squares, is_swiglu=is_swiglu)
    # Rounded twice: what the norm is made of, and the product.
    expected = product(stream, case.w, gains, None, is_swiglu)
    assert_close(found, expected, 2 * ROUNDING[dtype])


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_rows", "n_out", "n_in", "n_splits"), SHAPES)
def test_a_product_that_is_added_to_the_stream_leaves_what_the_next_norm_needs(
    device: str, dtype: torch.dtype, n_rows: int, n_out: int, n_in: int, n_splits: int
) -> None:
    case, tile = Case(n_rows, n_out, n_in, device, dtype), small(n_splits)
    stream = case.stream(tile)
    found = case.run(tile, stream=stream).double()
    expected = product(case.x, case.w, None, case.residual, False)
    assert_close(found, expected, ROUNDING[dtype])
    # Both are of the numbers that were written, not of those before they were rounded.
    assert_close(stream.scaled, found * case.gains.double(), ROUNDING[dtype])
    assert_close(stream.squares.double().sum(dim=1), found.square().sum(dim=1), 1e-5)


@on_devices
def test_the_stream_may_be_written_where_it_was_read(device: str) -> None:
    case, tile = Case(20, 40, 32, device, torch.float16), small(2)
    expected = product(case.x, case.w, None, case.residual, False)
    case.y.copy_(case.residual)
    found = case.run(tile, stream=case.stream(tile, residual=case.y))
    assert_close(found, expected, ROUNDING[torch.float16])


@on_devices
@pytest.mark.parametrize(
    "changes",
    [
        {"block_n": 32},
        {"block_k": 64},
        {"block_m": 32, "n_splits": 2},
        {"n_splits": 8},
        {"n_splits": 4, "is_joint": True},
    ],
    ids=str,
)
def test_products_do_not_depend_on_how_they_are_cut(device: str, changes: dict[str, int]) -> None:
    case = Case(37, 48, 128, device, torch.float16, n_tall=2)
    found = case.run(small(**changes), is_swiglu=True)
    expected = product(case.x, case.w, None, None, True)
    assert_close(found, expected, ROUNDING[torch.float16])


@on_devices
@pytest.mark.parametrize("n_splits", [1, 4])
def test_a_row_does_not_depend_on_its_neighbours(device: str, n_splits: int) -> None:
    case, tile = Case(9, 24, 64, device, torch.bfloat16), small(n_splits)
    first = case.run(tile).clone()
    kept = case.x[3].clone()
    case.x = randn(9, 64, device=device, dtype=torch.bfloat16, seed=9)
    case.x[7] = kept
    second = case.run(tile)
    assert second[7].equal(first[3])
    assert not second[3].equal(first[3])


@on_devices
def test_parts_serve_products_of_several_shapes_in_turn(device: str) -> None:
    from tts.kernels.products import Parts, multiply_tiles, sizes

    wide, deep = Case(5, 64, 32, device, torch.float16), Case(18, 16, 96, device, torch.float16)
    tiles = {id(wide): small(2), id(deep): small(4)}
    needed = [sizes(tiles[id(case)], *case.y.shape, is_swiglu=False) for case in (wide, deep)]
    parts = Parts(max(n for n, _ in needed), max(n for _, n in needed), torch.device(device))
    for case in (wide, deep, wide, deep):
        case.y.fill_(torch.nan)
        found = multiply_tiles(case.x, case.w, case.y, parts, tiles[id(case)])
        expected = product(case.x, case.w, None, None, False)
        assert_close(found, expected, ROUNDING[torch.float16])
    assert not parts.counters.any()


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_is_prepared_for_its_first_product(device: str, dtype: torch.dtype) -> None:
    from tts.kernels.pointwise import prepare

    x, gains = randn(5, 40, device=device, dtype=dtype), randn(40, device=device, dtype=dtype)
    squares = torch.full((5, 3), torch.nan, device=device)
    found = prepare(x, gains, torch.full_like(x, torch.nan), squares)
    assert_close(found, x.double() * gains.double(), ROUNDING[dtype])
    assert_close(squares.double().sum(dim=1), x.double().square().sum(dim=1), 1e-5)


# Columns, inputs and kind of the products of a layer of T3.
T3 = [(3072, 1024, "normed"), (1024, 1024, "stream"), (4096, 1024, "gated"), (1024, 4096, "stream")]

# Multiprocessors and shared memory of a program: an H200, an A100 and a small GPU.
GPUS = [(132, 232448), (108, 166912), (20, 101376)]


@pytest.mark.parametrize(("n_units", "shared_bytes"), GPUS)
@pytest.mark.parametrize(
    ("n_out", "n_in"),
    [(3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096), (8192, 3072), (88, 40)],
)
@pytest.mark.parametrize("is_swiglu", [False, True])
def test_every_tile_that_is_chosen_fits_its_product_and_the_gpu(
    n_units: int, shared_bytes: int, n_out: int, n_in: int, is_swiglu: bool
) -> None:
    pytest.importorskip("triton")
    from tts.kernels.products import MAX_ROWS, choose_dot_tile

    for n_rows in range(1, MAX_ROWS + 1):
        tile = choose_dot_tile(
            n_rows, n_out, n_in, is_swiglu=is_swiglu, n_units=n_units, shared_bytes=shared_bytes
        )
        n_columns = tile.block_n * (2 if is_swiglu else 1)
        assert 2 * tile.n_stages * tile.block_k * (tile.block_m + n_columns) <= shared_bytes
        assert tile.is_joint == (tile.n_splits > 1)
        if tile.is_joint:  # all must be there at once, each with inputs enough to be worth it
            assert tile.n_tiles(n_rows, n_out) * tile.n_splits <= n_units
            assert n_in // tile.n_splits >= 256
        if tile.is_prefetched:
            assert n_in % (tile.block_k * tile.n_splits) == 0


@pytest.mark.parametrize(
    ("n_rows", "block_m"), [(range(1, 17), 16), (range(17, 33), 32), (range(33, 65), 64)]
)
@pytest.mark.parametrize(("n_out", "n_in", "kind"), T3)
def test_one_tile_serves_all_rows_up_to_16_then_32_then_64(
    n_out: int, n_in: int, kind: str, n_rows: range, block_m: int
) -> None:
    """So a row's numbers do not depend on how many stand beside it."""
    pytest.importorskip("triton")
    from tts.kernels.products import choose_dot_tile

    found = {
        choose_dot_tile(n, n_out, n_in, is_swiglu=kind == "gated", n_units=132, shared_bytes=232448)
        for n in n_rows
    }
    assert len(found) == 1
    # Many inputs are cut among programs: there rows cost little.
    assert found.pop().block_m == (64 if n_in > 1024 else block_m)


def test_too_little_shared_memory_is_refused() -> None:
    pytest.importorskip("triton")
    from tts.kernels.products import choose_dot_tile

    with pytest.raises(ValueError, match="16384 bytes of shared memory, not 32768"):
        choose_dot_tile(8, 1024, 4096, is_swiglu=False, n_units=132, shared_bytes=16384)


@on_devices
def test_weights_that_cannot_be_asked_for_whole_are_refused(device: str) -> None:
    case = Case(5, 16, 40, device, torch.float16)
    with pytest.raises(ValueError, match="16 x 3 x 1 are not 40 inputs"):
        case.run(replace(small(), is_prefetched=True))


@pytest.mark.gpu
def test_programs_that_would_wait_for_absent_ones_are_refused() -> None:
    n_out = 16 * (torch.cuda.get_device_properties(0).multi_processor_count // 2 + 1)
    case = Case(5, n_out, 64, "cuda", torch.float16)
    with pytest.raises(ValueError, match="not all of them there"):
        case.run(small(2, is_joint=True))


# --- at the size they are for ----------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("n_rows", [5, 16, 33, 64, 128, 256])
@pytest.mark.parametrize(("n_out", "n_in", "kind"), T3)
@pytest.mark.parametrize("is_pdl", [False, True])
def test_captured_products_of_a_real_layer(
    n_rows: int, n_out: int, n_in: int, kind: str, is_pdl: bool
) -> None:
    from tts.kernels.products import choose_dot_tile, limits, multiply_tiles

    if is_pdl and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("kernels start early from compute capability 9.0")
    is_gated, is_stream = kind == "gated", kind == "stream"
    case = Case(n_rows, n_out, n_in, "cuda", torch.bfloat16, n_tall=2 if is_gated else 1)
    n_units, shared_bytes = limits(case.x.device)
    tile = choose_dot_tile(
        n_rows, n_out, n_in, is_swiglu=is_gated, n_units=n_units, shared_bytes=shared_bytes
    )
    parts = parts_for(tile, n_rows, n_out, case.x, is_swiglu=is_gated)
    squares = None
    if not is_stream:
        squares = case.x.float().square().sum(dim=1, keepdim=True)
    how: dict[str, Any] = {
        "squares": squares,
        "eps": EPS,
        "is_swiglu": is_gated,
        "stream": case.stream(tile) if is_stream else None,
    }

    def run() -> None:  # the second starts while the first runs, and must find its counters
        for early in (False, is_pdl, is_pdl):
            multiply_tiles(case.x, case.w, case.y, parts, tile, is_pdl=early, **how)

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    answers = []
    for _ in range(3):
        case.y.fill_(torch.nan)
        graph.replay()
        answers.append(case.y.clone())
    gains = None if squares is None else torch.ones_like(case.x[0])
    residual = case.residual if is_stream else None
    assert_close(answers[0], product(case.x, case.w, gains, residual, is_gated), 8e-3)
    assert answers[1].equal(answers[0])
    assert answers[2].equal(answers[0])
    assert not parts.counters.any()
