"""Build every axis value alone and the main combinations, speak, and compare with fp32 eager.

Each configuration runs in a process of its own, as a trial does. Run it as
``python -m benchmarks.axes.check_axes --device cuda --out axes.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

TEXTS = (
    "Hello there, how are you?",
    "The quick brown fox jumps over the lazy dog.",
    "Please call me back at three thirty.",
    "It rained all night, and in the morning the river had risen.",
)
STATIC = {"kv_cache": "static"}
GRAPH = {"kv_cache": "static", "compile": "reduce-overhead"}
BF16 = {"precision": "bf16"}
FUSED = {"precision": "bf16", "kv_cache": "static", "compile": "fused"}
CASES: tuple[dict[str, Any], ...] = (
    {},
    *({"precision": value} for value in ("tf32", "bf16", "fp16")),
    *({"attention": value} for value in ("efficient", "flash", "cudnn")),
    *({**BF16, "attention": value} for value in ("efficient", "flash", "cudnn")),
    {**BF16, **STATIC, "attention": "efficient"},
    {**BF16, **STATIC, "attention": "cudnn"},
    *({"kv_cache": value} for value in ("none", "static", "bucketed", "static_int8", "paged")),
    *({**STATIC, "attention": value} for value in ("flex", "split_k")),
    *({"quantization": value} for value in ("int8_weight_only", "int8_dynamic", "fp8")),
    *({**BF16, "quantization": q} for q in ("int8_weight_only", "int4_weight_only", "fp8")),
    {**BF16, "quantization": "int8_dynamic", "batch_size": 32},
    *({**STATIC, "compile": value} for value in ("default", "reduce-overhead", "max-autotune")),
    *({**STATIC, "compile": value} for value in ("cuda-graph", "fused")),
    {**BF16, "compile": "cuda-graph", "kv_cache": "bucketed"},
    {**BF16, "compile": "cuda-graph", "kv_cache": "paged", "attention": "split_k"},
    *({**FUSED, "kv_cache": value} for value in ("static", "bucketed", "static_int8", "paged")),
    *({**FUSED, "quantization": q} for q in ("int8_weight_only", "int4_weight_only")),
    *({**FUSED, "batch_size": size} for size in (4, 32)),
    {**GRAPH, **BF16},
    {**GRAPH, **BF16, "attention": "efficient"},
    {**GRAPH, **BF16, "attention": "cudnn"},
    {**GRAPH, **BF16, "attention": "flash"},
    {**GRAPH, **BF16, "attention": "flex"},
    {**GRAPH, **BF16, "attention": "split_k"},
    {**GRAPH, **BF16, "attention": "split_k", "kv_cache": "static_int8"},
    {**GRAPH, **BF16, "kv_cache": "static_int8"},
    *(
        {**GRAPH, **BF16, "quantization": q}
        for q in ("int8_weight_only", "int8_dynamic", "int4_weight_only", "fp8")
    ),
    {**GRAPH, "quantization": "int8_dynamic"},
    {"batch_size": 4},
    {**BF16, "batch_size": 4, "attention": "flash"},
    {**GRAPH, **BF16, "batch_size": 4},
    {**GRAPH, **BF16, "batch_size": 32},
    {"sampling": {"cfg_weight": 1.0, "temperature": 0.0}},
)


def main() -> int:
    """Run all cases and print a table."""
    arguments = _arguments()
    if arguments.case is not None:
        print("RESULT " + json.dumps(_speak(json.loads(arguments.case), arguments)))
        return 0
    results: list[dict[str, Any]] = []
    for case in CASES:
        result = _in_a_process(case, arguments)
        results.append(result)
        print(_line(result, results[0]), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(_report(results, arguments), indent=1) + "\n")
    return 1 if any(result["status"] == "failed" for result in results) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds per case")
    parser.add_argument("--out", type=Path, help="a JSON file, rewritten after every case")
    parser.add_argument("--case", help="one configuration as JSON: run it here and now")
    return parser.parse_args()


def _in_a_process(case: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.axes.check_axes", "--case", json.dumps(case)]
    for name in ("device", "model", "repeats", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=arguments.timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"case": case, "status": "failed", "reason": f"over {arguments.timeout:g} s"}
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        log = done.stderr[-4000:]
        return {"case": case, "status": "failed", "reason": reason[:300], "log": log}
    result: dict[str, Any] = json.loads(found[-1].removeprefix("RESULT "))
    return {**result, "wall_s": time.perf_counter() - started}


def _speak(case: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import torch

    from tts.build import build
    from tts.errors import InapplicableError
    from tts.options import Options
    from tts.types import Utterance

    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    options = Options.from_mapping({"sampling": {"temperature": 0.0}, **case})
    try:
        built = build(arguments.model, options, arguments.device)
    except InapplicableError as error:
        return {"case": case, "status": "refused", "reason": str(error)}
    voice, size = built.synthesizer, options.batch_size
    utterances = [Utterance(id=str(i), text=text, seed=i) for i, text in enumerate(TEXTS)]
    started = time.perf_counter()
    voice.synthesize(utterances[:size])
    first_s = time.perf_counter() - started
    latencies, stats = [], []
    for _ in range(arguments.repeats):
        started, audios, seconds = time.perf_counter(), [], dict[str, float]()
        for i in range(0, len(utterances), size):
            audios += voice.synthesize(utterances[i : i + size])
            for name, value in voice.stats().items():  # type: ignore[attr-defined]
                seconds[name] = seconds.get(name, 0.0) + value
        latencies.append(time.perf_counter() - started)
        stats.append(seconds)
    best = int(np.argmin(latencies))
    started = time.perf_counter()
    next(iter(voice.stream(utterances[0])))
    ttfa_s = time.perf_counter() - started
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {
        "case": case,
        "status": "ok",
        "load_s": built.load_s,
        "first_s": first_s,
        "total_s": latencies[best],
        "tokens_per_s": sum(a.n_tokens for a in audios) / latencies[best],
        "ttfa_s": ttfa_s,
        **stats[best],
        "peak_device_bytes": memory,
        "tokens": [a.tokens for a in audios],
        "n_truncated": sum(a.n_truncated for a in audios),
        "rms": [float(np.sqrt(np.mean(a.samples**2))) for a in audios],
        "logits": _first_logits(voice),
        "applied": [f"{a.name}={a.value} ({a.n_modules}): {a.detail}" for a in built.applied],
        "observed": voice.observed(),  # type: ignore[attr-defined]
    }


def _first_logits(voice: Any) -> list[float]:  # noqa: ANN401 - the embedded voice's insides
    """Return the first thousand scores behind one fixed prefix."""
    import torch

    generator = voice.generator
    lm = generator.lm
    with torch.inference_mode():
        ids = torch.tensor([[ord(c) for c in "hello there."]], device=generator.device)
        x = lm.embed_text(ids)
        slots = torch.arange(ids.shape[1], device=generator.device)[None]
        # Thirty-two equal rows: some quantized products take no fewer.
        hidden = lm.decoder(x.expand(32, -1, -1), slots.expand(32, -1))
        scores: list[float] = lm.logits(hidden[:, -1])[0, :1000].float().tolist()
    return scores


def _line(result: dict[str, Any], reference: dict[str, Any]) -> str:
    name = ", ".join(f"{k}={v}" for k, v in result["case"].items()) or "fp32 eager (reference)"
    if result["status"] != "ok" or reference["status"] != "ok":
        return f"{name:88} {result['status']}: {result.get('reason', 'no reference')}"
    pairs = list(zip(_flat(result), _flat(reference), strict=False))
    same = sum(a == b for a, b in pairs) / max(len(pairs), 1)
    error = max(abs(a - b) for a, b in zip(result["logits"], reference["logits"], strict=True))
    return (
        f"{name:88} {result['total_s']:7.3f} s {reference['total_s'] / result['total_s']:5.2f}x "
        f"{result['tokens_per_s']:7.0f} tok/s  first {result['first_s']:5.1f} s  "
        f"ttfa {result['ttfa_s'] * 1e3:5.0f} ms  same tokens {same:4.0%}  logits off {error:.4f}  "
        f"{result['observed']}"
    )


def _flat(result: dict[str, Any]) -> list[int]:
    return [token for audio in result["tokens"] for sentence in audio for token in sentence]


def _report(results: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.provenance import provenance
    from tts.device import probe

    return {
        **provenance(),
        "device": probe(arguments.device).name,
        "model": arguments.model,
        "threads": arguments.threads,
        "texts": TEXTS,
        "repeats": arguments.repeats,
        "results": [{k: v for k, v in r.items() if k != "logits"} for r in results],
    }


if __name__ == "__main__":
    sys.exit(main())
