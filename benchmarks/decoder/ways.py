"""The ways to run one decode step that ``steps.py`` times, on random weights at T3's scale."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts import compilation
from tts.attention import attend_by, only
from tts.decoder import Decoder, DecoderConfig
from tts.fused import FusedStep, Products, Tuning, Weights
from tts.kv_cache import StaticCache, causal_mask

# 512 M parameters are read per step, the output head among them.
T3 = DecoderConfig(
    n_layers=30, width=1024, n_heads=16, n_kv_heads=16, ffn_width=4096, rope_theta=5e5
)
TINY = DecoderConfig(n_layers=1, width=128, n_heads=2, n_kv_heads=1, ffn_width=128)
N_SPEECH = 8256  # 8194 padded to a multiple of 64, which some kernels want

Run = Callable[[Tensor, Tensor], Tensor]  # embeddings and positions to hidden states


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of running the layers.

    Args:
        name: As reported.
        kind: ``eager``, ``graph``, ``compile``, ``compile+split_k`` or ``fused``.
        weights: Of the fused step.
        pdl: Whether fused kernels start early.
        group: Inputs that share a scale in 4 bits.
        products: Of the fused step.
        tuning: Of the fused step.
    """

    name: str
    kind: str = "fused"
    weights: Weights = "native"
    pdl: bool = True
    group: int = 128
    products: Products = "auto"
    tuning: Tuning | None = None


ONE_LAUNCH = (  # of all layers: what a fused step chooses for one or two rows
    Way(name="one launch", products="layers"),
    Way(name="one launch, int8", weights="int8", products="layers"),
    Way(name="one launch, int4", weights="int4", products="layers"),
)
FUSED = Way(name="fused")  # by whatever is chosen: one launch for one sequence, where that fits
FEW_PRODUCTS = Way(name="five kernels", products="rows")  # a layer
FEW_ROWS = (
    Way(name="eager", kind="eager"),
    Way(name="cuda graph", kind="graph"),
    *ONE_LAUNCH,
    FEW_PRODUCTS,
    Way(name="five kernels, no early start", products="rows", pdl=False),
    Way(name="five kernels, int8", weights="int8", products="rows"),
    Way(name="five kernels, int4", weights="int4", products="rows"),
    Way(name="compile", kind="compile"),
    Way(name="compile, split-K", kind="compile+split_k"),
)
MANY_ROWS = (
    Way(name="eager", kind="eager"),
    Way(name="fused, own products", products="tiles"),
    Way(name="fused, own products, no early start", products="tiles", pdl=False),
    Way(name="fused, library products", products="library"),
    Way(name="compile, split-K", kind="compile+split_k"),
    Way(name="compile", kind="compile"),
)


class Model(nn.Module):
    """A decoder with a speech table and an output head."""

    def __init__(self, config: DecoderConfig, n_speech: int) -> None:
        super().__init__()
        self.decoder = Decoder(config)
        self.table = nn.Embedding(n_speech, config.width)
        self.head = nn.Linear(config.width, n_speech, bias=False)


def model(config: DecoderConfig, n_speech: int, dtype: torch.dtype, device: torch.device) -> Model:
    """Make a model with random weights, quickly."""
    with torch.device("meta"):
        made = Model(config, n_speech)
    made = made.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if p.dim() == 1:
                p.fill_(1.0)
            else:
                std = 1.0 if name == "table.weight" else p.shape[1] ** -0.5
                p.normal_(0, std, generator=generator)
    return made.eval()


def twin(decoder: Decoder, dtype: torch.dtype | None = None) -> Decoder:
    """Make a decoder of the same parameters, cast if asked, that can be run another way."""
    with torch.device("meta"):
        other = Decoder(decoder.config)
    state = {k: v.to(dtype or v.dtype) for k, v in decoder.state_dict().items()}
    other.load_state_dict(state, assign=True)
    return other.eval()


def runner(way: Way, decoder: Decoder, cache: StaticCache) -> Run:
    """Return the layers run this way over a cache."""
    if way.kind == "fused":
        step = FusedStep(
            decoder,
            weights=way.weights,
            group=way.group,
            pdl=way.pdl and cache.keys.device.type == "cuda",
            products=way.products,
            tuning=way.tuning,
        )
        return lambda x, positions: step(x, positions, cache)
    mine = twin(decoder)
    has_mask = way.kind != "compile+split_k"
    if not has_mask:
        mine.attend = attend_by("split_k")
    if way.kind.startswith("compile"):
        compilation.apply(mine, "reduce-overhead")

    def run(x: Tensor, positions: Tensor) -> Tensor:
        mask = causal_mask(positions, cache.n_slots) if has_mask else None
        return mine(x, positions, mask, cache)  # type: ignore[no-any-return]

    return run


class Step:
    """Embed, run the layers, guide, score and take the likeliest token: the same for every way.

    Args:
        model: Embeds and scores.
        way: How the layers are run.
        cache: Filled, with two rows per sequence.
        n_rows: Sequences.
        context: The position that the steps lie around.
    """

    def __init__(
        self, model: Model, way: Way, cache: StaticCache, n_rows: int, context: int
    ) -> None:
        self.model, self.way, self.context = model, way, context
        device = model.table.weight.device
        self.last = torch.zeros((n_rows, 1), dtype=torch.int64, device=device)
        self.positions = torch.full((2 * n_rows, 1), context, dtype=torch.int64, device=device)
        self.run = runner(way, model.decoder, cache)
        self.weight = torch.tensor(0.5, device=device)
        self.replay: Callable[[], Any] = self
        if way.kind != "eager" and device.type == "cuda":
            with self.kernel_allowed():
                self.replay = compilation.StepGraph(self, device)

    def kernel_allowed(self) -> AbstractContextManager[None]:
        """Allow the one attention kernel that this way is about."""
        if self.way.kind == "fused" or self.last.device.type != "cuda":
            return nullcontext()
        return only("split_k" if self.way.kind == "compile+split_k" else "efficient")

    def reset(self, n_steps: int) -> None:
        """Go back so far that so many steps, behind one that warms up, lie around the context.

        Raises:
            ValueError: There are not so many positions before it.
        """
        start = self.context - n_steps // 2 - 2
        if start < 0:
            raise ValueError(f"{n_steps} steps do not lie around position {self.context}")
        self.positions.fill_(start)

    def __call__(self) -> Tensor:
        """Draw one token per sequence."""
        self.positions.add_(1)
        x = F.embedding(self.last, self.model.table.weight)
        hidden = self.run(torch.cat((x, x)), self.positions)[:, -1]
        conditional, unconditional = hidden.chunk(2)
        guided = torch.lerp(unconditional, conditional, 1.5)
        token = F.linear(guided, self.model.head.weight).argmax(dim=-1, keepdim=True)
        self.last.copy_(token)
        return token


def read_bytes(way: Way, config: DecoderConfig, n_speech: int, n_rows: int, n_live: int) -> int:
    """Return the bytes that a step cannot but read: weights, head and live cache, in 16 bits."""
    c = config
    per_layer = (
        c.width * c.head_dim * (2 * c.n_heads + 2 * c.n_kv_heads) + 3 * c.width * c.ffn_width
    )
    bits = {"native": 16.0, "int8": 8.0, "int4": 4.0 + 16 / way.group}[way.weights]
    cache = 2 * n_rows * c.n_kv_heads * c.head_dim * n_live * 2  # keys and values of 16 bits
    return int(c.n_layers * (per_layer * bits / 8 + cache) + 2 * n_speech * c.width)


def random_cache(
    config: DecoderConfig, n_lanes: int, n_slots: int, dtype: torch.dtype, device: torch.device
) -> StaticCache:
    """Return a cache full of random numbers, always the same."""
    shape = (n_lanes, config.n_kv_heads, n_slots, config.head_dim)
    cache = StaticCache(config.n_layers, shape, dtype, device)
    generator = torch.Generator(device).manual_seed(1)
    for buffer in (cache.keys, cache.values):
        buffer.normal_(0, 1, generator=generator)
    return cache
