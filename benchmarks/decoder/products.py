"""Time each product of a layer alone, in our tiles and by the library, interleaved in one run.

    python -m benchmarks.decoder.products --out benchmarks/decoder/products.json --seconds 150
    TRITON_INTERPRET=1 python -m benchmarks.decoder.products --device cpu --tiny --out /tmp/p.json

One time is of a CUDA graph of many layers' products, whose weights together are larger than the
second-level cache, over their number. ``library`` is the matrix product alone, ``library whole``
with the norm or SwiGLU kernel that stands beside it in a step; ours hold all of that. Candidates
are those that a model of the bytes likes best; other processes compile them at the start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.decoder.tiles import Role, candidates, estimate_us, roles
from benchmarks.decoder.timing import Report, attempt, free, milliseconds
from benchmarks.decoder.ways import T3, TINY
from benchmarks.provenance import command_line

if TYPE_CHECKING:
    from tts.kernels.products import DotTile

ROWS = (64, 256, 8)  # the most wanted first: the time may not suffice for all
WORKING_SET_BYTES = 200 * 2**20  # four times the second-level cache
Way = tuple[str, bool, bool]  # name, early start, weights asked for early
WAYS: tuple[Way, ...] = (
    ("in order", False, False), ("early", True, False), ("early, prefetch", True, True),
)  # fmt: skip


class Problem:
    """One product at one number of rows, with the weights of many layers.

    Args:
        role: Which.
        n_rows: Rows.
        dtype: Of all but sums.
        device: Where.
        n_layers: How many weights; as many as do not fit into a cache if None.
    """

    def __init__(
        self,
        role: Role,
        n_rows: int,
        dtype: torch.dtype,
        device: torch.device,
        n_layers: int | None = None,
    ) -> None:
        self.role, self.n_rows, self.device = role, n_rows, device
        n_bytes = 2 * role.n_weight_rows * role.n_in
        n_layers = n_layers or max(30, -(-WORKING_SET_BYTES // n_bytes))
        generator = torch.Generator(device).manual_seed(0)

        def randn(*shape: int, std: float = 1.0) -> Tensor:
            made = torch.empty(shape, dtype=dtype, device=device)
            return made.normal_(0, std, generator=generator)

        std = role.n_in**-0.5
        self.weights = [randn(role.n_weight_rows, role.n_in, std=std) for _ in range(n_layers)]
        self.x, self.residual = randn(n_rows, role.n_in), randn(n_rows, role.n_out)
        self.x /= self.x.float().square().mean(-1, keepdim=True).sqrt()  # a norm leaves it alone
        self.gains = 1 + randn(role.n_out, std=0.1)
        self.y = torch.empty_like(self.residual)
        self.normed, self.scaled = torch.empty_like(self.x), torch.empty_like(self.y)
        self.both = torch.empty((n_rows, role.n_weight_rows), dtype=dtype, device=device)
        self.squares = torch.full((n_rows, 32), role.n_in / 32, dtype=torch.float32, device=device)
        self.in_gains = torch.ones(role.n_in, dtype=dtype, device=device)

    def expected(self) -> Tensor:
        """Return the last layer's result in float32 (shape of y); the norm of x is 1."""
        y = self.x.float() @ self.weights[-1].float().t()
        if self.role.is_swiglu:
            gate, up = y.chunk(2, dim=-1)
            y = gate * gate.sigmoid() * up
        return y + self.residual.float() if self.role.is_stream else y

    def library(self, *, is_whole: bool) -> None:
        """Run all layers' products by the library."""
        from tts.kernels.pointwise import normalise, swiglu

        role, to = self.role, self.both if self.role.is_swiglu else self.y
        for weight in self.weights:
            x = self.x
            if is_whole and role.is_normed:
                x = normalise(x, self.in_gains, 1e-5, self.normed)
            if role.is_stream:
                torch.addmm(self.residual, x, weight.t(), out=to)
            else:
                torch.mm(x, weight.t(), out=to)
            if is_whole and role.is_swiglu:
                swiglu(self.both, self.y)

    def ours(self, tile: DotTile, *, is_pdl: bool, is_prefetched: bool) -> Callable[[], None]:
        """Return what runs all layers' products in a tile."""
        from tts.kernels.products import Parts, Stream, multiply_tiles, sizes

        tile = replace(tile, is_prefetched=is_prefetched)
        role = self.role
        n_parts, n_tiles = sizes(tile, self.n_rows, role.n_out, is_swiglu=role.is_swiglu)
        parts = Parts(n_parts, n_tiles, self.device)
        shape = self.n_rows, tile.n_column_tiles(role.n_out)
        stream = None
        if role.is_stream:
            stream = Stream(
                residual=self.residual, gains=self.gains, scaled=self.scaled,
                squares=torch.empty(shape, dtype=torch.float32, device=self.device),
            )  # fmt: skip

        def run() -> None:
            for i, weight in enumerate(self.weights):
                multiply_tiles(
                    self.x, weight, self.y, parts, tile, eps=1e-5, stream=stream,
                    squares=self.squares if role.is_normed else None,
                    is_swiglu=role.is_swiglu, is_pdl=is_pdl and i > 0,
                )  # fmt: skip

        return run


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.roles = roles(TINY if args.tiny else T3)
        self.rows = (5,) if args.tiny else tuple(map(int, args.rows.split(",")))
        self.ways = WAYS[:1] if args.tiny else WAYS
        self.found: dict[str, Any] = {}
        self.report = Report(args.out, args.seconds, {
            "device": str(self.device), "dtype": "torch.bfloat16", "arguments": command_line(),
            "products": self.found,
        })  # fmt: skip

    @torch.inference_mode()
    def run(self) -> None:
        """Measure everything that fits into the time."""
        jobs = [
            {"role": name, "n_rows": n_rows, "tile": asdict(tile)}
            for n_rows in self.rows
            for name, role in self.roles.items()
            for tile in candidates(role, n_rows, self.args.candidates)
        ]
        if self.device.type == "cuda":
            self.report.say(f"{len(jobs)} tiles to compile")
            n = min(self.args.processes, len(jobs))
            command = [sys.executable, "-m", "benchmarks.decoder.products", "--warm"]
            shares = [json.dumps(jobs[i::n]) for i in range(n)]
            warmers = [subprocess.Popen([*command, share]) for share in shares]
            for process in warmers:
                try:
                    process.wait(timeout=max(1.0, self.report.left_s() / 2))
                except subprocess.TimeoutExpired:  # what it has not compiled, the run will
                    process.kill()
                    self.report.say("a process that compiles was ended")
            self.report.say("compiled")
        for n_rows in self.rows:
            for role in self.roles.values():
                if self.report.left_s() > 0:
                    key = f"{n_rows} {role.name}"
                    self.found[key] = attempt(partial(self.product, role, n_rows))
                    self.table(key)
                    self.report.write()
                    free(self.device)
            self.sum(n_rows)

    def product(self, role: Role, n_rows: int) -> dict[str, Any]:
        """Time all ways of one product; us a product."""
        n_layers = 2 if self.args.tiny else None
        problem = Problem(role, n_rows, torch.bfloat16, self.device, n_layers)
        rows: dict[str, dict[str, Any]] = {}
        works: dict[str, Callable[[], Any]] = {}
        for key, (run, header) in self.runs(problem).items():
            if self.report.left_s() < 0:
                break
            found = attempt(partial(self.check, key, run, problem))
            works |= {key: found.pop("work")} if "work" in found else {}
            rows[key] = {**header, **found}
        times: dict[str, list[float]] = {key: [] for key in works}
        for _ in range(self.args.rounds):
            for key, work in works.items():
                if self.report.left_s() > 0:
                    ms = milliseconds(work, self.args.replays, self.device)
                    times[key].append(1e3 * ms / len(problem.weights))
        for key, values in times.items():
            if values:
                rows[key] |= {"us": median(values), "least_us": min(values)}
        return {"n_layers": len(problem.weights), "rows": rows}

    def runs(self, problem: Problem) -> dict[str, tuple[Callable[[], None], dict[str, Any]]]:
        """Return every way of one product and what to note of it."""
        found: dict[str, tuple[Callable[[], None], dict[str, Any]]] = {
            "library": (partial(problem.library, is_whole=False), {}),
            "library whole": (partial(problem.library, is_whole=True), {}),
        }
        for tile in candidates(problem.role, problem.n_rows, self.args.candidates):
            us = estimate_us(problem.role, tile, problem.n_rows)
            for name, is_pdl, is_prefetched in self.ways:
                run = problem.ours(tile, is_pdl=is_pdl, is_prefetched=is_prefetched)
                header = {"tile": asdict(tile), "way": name, "estimate_us": us}
                found[f"{name}: {short(tile)}"] = run, header
        return found

    def check(self, key: str, run: Callable[[], None], problem: Problem) -> dict[str, Any]:
        """Capture one way of one product and compare its last result with float32."""
        problem.y.fill_(float("nan"))
        work = self.graph(run)
        work()
        if key == "library" and problem.role.is_swiglu:  # it stops before the gate
            return {"work": work}
        expected = problem.expected()
        off = (problem.y.float() - expected).norm() / expected.norm()
        return {"work": work, "relative_error": float(off)}

    def graph(self, run: Callable[[], None]) -> Callable[[], Any]:
        """Capture, on a GPU, what runs."""
        if self.device.type != "cuda":
            return run
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def table(self, key: str) -> None:
        """Print what one product came to."""
        if "error" in self.found[key]:
            self.report.say(f"{key}: {self.found[key]['error']}")
            return
        rows = self.found[key]["rows"]
        self.report.say(f"{key}, us a product")
        for name, row in sorted(rows.items(), key=lambda item: item[1].get("us", 1e9)):
            if "us" not in row:
                print(f"    {name:60} {row.get('error', 'no time was left')}", flush=True)
                continue
            line = f"    {name:60} {row['us']:7.2f} [{row['least_us']:7.2f}]"
            line += f" off by {row.get('relative_error', float('nan')):.1e}"
            print(f"{line} expected {row.get('estimate_us', float('nan')):6.2f}", flush=True)

    def sum(self, n_rows: int) -> None:
        """Print the four products' best together."""
        best: dict[str, float] = {}
        for name in self.roles:
            rows = self.found.get(f"{n_rows} {name}", {}).get("rows", {})
            for way in ("library", "library whole", *(way[0] for way in self.ways)):
                us = [r["us"] for k, r in rows.items() if "us" in r and way in (k, r.get("way"))]
                best[way] = best.get(way, 0.0) + min(us, default=float("nan"))
        self.report.say(f"{n_rows} rows, a layer's products: {best}")
        self.report.found.setdefault("layer_us", {})[str(n_rows)] = best
        self.report.write()


def short(tile: DotTile) -> str:
    """Write a tile in a few characters."""
    return (
        f"{tile.block_m} x {tile.block_n} x {tile.block_k}, {tile.n_splits} "
        f"{'joint' if tile.is_joint else 'splits'}, "
        f"{tile.n_stages} stages, {tile.n_warps} warps"
    )


@torch.inference_mode()
def warm(jobs: Sequence[dict[str, Any]]) -> None:
    """Run each tile once every way, which leaves its kernels in the cache on disk."""
    from tts.kernels.products import DotTile

    device, known = torch.device("cuda"), roles(T3)
    for job in jobs:
        problem = Problem(known[job["role"]], job["n_rows"], torch.bfloat16, device, n_layers=2)
        for _, is_pdl, is_prefetched in WAYS:
            try:
                run = problem.ours(
                    DotTile(**job["tile"]), is_pdl=is_pdl, is_prefetched=is_prefetched
                )
                run()
                torch.cuda.synchronize()
            except Exception as error:  # noqa: BLE001 - the run itself will report it
                print(f"{job}: {type(error).__name__}: {str(error)[:200]}", flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small shapes")
    parser.add_argument("--seconds", type=float, default=150.0, help="begin nothing after this")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--candidates", type=int, default=8, help="tiles, each in several depths")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replays", type=int, default=3, help="of a graph, per round")
    parser.add_argument("--processes", type=int, default=14, help="that compile at the start")
    parser.add_argument("--warm", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print and write; or be one of the processes that compile."""
    warnings.simplefilter("ignore")
    args = arguments()
    if args.warm is not None:
        warm(args.warm)
        return
    Bench(args).run()


if __name__ == "__main__":
    main()
