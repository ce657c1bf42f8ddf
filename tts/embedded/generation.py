"""Characters in, speech tokens out: prefill, then one decode step per token for a batch of rows.

With guidance the second half of the decoder's rows reads NULLs in place of the characters. The
output head is linear, so ``u + w (c - u)`` is taken on hidden states, which halves its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tts.compilation import GRAPHED, StepGraph
from tts.embedded.lm import BOS, EOS, N_SPEECH, NULL, SpeechLM
from tts.kv_cache import DynamicCache, StaticCache, StaticInt8Cache, causal_mask
from tts.options import KvCache, Options
from tts.sampling import Sampler, row_keys
from tts.types import Applied

Cache = DynamicCache | StaticCache | StaticInt8Cache

CAPACITY = 1024  # tokens and cache slots come in multiples of this: few shapes to compile


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sentence to speak.

    Args:
        characters: Ids in [1, 128).
        seed: The utterance's seed.
        sentence: Which sentence of the utterance; with the seed it names the random stream.
        cap: The most tokens to draw; 0 makes an idle row.
    """

    characters: tuple[int, ...]
    seed: int
    sentence: int
    cap: int


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """The tokens of one row, without the end; truncated if the end never came."""

    tokens: tuple[int, ...]
    is_truncated: bool


@dataclass(kw_only=True, eq=False)
class State:
    """All that changes from step to step, in tensors of fixed address.

    ``rows`` counts the sentences, ``lanes`` the decoder's rows: twice as many with guidance.
    """

    last: Tensor  # (rows, 1) int64, the token drawn last
    positions: Tensor  # (lanes, 1) int64, where it sits
    step: Tensor  # (1,) int64, how many tokens were drawn
    is_done: Tensor  # (rows, 1) bool
    caps: Tensor  # (rows, 1) int64
    keys: Tensor  # (rows, 2) int64, the random streams
    tokens: Tensor  # (rows, capacity) int64


@dataclass(kw_only=True, eq=False)
class Memory:
    """What a batch writes to, kept from batch to batch where addresses must not change."""

    state: State
    cache: Cache | None
    graph: StepGraph | None = None


class Generator:
    """Runs the language model as its options say.

    Args:
        lm: In its final precision, quantized and compiled or not.
        table: Embedding of every speech token, shape (N_SPEECH, width): a copy from before
            quantization, because the head that it is tied to may be quantized.
        options: In canonical form.
        device: Where the model lies.
    """

    def __init__(self, lm: SpeechLM, table: Tensor, options: Options, device: torch.device) -> None:
        self.lm, self.table, self.device = lm, table, device
        self.layout: KvCache = options.kv_cache
        self.is_guided = options.sampling.cfg_weight != 1
        self.weight = torch.tensor(options.sampling.cfg_weight, device=device)
        self.is_compiled = options.compile != "none"
        self.has_graph = device.type == "cuda" and options.compile in GRAPHED
        self.sampler = Sampler(options.sampling, device, is_graphable=self.has_graph)
        # Compiled code and some kernels want the same number of rows every time.
        is_int8_on_gpu = options.quantization == "int8_dynamic" and device.type == "cuda"
        needs_rows = self.is_compiled or is_int8_on_gpu
        self.fixed_rows = options.batch_size if needs_rows else 0
        # Looking at a value costs a synchronisation on a GPU and nothing on a CPU.
        self.look_every = 8 if device.type == "cuda" else 1
        self.n_graphs = 0
        self._kept: dict[tuple[int, int], Memory] = {}

    def scores(self, hidden: Tensor) -> Tensor:
        """Guide and score hidden states: (lanes, width) to (rows, N_SPEECH), float32."""
        if self.is_guided:
            conditional, unconditional = hidden.float().chunk(2)
            guided = unconditional + self.weight * (conditional - unconditional)
            hidden = guided.to(hidden.dtype)
        return self.lm.logits(hidden)

    def draw(self, state: State, hidden: Tensor) -> None:
        """Draw every row's next token from hidden states (lanes, width) and note it."""
        scores = self.scores(hidden)
        token = self.sampler.draw(scores, state.keys, state.step, state.tokens)
        token = token.masked_fill(state.is_done, EOS)
        state.last.copy_(token)
        state.tokens.scatter_(1, state.step.expand_as(token), token)
        state.step.add_(1)
        state.is_done.logical_or_((token == EOS) | (state.step >= state.caps))

    def embed_last(self, state: State) -> Tensor:
        """Embed the tokens drawn last, once per lane: (lanes, 1, width)."""
        x = F.embedding(state.last, self.table)
        return torch.cat((x, x)) if self.is_guided else x

    def conditional(self, hidden: Tensor) -> Tensor:
        """Score hidden states (lanes, width) without guidance: (rows, N_SPEECH), float32."""
        return self.lm.logits(hidden.chunk(2)[0] if self.is_guided else hidden)

    def step(self, memory: Memory, n_live: int) -> Tensor:
        """Decode and draw one token per row from the first ``n_live`` slots of a static cache.

        Returns:
            What the tokens were drawn from: hidden states, shape (lanes, width).
        """
        state = memory.state
        state.positions.add_(1)
        mask = causal_mask(state.positions, n_live)
        hidden = self.lm.decoder(self.embed_last(state), state.positions, mask, memory.cache)
        self.draw(state, hidden[:, -1])
        return hidden[:, -1]  # type: ignore[no-any-return]

    def n_live(self, n_used: int, n_slots: int) -> int:
        """Return how many slots a step reads: few enough shapes to compile, few idle slots."""
        if self.has_graph:
            return n_slots
        if self.is_compiled:
            return min(n_slots, max(256, 1 << (n_used - 1).bit_length()))
        return min(n_slots, -(-n_used // 64) * 64)

    def memory(self, n_rows: int, n_slots: int, *, is_ragged: bool) -> Memory:
        """Return room for a batch; a static cache's room is made once and used again."""
        if self.layout in ("none", "dynamic"):
            c = self.lm.decoder.config
            cache = DynamicCache(c.n_layers, is_ragged=is_ragged)
            return Memory(
                state=self._state(n_rows, n_slots),
                cache=cache if self.layout == "dynamic" else None,
            )
        kept = self._kept.get((n_rows, n_slots))
        if kept is None:
            kept = Memory(state=self._state(n_rows, n_slots), cache=self._static(n_rows, n_slots))
            if self.has_graph:
                kept.graph = self._capture(kept, n_slots)
            self._kept = {**(self._kept if self.is_compiled else {}), (n_rows, n_slots): kept}
        return kept

    def _capture(self, memory: Memory, n_slots: int) -> StepGraph:
        assert isinstance(memory.cache, StaticCache | StaticInt8Cache)
        memory.cache.show(n_slots)
        self.n_graphs += 1
        return StepGraph(lambda: self.step(memory, n_slots), self.device)

    def _state(self, n_rows: int, capacity: int) -> State:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=self.device)

        return State(
            last=zeros(n_rows, 1),
            positions=zeros(2 * n_rows if self.is_guided else n_rows, 1),
            step=zeros(1),
            is_done=torch.ones((n_rows, 1), dtype=torch.bool, device=self.device),
            caps=zeros(n_rows, 1),
            keys=zeros(n_rows, 2),
            tokens=zeros(n_rows, capacity),
        )

    def _static(self, n_rows: int, n_slots: int) -> Cache:
        c = self.lm.decoder.config
        n_lanes = 2 * n_rows if self.is_guided else n_rows
        shape = (n_lanes, c.n_kv_heads, n_slots, c.head_dim)
        if self.layout == "static":
            return StaticCache(c.n_layers, shape, self.table.dtype, self.device)
        return StaticInt8Cache(c.n_layers, shape, self.device)


class Batch:
    """A batch that is being spoken; one at a time per generator, for they share memory.

    ``hidden``, shape (lanes, width), is what the last tokens were drawn from; the next step may
    overwrite it.
    """

    hidden: Tensor

    def __init__(self, generator: Generator, rows: Sequence[Row]) -> None:
        self.generator = g = generator
        self.n_rows = len(rows)
        idle = Row(characters=(ord(" "),), seed=0, sentence=0, cap=0)
        rows = [*rows, *[idle] * (g.fixed_rows - len(rows))]
        self.caps = [row.cap for row in rows]
        lengths = [len(row.characters) for row in rows]
        self.longest, self.n_drawn = max(lengths), 0
        self.is_ragged = min(lengths) != max(lengths)
        n_slots = -(-(self.longest + 1 + max(self.caps)) // CAPACITY) * CAPACITY
        self.memory = g.memory(len(rows), n_slots, is_ragged=self.is_ragged)
        self._reset(rows, lengths)
        self._prefill(rows)

    def advance(self, n_steps: int, *, is_watched: bool = False) -> None:
        """Draw up to ``n_steps`` more tokens per row.

        Args:
            n_steps: How many.
            is_watched: Run the very step that was captured rather than replay it, because a
                replay hides from a profiler which operators run.
        """
        for _ in range(min(n_steps, max(self.caps) - self.n_drawn)):
            self._step(is_watched=is_watched)
            self.n_drawn += 1

    def force(self, tokens: Tensor) -> None:
        """Put other tokens, shape (rows, 1), in place of those that were drawn last."""
        state = self.memory.state
        state.last.copy_(tokens)
        state.tokens[:, self.n_drawn - 1 : self.n_drawn] = tokens

    def is_finished(self) -> bool:
        """Look whether every row has ended; synchronises."""
        return self.n_drawn >= max(self.caps) or bool(self.memory.state.is_done.all())

    def spoken(self) -> list[Spoken]:
        """Return what the rows have said so far; an unfinished row counts as truncated."""
        drawn = self.memory.state.tokens[: self.n_rows, : self.n_drawn].tolist()
        return [_cut(tokens[:cap]) for tokens, cap in zip(drawn, self.caps, strict=False)]

    def _reset(self, rows: Sequence[Row], lengths: list[int]) -> None:
        state, device = self.memory.state, self.generator.device
        n_halves = len(state.positions) // len(rows)
        state.positions.copy_(torch.tensor(lengths * n_halves, device=device)[:, None])
        state.caps.copy_(torch.tensor(self.caps, device=device)[:, None])
        state.is_done.copy_(state.caps <= 0)
        state.keys.copy_(row_keys([(row.seed, row.sentence) for row in rows], device))
        state.step.zero_()
        state.tokens.fill_(EOS)

    def _prefill(self, rows: Sequence[Row]) -> None:
        g, n, state = self.generator, self.longest + 1, self.memory.state
        padded = [[*row.characters, *[NULL] * (n - len(row.characters))] for row in rows]
        ids = torch.tensor(padded, device=g.device)
        if g.is_guided:
            ids = torch.cat((ids, torch.full_like(ids, NULL)))
        slots = torch.arange(n, device=g.device).expand(len(ids), -1)
        is_bos = (slots == state.positions)[..., None]
        self.embedded = torch.where(is_bos, g.table[BOS], g.lm.embed_text(ids))
        hidden = g.lm.decoder(self.embedded, slots, None, self.memory.cache)
        self.hidden = self._at_positions(hidden)
        g.draw(state, self.hidden)
        self.n_drawn += 1

    def _step(self, *, is_watched: bool) -> None:
        g, memory = self.generator, self.memory
        n_used = self.longest + 1 + self.n_drawn
        if memory.graph is not None and not is_watched:
            self.hidden = memory.graph()
        elif memory.cache is None:
            self.hidden = self._recompute()
        elif isinstance(memory.cache, DynamicCache):
            self.hidden = self._step_dynamic(n_used)
        else:
            n_live = g.n_live(n_used, memory.cache.n_slots)
            memory.cache.show(n_live)
            self.hidden = g.step(memory, n_live)

    def _step_dynamic(self, n_used: int) -> Tensor:
        g, state = self.generator, self.memory.state
        state.positions.add_(1)
        mask = causal_mask(state.positions, n_used) if self.is_ragged else None
        hidden = g.lm.decoder(g.embed_last(state), state.positions, mask, self.memory.cache)
        g.draw(state, hidden[:, -1])
        return hidden[:, -1]  # type: ignore[no-any-return]

    def _recompute(self) -> Tensor:
        """Run the decoder on everything so far, for want of a cache."""
        g, state = self.generator, self.memory.state
        state.positions.add_(1)
        x = g.embed_last(state)
        self.embedded = torch.cat((self.embedded, x), dim=1)
        slots = torch.arange(self.embedded.shape[1], device=g.device)
        slots = slots.expand(len(self.embedded), -1)
        is_new = (slots == state.positions)[..., None]
        self.embedded = torch.where(is_new, x, self.embedded)
        hidden = self._at_positions(g.lm.decoder(self.embedded, slots))
        g.draw(state, hidden)
        return hidden

    def _at_positions(self, hidden: Tensor) -> Tensor:
        index = self.memory.state.positions[..., None].expand(-1, -1, hidden.shape[-1])
        return hidden.gather(1, index)[:, 0]


def _cut(tokens: list[int]) -> Spoken:
    if EOS in tokens:
        return Spoken(tokens=tuple(tokens[: tokens.index(EOS)]), is_truncated=False)
    return Spoken(tokens=tuple(tokens), is_truncated=True)


def speech_table(lm: SpeechLM) -> Tensor:
    """Embed every speech token once: shape (N_SPEECH, width), in the model's precision."""
    with torch.inference_mode():
        tokens = torch.arange(N_SPEECH, device=lm.head.weight.device)
        return lm.embed_speech(tokens[None])[0].clone()


def describe_cache(layout: KvCache, n_layers: int, dtype: torch.dtype) -> Applied:
    """Say where keys and values will live."""
    details = {
        "none": "every step runs the whole sequence again",
        "dynamic": f"{dtype}, as long as the longest row, grown by concatenation",
        "static": f"{dtype}, a multiple of {CAPACITY} slots, written by index",
        "static_int8": f"int8 with a float32 scale per token and head, multiples of {CAPACITY}",
    }
    n_modules = 0 if layout == "none" else n_layers
    return Applied(name="kv_cache", value=layout, n_modules=n_modules, detail=details[layout])
