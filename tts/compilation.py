"""Compile the decode step: one decoder layer by inductor, the whole step as a CUDA graph.

All layers share one piece of code, so only one layer is compiled and every layer runs it: several
times quicker to compile than the whole step, and as fast under a graph. A graph may also hold
eager kernels, or our own fused ones (``tts.fused``).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tts.decoder import Decoder, run_block
from tts.options import Compile, Quantization
from tts.types import Applied

if TYPE_CHECKING:
    from tts.fused import FusedStep

# torch's own CUDA-graph trees would copy every tensor that a step writes in place; we capture the
# whole step ourselves, sampling included.
_INDUCTOR_MODE = {"max-autotune": "max-autotune-no-cudagraphs"}
# Otherwise every process asks the C++ compiler, by building and running a test program for each
# of the CPU's vector extensions, whether it knows them: 15 to 30 s on a busy machine.
_OPTIONS = {"cpp.vec_isa_ok": True}
_copies = count(1)
INDUCTOR: tuple[Compile, ...] = ("default", "reduce-overhead", "max-autotune")
GRAPHED: tuple[Compile, ...] = ("reduce-overhead", "max-autotune", "cuda-graph", "fused")
_FUSED_WEIGHTS: dict[Quantization, Literal["native", "int8", "int4"]] = {
    "none": "native",
    "int8_weight_only": "int8",
    "int4_weight_only": "int4",
}
_FUSED_WAYS = {
    "layers": "one launch for all layers",
    "rows": "our products of few rows",
    "tiles": "our products on tensor cores",
    "library": "a library's products",
}
_UNCOMPILED = {
    "none": "eager",
    "cuda-graph": "eager kernels; the whole step as one CUDA graph",
    "fused": "our fused kernels for all layers; the whole step as one CUDA graph",
}


def apply(decoder: Decoder, mode: Compile) -> Applied:
    """Let every decode step run compiled layers; compilation itself happens at the first step.

    Args:
        decoder: Changed in place; prefill stays eager, because each text has another length.
        mode: The option's value.
    """
    if mode not in INDUCTOR:
        n_fused = len(decoder.blocks) if mode == "fused" else 0
        return Applied(name="compile", value=mode, n_modules=n_fused, detail=_UNCOMPILED[mode])
    how: dict[str, Any] = {"options": _OPTIONS}
    if mode in _INDUCTOR_MODE:
        how = {"mode": _INDUCTOR_MODE[mode]}
    step = torch.compile(own_copy(run_block), fullgraph=True, dynamic=False, **how)
    decoder.run_step = step
    graph = "; the whole step as one CUDA graph" if mode in GRAPHED else ""
    return Applied(
        name="compile",
        value=mode,
        n_modules=len(decoder.blocks),
        detail=f"one decode step of a layer, shared by all{graph}",
    )


def fuse(decoder: Decoder, quantization: Quantization) -> tuple[FusedStep, Applied]:
    """Return a decode step in our own kernels, and what was quantized for it.

    Args:
        decoder: In its final precision. It keeps its matrices, for the prefill.
        quantization: ``"none"``, ``"int8_weight_only"`` or ``"int4_weight_only"``.

    Raises:
        InapplicableError: The kernels cannot take this decoder.
    """
    from tts.fused import FusedStep

    weights = _FUSED_WEIGHTS[quantization]
    step = FusedStep(decoder, weights=weights)
    if weights == "native":
        applied = Applied(name="quantization", value="none", n_modules=0, detail="as loaded")
        return step, applied
    detail = (
        f"{step.applied} matrices of the decode step to {weights}, read by our own kernels; "
        "prefill, head and embeddings as loaded"
    )
    return step, Applied(
        name="quantization", value=quantization, n_modules=step.applied, detail=detail
    )


def observe_fused(step: FusedStep) -> dict[str, str]:
    """Return by which of its ways a fused step ran so far, and why not in one launch."""
    words = []
    for n_rows, way in sorted(step.ran.items()):
        reason = step.not_one_launch.get(n_rows)
        why = "" if reason is None else f" (not one launch: {reason})"
        words.append(f"{n_rows} rows: {_FUSED_WAYS[way]}{why}")
    return {"fused_step": "; ".join(words)} if words else {}


def own_copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Copy a function with its code.

    Compiled code is kept by code object, and which attention kernel may run is not among what
    torch checks before it runs kept code: two builds in one process must not share it.
    """
    assert isinstance(function, FunctionType)
    number = next(_copies)
    code = function.__code__.replace(co_name=f"{function.__name__}_{number}")
    return FunctionType(code, function.__globals__, code.co_name)


def observe() -> dict[str, str]:
    """Return what the compiler did in this process so far."""
    from torch._dynamo.utils import counters

    n_graphs = counters["stats"].get("unique_graphs", 0)
    return {
        "compiled_graphs": str(n_graphs),
        "graph_breaks": str(sum(counters["graph_break"].values())),
        "compile_cache_hits": str(counters["inductor"].get("fxgraph_cache_hit", 0)),
    }


class StepGraph:
    """One decode step, captured as a CUDA graph and replayed.

    Args:
        step: Reads and writes tensors of fixed address only, and never looks at a value. What it
            returns while it is captured is held here, so that nothing else is put in its place.
        device: The GPU.
    """

    def __init__(self, step: Callable[[], Tensor], device: torch.device) -> None:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # compiles, autotunes, and lets libraries allocate workspaces
                step()
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.result = step()

    def __call__(self) -> Tensor:
        """Run the step once more; the answer is overwritten by the next call."""
        self.graph.replay()
        return self.result
