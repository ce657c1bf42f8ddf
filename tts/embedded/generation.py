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


class Generator:
    """Runs the language model as its options say.

    Args:
        lm: In its final precision, quantized or not.
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
        is_graphable = device.type == "cuda" and options.compile != "none"
        self.sampler = Sampler(options.sampling, device, is_graphable=is_graphable)
        self.fixed_rows = options.batch_size if options.compile != "none" else None
        # Looking at the host costs a synchronisation on a GPU and nothing on a CPU.
        self.look_every = 8 if device.type == "cuda" else 1
        self.window = 64

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row]) -> list[Spoken]:
        """Draw the tokens of a batch to its end."""
        batch = self.begin(rows)
        while not batch.is_finished():
            batch.advance(self.look_every)
        return batch.spoken()

    def begin(self, rows: Sequence[Row]) -> Batch:
        """Read the characters of a batch and draw each row's first token."""
        return Batch(self, rows)

    def scores(self, hidden: Tensor) -> Tensor:
        """Guide and score hidden states: (lanes, width) to (rows, N_SPEECH), float32."""
        if self.is_guided:
            conditional, unconditional = hidden.float().chunk(2)
            guided = unconditional + self.weight * (conditional - unconditional)
            hidden = guided.to(hidden.dtype)
        return self.lm.logits(hidden)

    def draw(self, state: State, scores: Tensor) -> None:
        """Draw the next token of every row and note it in the state."""
        token = self.sampler.draw(scores, state.keys, state.step, state.tokens)
        token = torch.where(state.is_done, EOS, token)
        state.last.copy_(token)
        state.tokens.scatter_(1, state.step.expand_as(token), token)
        state.step.add_(1)
        state.is_done.logical_or_((token == EOS) | (state.step >= state.caps))

    def embed_last(self, state: State) -> Tensor:
        """Embed the tokens drawn last, once per lane: (lanes, 1, width)."""
        x = F.embedding(state.last, self.table)
        return torch.cat((x, x)) if self.is_guided else x


class Batch:
    """A batch that is being spoken."""

    def __init__(self, generator: Generator, rows: Sequence[Row]) -> None:
        self.generator = g = generator
        self.n_rows = len(rows)
        idle = Row(characters=(ord(" "),), seed=0, sentence=0, cap=0)
        rows = [*rows, *[idle] * ((g.fixed_rows or 0) - len(rows))]
        self.caps = [row.cap for row in rows]
        lengths = [len(row.characters) for row in rows] * (2 if g.is_guided else 1)
        self.longest, self.n_drawn = max(lengths), 0
        self.is_ragged = min(lengths) != max(lengths)
        self.state = self._state(rows, lengths)
        self.cache = self._cache(len(lengths))
        self._prefill(rows, lengths)

    def advance(self, n_steps: int) -> None:
        """Draw up to ``n_steps`` more tokens per row."""
        for _ in range(min(n_steps, max(self.caps) - self.n_drawn)):
            self.state.positions.add_(1)
            self._draw(self._step())

    def is_finished(self) -> bool:
        """Look whether every row has ended; synchronises."""
        return self.n_drawn >= max(self.caps) or bool(self.state.is_done.all())

    def spoken(self) -> list[Spoken]:
        """Return what the rows have said so far; an unfinished row counts as truncated."""
        drawn = self.state.tokens[: self.n_rows, : self.n_drawn].tolist()
        return [_cut(tokens[:cap]) for tokens, cap in zip(drawn, self.caps, strict=False)]

    def _state(self, rows: Sequence[Row], lengths: list[int]) -> State:
        device, n = self.generator.device, len(rows)
        capacity = -(-max(self.caps) // CAPACITY) * CAPACITY
        caps = torch.tensor(self.caps, device=device)[:, None]
        return State(
            last=torch.zeros((n, 1), dtype=torch.int64, device=device),
            positions=torch.tensor(lengths, device=device)[:, None],
            step=torch.zeros(1, dtype=torch.int64, device=device),
            is_done=caps <= 0,
            caps=caps,
            keys=row_keys([(row.seed, row.sentence) for row in rows], device),
            tokens=torch.full((n, max(capacity, 1)), EOS, dtype=torch.int64, device=device),
        )

    def _cache(self, n_lanes: int) -> Cache | None:
        g, c = self.generator, self.generator.lm.decoder.config
        if g.layout == "none":
            return None
        if g.layout == "dynamic":
            return DynamicCache(c.n_layers, is_ragged=self.is_ragged)
        needed = self.longest + 1 + max(self.caps)
        n_slots = -(-needed // CAPACITY) * CAPACITY
        shape = (n_lanes, c.n_kv_heads, n_slots, c.head_dim)
        if g.layout == "static":
            return StaticCache(c.n_layers, shape, g.table.dtype, g.device)
        return StaticInt8Cache(c.n_layers, shape, g.device)

    def _prefill(self, rows: Sequence[Row], lengths: list[int]) -> None:
        g, n = self.generator, self.longest + 1
        padded = [[*row.characters, *[NULL] * (n - len(row.characters))] for row in rows]
        ids = torch.tensor(padded, device=g.device)
        if g.is_guided:
            ids = torch.cat((ids, torch.full_like(ids, NULL)))
        slots = torch.arange(n, device=g.device).expand(len(lengths), -1)
        is_bos = (slots == self.state.positions)[..., None]
        x = torch.where(is_bos, g.table[BOS], g.lm.embed_text(ids))
        self.embedded = x if g.layout == "none" else None
        hidden = g.lm.decoder(x, slots, None, self.cache)
        self._draw(self._at_positions(hidden))

    def _step(self) -> Tensor:
        """Run the decoder on the tokens drawn last; hidden states (lanes, width)."""
        g, state = self.generator, self.state
        x = g.embed_last(state)
        if self.embedded is not None:
            return self._recompute(x)
        n_slots = self.longest + 1 + self.n_drawn
        mask = None
        if isinstance(self.cache, StaticCache | StaticInt8Cache):
            self.cache.n_slots = n_slots = -(-n_slots // g.window) * g.window
            mask = causal_mask(state.positions, n_slots)
        elif self.is_ragged:
            mask = causal_mask(state.positions, n_slots)
        return g.lm.decoder(x, state.positions, mask, self.cache)[:, -1]  # type: ignore[no-any-return]

    def _recompute(self, x: Tensor) -> Tensor:
        """Run the decoder on everything so far, for want of a cache."""
        g, state = self.generator, self.state
        self.embedded = torch.cat((self.embedded, x), dim=1)  # type: ignore[list-item]
        slots = torch.arange(self.embedded.shape[1], device=g.device)
        slots = slots.expand(len(self.embedded), -1)
        is_new = (slots == state.positions)[..., None]
        self.embedded = torch.where(is_new, x, self.embedded)
        return self._at_positions(g.lm.decoder(self.embedded, slots))

    def _at_positions(self, hidden: Tensor) -> Tensor:
        index = self.state.positions[..., None].expand(-1, -1, hidden.shape[-1])
        return hidden.gather(1, index)[:, 0]

    def _draw(self, hidden: Tensor) -> None:
        self.generator.draw(self.state, self.generator.scores(hidden))
        self.n_drawn += 1


def _cut(tokens: list[int]) -> Spoken:
    if EOS in tokens:
        return Spoken(tokens=tuple(tokens[: tokens.index(EOS)]), is_truncated=False)
    return Spoken(tokens=tuple(tokens), is_truncated=True)


def speech_table(lm: SpeechLM) -> Tensor:
    """Embed every speech token once: shape (N_SPEECH, width), in the model's precision."""
    with torch.inference_mode():
        tokens = torch.arange(N_SPEECH, device=lm.head.weight.device)
        return lm.embed_speech(tokens[None])[0].clone()


def describe_cache(generator: Generator) -> Applied:
    """Say where keys and values live."""
    c, dtype = generator.lm.decoder.config, generator.table.dtype
    details = {
        "none": "every step runs the whole sequence again",
        "dynamic": f"{dtype}, as long as the longest row, grown by concatenation",
        "static": f"{dtype}, a multiple of {CAPACITY} slots, written by index",
        "static_int8": f"int8 with a float32 scale per token and head, multiples of {CAPACITY}",
    }
    n_layers = 0 if generator.layout == "none" else c.n_layers
    return Applied(
        name="kv_cache",
        value=generator.layout,
        n_modules=n_layers,
        detail=details[generator.layout],
    )
