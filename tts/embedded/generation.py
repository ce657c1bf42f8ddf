"""Characters in, speech tokens out: prefill, then one decode step per token for a batch of rows.

With guidance the second half of the decoder's rows (lanes) reads NULLs in place of the characters.
The output head is linear, so ``u + w (c - u)`` is taken on hidden states, which halves its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tts.attention import MASKLESS
from tts.compilation import GRAPHED, INDUCTOR
from tts.embedded.lm import BOS, N_SPEECH, NULL, SpeechLM
from tts.embedded.memory import CAPACITY, Cache, Memory, static_cache
from tts.embedded.state import Row, Spoken, State, cut
from tts.kv_cache import DynamicCache, bucket, causal_mask
from tts.options import KvCache, Options
from tts.paged_cache import PagedCache
from tts.sampling import Sampler, guide

if TYPE_CHECKING:
    from tts.fused import FusedStep


class Generator:
    """Runs the language model as its options say.

    Args:
        lm: In its final precision, quantized and compiled or not.
        table: Embedding of every speech token, shape (N_SPEECH, width): a copy from before
            quantization, because the head that it is tied to may be quantized.
        options: In canonical form.
        device: Where the model lies.
        fused: Runs all layers of a decode step in the decoder's place, if given.
    """

    def __init__(
        self,
        lm: SpeechLM,
        table: Tensor,
        options: Options,
        device: torch.device,
        fused: FusedStep | None = None,
    ) -> None:
        self.lm, self.table, self.device, self.fused = lm, table, device, fused
        self.options = options
        self.layout: KvCache = options.kv_cache
        self.sampling = options.sampling
        self.is_guided = options.sampling.cfg_weight != 1
        self.is_compiled = options.compile in INDUCTOR or options.attention == "flex"
        self.has_graph = device.type == "cuda" and options.compile in GRAPHED
        self.has_mask = fused is None and options.attention not in MASKLESS
        self.sampler = Sampler.on(device)
        # Compiled code and some kernels want the same number of rows every time.
        is_int8_on_gpu = options.quantization == "int8_dynamic" and device.type == "cuda"
        needs_rows = self.is_compiled or self.has_graph or is_int8_on_gpu
        self.fixed_rows = options.batch_size if needs_rows else 0
        # Looking at a value costs a synchronisation on a GPU and nothing on a CPU.
        self.look_every = 8 if device.type == "cuda" else 1
        self.n_graphs = 0
        self._kept: dict[tuple[int, int], Memory] = {}

    def scores(self, hidden: Tensor, state: State) -> Tensor:
        """Guide and score hidden states: (lanes, width) to (rows, N_SPEECH), float32."""
        if self.is_guided:
            conditional, unconditional = hidden.chunk(2)
            hidden = guide(conditional, unconditional, state.sampling).to(hidden.dtype)
        return self.lm.logits(hidden)

    def draw(self, state: State, hidden: Tensor) -> None:
        """Draw every row's next token from hidden states (lanes, width) and note it."""
        scores = self.scores(hidden, state)
        token = self.sampler.draw(scores, state.sampling, state.keys, state.step, state.tokens)
        state.note(token)

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
        hidden = self.decode(self.embed_last(state), state.positions, memory.cache, n_live)
        self.draw(state, hidden)
        return hidden

    def decode(self, x: Tensor, positions: Tensor, cache: Cache | None, n_live: int) -> Tensor:
        """Run one entry per lane through all layers, over ``n_live`` slots of a static cache.

        Args:
            x: Shape (lanes, 1, width).
            positions: Shape (lanes, 1), int64.
            cache: Of fixed shape.
            n_live: Slots that a mask covers.

        Returns:
            Hidden states, shape (lanes, width).
        """
        if self.fused is not None:
            # What options are legal sees to it that the cache has fixed buffers.
            return self.fused(x, positions, cache)[:, -1]  # type: ignore[arg-type]
        mask = causal_mask(positions, n_live) if self.has_mask else None
        return self.lm.decoder(x, positions, mask, cache)[:, -1]  # type: ignore[no-any-return]

    def embed_prefix(self, ids: Tensor, slots: Tensor, ends: Tensor) -> Tensor:
        """Embed characters (n, longest), and BOS at the slots ``ends`` (n, 1)."""
        is_bos = (slots == ends)[..., None]
        return torch.where(is_bos, self.table[BOS], self.lm.embed_text(ids))

    def n_live(self, n_used: int, n_slots: int) -> int:
        """Return how many slots a step reads: few enough shapes to compile, few idle slots."""
        if self.layout == "bucketed":
            return bucket(n_used, n_slots)
        if self.has_graph:
            return n_slots
        if self.is_compiled:
            return bucket(n_used, n_slots)
        return min(n_slots, -(-n_used // 64) * 64)

    def memory(self, n_rows: int, n_needed: int, *, is_ragged: bool) -> Memory:
        """Return room for a batch; a static cache's room is made once and used again.

        Args:
            n_rows: Sentences, idle ones included.
            n_needed: The most positions that a row may take.
            is_ragged: Whether rows differ in length.
        """
        n_slots = -(-n_needed // CAPACITY) * CAPACITY
        if self.layout in ("none", "dynamic"):
            c = self.lm.decoder.config
            cache = DynamicCache(c.n_layers, is_ragged=is_ragged)
            return Memory(
                state=self._state(n_rows, n_slots),
                cache=cache if self.layout == "dynamic" else None,
            )
        kept = self._kept.get((n_rows, n_slots))
        if kept is None:
            kept = self._make(n_rows, n_slots)
            keeps_all = self.is_compiled or self.has_graph
            self._kept = {**(self._kept if keeps_all else {}), (n_rows, n_slots): kept}
        if self.has_graph:
            self.n_graphs += kept.capture(self.step, n_needed)
        return kept

    def _make(self, n_rows: int, n_slots: int) -> Memory:
        state = self._state(n_rows, n_slots)
        cache = static_cache(
            self.options,
            self.lm.decoder.config,
            n_lanes=len(state.positions),
            n_slots=n_slots,
            dtype=self.table.dtype,
            device=self.device,
            keeps_buckets=self.has_graph,
        )
        return Memory(state=state, cache=cache)

    def _state(self, n_rows: int, capacity: int) -> State:
        n_lanes = 2 * n_rows if self.is_guided else n_rows
        return State.idle(n_rows, n_lanes, capacity, self.device)


class Batch:
    """A batch that is being spoken; one at a time per generator, for they share memory.

    ``hidden``, shape (lanes, width), is what the last tokens were drawn from; the next step may
    overwrite it.

    Raises:
        ValueError: A row asks for guidance and the generator has one lane per row.
    """

    hidden: Tensor

    def __init__(self, generator: Generator, rows: Sequence[Row]) -> None:
        self.generator = g = generator
        self.n_rows = len(rows)
        weights = {row.sampling.cfg_weight for row in rows if row.sampling is not None}
        if not g.is_guided and weights - {1.0}:
            raise ValueError("a row asks for guidance, and this batch has no lanes for it")
        idle = Row(characters=(ord(" "),), seed=0, sentence=0, cap=0)
        rows = [*rows, *[idle] * (g.fixed_rows - len(rows))]
        self.caps = [row.cap for row in rows]
        lengths = [len(row.characters) for row in rows]
        self.longest, self.n_drawn = max(lengths), 0
        self.is_ragged = min(lengths) != max(lengths)
        n_needed = self.longest + 1 + max(self.caps)
        self.memory = g.memory(len(rows), n_needed, is_ragged=self.is_ragged)
        self.memory.turn += 1
        self.turn = self.memory.turn
        self._reset(rows, lengths)
        self._prefill(rows)

    def advance(self, n_steps: int, *, is_watched: bool = False) -> None:
        """Draw up to ``n_steps`` more tokens per row.

        Args:
            n_steps: How many.
            is_watched: Run the very step that was captured rather than replay it, because a
                replay hides from a profiler which operators run.

        Raises:
            RuntimeError: Another batch has begun in the same memory.
        """
        if self.turn != self.memory.turn:
            raise RuntimeError("another batch has begun: end one stream before the next")
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
        return [cut(tokens[:cap]) for tokens, cap in zip(drawn, self.caps, strict=False)]

    def _reset(self, rows: Sequence[Row], lengths: list[int]) -> None:
        state, device = self.memory.state, self.generator.device
        n_halves = len(state.positions) // len(rows)
        state.positions.copy_(torch.tensor(lengths * n_halves, device=device)[:, None])
        state.begin(range(len(rows)), rows, self.generator.sampling)

    def _prefill(self, rows: Sequence[Row]) -> None:
        g, n, state = self.generator, self.longest + 1, self.memory.state
        padded = [[*row.characters, *[NULL] * (n - len(row.characters))] for row in rows]
        ids = torch.tensor(padded, device=g.device)
        if g.is_guided:
            ids = torch.cat((ids, torch.full_like(ids, NULL)))
        slots = torch.arange(n, device=g.device).expand(len(ids), -1)
        self.embedded = g.embed_prefix(ids, slots, state.positions)
        cache = self.memory.cache
        if isinstance(cache, PagedCache):
            cache.refill(n + max(self.caps))
        if not isinstance(cache, DynamicCache | None):
            cache.show(g.n_live(n, cache.n_slots))
        hidden = g.lm.decoder(self.embedded, slots, None, self.memory.cache)
        self.hidden = at(hidden, state.positions)
        g.draw(state, self.hidden)
        self.n_drawn += 1

    def _step(self, *, is_watched: bool) -> None:
        g, memory = self.generator, self.memory
        n_used = self.longest + 1 + self.n_drawn
        if memory.cache is None:
            self.hidden = self._recompute()
        elif isinstance(memory.cache, DynamicCache):
            self.hidden = self._step_dynamic(n_used)
        else:
            n_live = g.n_live(n_used, memory.cache.n_slots)
            memory.cache.show(n_live)
            graph = None if is_watched else memory.graphs.get(n_live)
            self.hidden = g.step(memory, n_live) if graph is None else graph()

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
        hidden = at(g.lm.decoder(self.embedded, slots), state.positions)
        g.draw(state, hidden)
        return hidden


def at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Take from (lanes, n, width) each lane's entry at its position (lanes, 1): (lanes, width)."""
    return hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))[:, 0]


def speech_table(lm: SpeechLM) -> Tensor:
    """Embed every speech token once: shape (N_SPEECH, width), in the model's precision."""
    with torch.inference_mode():
        tokens = torch.arange(N_SPEECH, device=lm.head.weight.device)
        return lm.embed_speech(tokens[None])[0].clone()
