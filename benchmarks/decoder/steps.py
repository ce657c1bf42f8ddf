"""Time one decode step at T3's scale, every way in the same run, interleaved.

    python -m benchmarks.decoder.steps --out benchmarks/decoder/steps.json --seconds 140 --tune
    TRITON_INTERPRET=1 python -m benchmarks.decoder.steps --device cpu --tiny --out /tmp/steps.json

Random weights, random cache contents, 300 positions of context in 1,024 slots, two rows per
sequence (guidance), greedy tokens. Steps that are timed in a row lie around the context: as many
before it as behind. Every way is first compared with float32 on the same weights.
A way that fails is reported with its error, and the rest goes on. Kernels are compiled by other
processes at the start, into Triton's cache on disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.decoder.tiles import candidates, roles
from benchmarks.decoder.timing import attempt, milliseconds
from benchmarks.decoder.ways import (
    FEW_PRODUCTS,
    FEW_ROWS,
    MANY_ROWS,
    N_SPEECH,
    T3,
    TINY,
    Step,
    Way,
    model,
    random_cache,
    read_bytes,
    twin,
)
from benchmarks.provenance import command_line, provenance
from tts.decoder import Decoder
from tts.fused import FusedStep, Tuning
from tts.kernels.packed_layers import MAX_ROWS
from tts.kv_cache import StaticCache, causal_mask

CONTEXT, SLOTS = 300, 1024
MAX_FEW_ROWS, MAX_MMA_ROWS = 4, 8
N_DOT_TILES = 2  # tried a product
TUNED_SHARE, N_TUNED_STEPS = 0.5, 16  # of the time; per timing
ROLES = ("gate_up", "down", "qkv", "out")
# Blocks of eight columns, warps per program, registers; down has four times the inputs.
TILES = ((2, 4, 255), (2, 8, 128), (1, 4, 128), (4, 8, 255), (1, 2, 255))
DOWN_TILES = ((1, 8, 255), (1, 4, 255), (1, 8, 96), (1, 16, 128))
# Splits, fewest slots of a program, slots at a time, warps.
SPLITS = ((4, 64, 64, 4), (8, 32, 64, 4), (4, 64, 128, 8), (8, 32, 32, 2), (8, 32, 32, 1))
MANY_SPLITS = (
    (1, 64, 64, 4), (1, 64, 32, 4), (1, 64, 32, 2), (1, 64, 32, 1), (1, 64, 16, 2), (1, 64, 16, 1),
    (2, 64, 64, 4), (2, 64, 32, 1), (2, 64, 16, 1),
)  # fmt: skip


def main() -> int:
    """Measure, print and write."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("highest")
    if arguments.warm is not None:
        _warm(arguments)
        return 0
    bench = Bench(arguments)
    bench.run()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small shapes, few steps")
    parser.add_argument("--seconds", type=float, default=140.0, help="begin nothing after this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=64, help="steps per way and round")
    parser.add_argument("--batches", default="1,4,32,128")
    parser.add_argument("--only", default="", help="ways whose name contains this")
    parser.add_argument("--tune", action="store_true", help="try other ways to cut the work first")
    parser.add_argument("--processes", type=int, default=12, help="that compile at the start")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--warm", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


class Bench:
    """One run of the benchmark."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.began = arguments, time.monotonic()
        self.device = torch.device(arguments.device)
        self.config = TINY if arguments.tiny else T3
        self.n_speech = 256 if arguments.tiny else N_SPEECH
        self.dtype = torch.bfloat16
        self.context, self.n_slots = (6, 32) if arguments.tiny else (CONTEXT, SLOTS)
        self.n_steps = 2 if arguments.tiny else arguments.steps
        self.report: dict[str, Any] = {
            **provenance(), "device": str(self.device), "config": str(self.config),
            "n_speech": self.n_speech, "dtype": str(self.dtype), "context": self.context,
            "n_slots": self.n_slots, "n_steps": self.n_steps, "arguments": command_line(),
            "tuned": {}, "batches": {},
        }  # fmt: skip
        self.tunings: dict[str, Tuning] = {}

    @torch.inference_mode()
    def run(self) -> None:
        """Measure everything that fits into the time."""
        warmers = self._start_warmers() if self.device.type == "cuda" else []
        self.model = model(self.config, self.n_speech, self.dtype, self.device)
        if self.device.type == "cuda":
            self.report["copy_bytes_per_s"] = _copy_bandwidth(self.device)
            self._say(f"copy {self.report['copy_bytes_per_s'] / 1e12:.2f} TB/s")
            for process in warmers:
                process.wait(timeout=max(1.0, self._left() - 20))
            self._say(f"{len(warmers)} processes have compiled")
        for batch in self._batches():
            cache = random_cache(self.config, 2 * batch, self.n_slots, self.dtype, self.device)
            if self.arguments.tune:
                self._tune(batch, cache)
            self._batch(batch, cache)
            del cache
            self._write()

    def _batches(self) -> list[int]:
        return [int(batch) for batch in self.arguments.batches.split(",")]

    def _start_warmers(self) -> list[subprocess.Popen[bytes]]:
        """Let other processes compile the kernels that will be needed, each a share of them."""
        jobs = []
        for n_rows in (2 * batch for batch in self._batches()):
            for way in _fused(n_rows):
                jobs.append(_job(way, n_rows))
                if self.arguments.tune and _is_tuned(way):
                    jobs += [_job(way, n_rows, **change) for change in _changes(way, n_rows)]
        n = min(self.arguments.processes, len(jobs))
        command = [sys.executable, "-m", "benchmarks.decoder.steps"]
        shares = [json.dumps(jobs[i::n]) for i in range(n)]
        return [subprocess.Popen([*command, "--warm", share]) for share in shares]

    def _batch(self, batch: int, cache: StaticCache) -> None:
        results: dict[str, dict[str, Any]] = {}
        steps: dict[str, Step] = {}
        wanted = [
            way
            for way in _ways(2 * batch)
            if self.arguments.only in way.name or way.kind == "eager"
        ]
        for way in wanted:
            tuning = self.tunings.get(_tuning_key(way, batch))
            used = replace(way, tuning=tuning) if way.kind == "fused" else way
            if self._left() < (15 if way.kind.startswith("compile") else 4):
                results[way.name] = {"error": "no time was left"}
                continue
            results[way.name] = attempt(lambda used=used: self._build(used, batch, cache, steps))
            self._say(f"batch {batch}: {way.name}: {results[way.name]}")
        self._rounds(steps, results)
        self.report["batches"][str(batch)] = results
        self._table(batch, results)

    def _build(
        self, way: Way, batch: int, cache: StaticCache, steps: dict[str, Step]
    ) -> dict[str, Any]:
        began = time.monotonic()
        step = Step(self.model, way, cache, batch, self.context)
        build_s = time.monotonic() - began
        result = {"build_s": build_s, **(self._errors(step, cache) if batch <= 32 else {})}
        steps[way.name] = step
        n_bytes = read_bytes(way, self.config, self.n_speech, 2 * batch, self.context + 1)
        return {**result, "read_bytes": n_bytes}

    def _errors(self, step: Step, cache: StaticCache) -> dict[str, float]:
        """Compare hidden states with float32, on the weights as loaded and as this way has them."""
        n_rows = len(step.positions)
        generator = torch.Generator(self.device).manual_seed(2)
        x = torch.randn((n_rows, 1, self.config.width), generator=generator, device=self.device)
        x = x.to(self.dtype)
        at = torch.full((n_rows, 1), self.context, device=self.device)
        found = step.run(x, at).float().clone()
        errors = {"error": _relative(found, self._float32(self.model.decoder, x, at, cache))}
        if step.way.weights != "native":
            fused = FusedStep(self.model.decoder, weights=step.way.weights, group=step.way.group)
            exact = _dequantized(self.model.decoder, fused)
            errors["error_own_weights"] = _relative(found, self._float32(exact, x, at, cache))
        return errors

    def _float32(self, decoder: Decoder, x: Tensor, at: Tensor, cache: StaticCache) -> Tensor:
        n = self.context + 1
        shape = (len(x), self.config.n_kv_heads, n, self.config.head_dim)
        wide = StaticCache(self.config.n_layers, shape, torch.float32, self.device)
        wide.keys.copy_(cache.keys[:, :, :, :n])
        wide.values.copy_(cache.values[:, :, :, :n])
        reference = twin(decoder, torch.float32)
        hidden: Tensor = reference(x.float(), at, causal_mask(at, n), wide)
        return hidden

    def _rounds(self, steps: dict[str, Step], results: dict[str, dict[str, Any]]) -> None:
        """Time every way in turn, round after round."""
        times: dict[str, list[float]] = {name: [] for name in steps}
        for i in range(self.arguments.rounds + 1):
            if self._left() < 2 and i > 1:
                break
            for name, step in steps.items():
                result = attempt(lambda step=step: {"ms": self._time(step)})
                if i > 0 and "ms" in result:  # the first round warms up
                    times[name].append(result["ms"])
        for name, values in times.items():
            if values:
                results[name] |= {"ms": values, "median_ms": median(values)}

    def _time(self, step: Step, n_steps: int | None = None) -> float:
        """Return milliseconds per step."""
        n = n_steps or (self.n_steps if step.way.kind != "eager" else max(2, self.n_steps // 4))
        step.reset(n)
        with step.kernel_allowed():
            return milliseconds(step.replay, n, self.device)

    def _tune(self, batch: int, cache: StaticCache) -> None:
        """Change one cut at a time and keep what is quicker."""
        ways = [way for way in _fused(2 * batch) if _is_tuned(way)]
        share_s = TUNED_SHARE * self.arguments.seconds / (len(ways) * len(self._batches()))
        for way in ways:
            found: dict[str, float] = {}
            best, best_ms = Tuning(), float("inf")
            limit = time.monotonic() - self.began + share_s
            for change in [{}, *_changes(way, 2 * batch)]:
                if time.monotonic() - self.began > limit:
                    break
                tuning = _changed(best, **change)
                result = attempt(lambda t=tuning, way=way: self._once(way, t, batch, cache))
                found[str(change or "default")] = result.get("ms", str(result.get("error")))
                if result.get("ms", float("inf")) < 0.995 * best_ms:
                    best, best_ms = tuning, result["ms"]
            key = _tuning_key(way, batch)
            self.tunings[key] = best
            self.report["tuned"][key] = {"tried_ms": found, "best": str(best)}
            self._say(f"tuned {key}: {best_ms:.4f} ms {best}\n    {found}")

    def _once(self, way: Way, tuning: Tuning, batch: int, cache: StaticCache) -> dict[str, Any]:
        step = Step(self.model, replace(way, tuning=tuning), cache, batch, self.context)
        n_steps = min(N_TUNED_STEPS, self.n_steps)
        self._time(step, n_steps)
        return {"ms": min(self._time(step, n_steps) for _ in range(3))}

    def _table(self, batch: int, results: dict[str, dict[str, Any]]) -> None:
        base = results.get("eager", {}).get("median_ms")
        copy = self.report.get("copy_bytes_per_s")
        for name, r in results.items():
            if "median_ms" not in r:
                print(f"{batch:4} {name:30} {r.get('error')}", flush=True)
                continue
            ms = r["median_ms"]
            r["tokens_per_s"] = batch / ms * 1e3
            r["bytes_per_s"] = r["read_bytes"] / ms * 1e3
            r["times_eager"] = None if base is None else base / ms
            r["roofline_share"] = None if copy is None else r["bytes_per_s"] / copy
            line = f"{batch:4} {name:30} {ms:8.4f} ms [{min(r['ms']):.4f}, {max(r['ms']):.4f}]"
            line += f" {r['tokens_per_s']:9.0f} tok/s {r['bytes_per_s'] / 1e12:5.2f} TB/s"
            if base is not None and copy is not None:
                line += (
                    f" {r['times_eager']:6.2f} x eager {r['roofline_share']:5.0%} of the roofline"
                )
            error = f"error {r['error']:.2e}" if "error" in r else "error not looked at"
            print(f"{line}  {error}", flush=True)

    def _left(self) -> float:
        return float(self.arguments.seconds - (time.monotonic() - self.began))

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def _write(self) -> None:
        if self.arguments.out is not None:
            self.report["seconds"] = time.monotonic() - self.began
            self.arguments.out.write_text(json.dumps(self.report, indent=1) + "\n")


def _copy_bandwidth(device: torch.device) -> float:
    """Return bytes read and written per second by a copy of 2 GiB."""
    source = torch.empty(2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    milliseconds(lambda: target.copy_(source), 3, device)
    ms = min(milliseconds(lambda: target.copy_(source), 5, device) for _ in range(3))
    return 2 * 2**31 / ms * 1e3


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _dequantized(decoder: Decoder, fused: FusedStep) -> Decoder:
    """Return a decoder whose matrices are what the codes of a fused step stand for."""
    exact = twin(decoder, torch.float32)
    for block, layer in zip(exact.blocks, fused.layers, strict=True):
        for module, weight in (
            (block.attention.qkv, layer.qkv), (block.attention.out, layer.out),
            (block.ffn.gate_up, layer.gate_up), (block.ffn.down, layer.down),
        ):  # fmt: skip
            assert not isinstance(weight, Tensor)
            module.weight.data = weight.dequantized()
    return exact


def _tuning_key(way: Way, batch: int) -> str:
    return (
        f"{batch} {way.products} {way.weights} {way.group if way.weights == 'int4' else ''}".strip()
    )


def _ways(n_rows: int) -> Sequence[Way]:
    if n_rows <= MAX_FEW_ROWS:
        return [way for way in FEW_ROWS if way.products != "layers" or n_rows <= MAX_ROWS]
    return MANY_ROWS if n_rows > MAX_MMA_ROWS else (FEW_PRODUCTS, *MANY_ROWS)


def _is_tuned(way: Way) -> bool:
    """Say whether other cuts of a way are tried: one launch has no other."""
    return way.pdl and way.products != "layers"


def _fused(n_rows: int) -> list[Way]:
    return [way for way in _ways(n_rows) if way.kind == "fused"]


def _changes(way: Way, n_rows: int) -> list[dict[str, Any]]:
    if n_rows > MAX_FEW_ROWS:
        changes: list[dict[str, Any]] = [{"splits": s} for s in MANY_SPLITS]
        if way.products == "tiles":
            changes += [
                {"role": name, "dot_tile": asdict(replace(tile, is_prefetched=is_prefetched))}
                for name, role in roles(T3).items()
                for tile in candidates(role, n_rows, N_DOT_TILES)
                for is_prefetched in (False, True)
            ]
        return changes
    tiles = [
        {"role": role, "tile": tile}
        for role in ROLES
        for tile in (DOWN_TILES if role == "down" else TILES)
    ]
    return tiles + ([{"splits": s} for s in SPLITS] if way.weights == "native" else [])


def _changed(
    tuning: Tuning,
    *,
    role: str | None = None,
    tile: Sequence[int] = (),
    splits: Sequence[int] | None = None,
    dot_tile: dict[str, int] | None = None,
) -> Tuning:
    from tts.kernels.decode_attention import Splits
    from tts.kernels.mma_rows import MmaTile
    from tts.kernels.products import DotTile

    if role is not None and dot_tile is not None:
        tuning = replace(tuning, dot_tiles={**tuning.dot_tiles, role: DotTile(**dot_tile)})
    elif role is not None:
        changed = {
            **tuning.tiles,
            role: MmaTile(n_blocks=tile[0], n_warps=tile[1], max_registers=tile[2]),
        }
        tuning = replace(tuning, tiles=changed)
    if splits is not None:
        n, min_chunk, block, n_warps = splits
        cut = Splits(n_splits=n, min_chunk=min_chunk, block=block, n_warps=n_warps)
        tuning = replace(tuning, splits=cut)
    return tuning


def _job(way: Way, n_rows: int, **change: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    return {
        "weights": way.weights, "group": way.group, "pdl": way.pdl, "products": way.products,
        "n_rows": n_rows, "change": change,
    }  # fmt: skip


@torch.inference_mode()
def _warm(arguments: argparse.Namespace) -> None:
    """Run one layer each way, which leaves its kernels in the cache on disk."""
    device = torch.device(arguments.device)
    config = replace(T3, n_layers=1)
    decoder = model(config, 64, torch.bfloat16, device).decoder
    for job in arguments.warm:
        n_rows = job["n_rows"]
        shape = (n_rows, config.n_kv_heads, SLOTS, config.head_dim)
        try:
            cache = StaticCache(config.n_layers, shape, torch.bfloat16, device)
            step = FusedStep(
                decoder, weights=job["weights"], group=job["group"], pdl=job["pdl"],
                products=job["products"], tuning=_changed(Tuning(), **job["change"]),
            )  # fmt: skip
            x = torch.zeros((n_rows, 1, config.width), dtype=torch.bfloat16, device=device)
            step(x, torch.full((n_rows, 1), 5, device=device), cache)
            torch.cuda.synchronize()
        except Exception as error:  # noqa: BLE001 - the run itself will report it
            print(f"warming {job}: {type(error).__name__}: {str(error)[:200]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
