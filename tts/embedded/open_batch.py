"""The embedded voice's rows for continuous batching: sentences come and go beside one another.

A step first draws, from the hidden states that the step before it or a newcomer's prefill left
behind, and then decodes what was drawn. So a prefill has nothing to do with drawing, and all rows
run through one step, captured once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tts.attention import only
from tts.compilation import StepGraph
from tts.device import upload
from tts.embedded.generation import Generator
from tts.embedded.lm import N_CHARACTERS, NULL
from tts.embedded.memory import CAPACITY, static_cache
from tts.embedded.prefill import Prefill, Text
from tts.embedded.state import Row, Spoken, State, cut
from tts.errors import InapplicableError, OutOfPagesError
from tts.kv_cache import BucketedCache
from tts.lanes import LaneCache
from tts.paged_cache import PagedCache
from tts.sampling import guide


class OpenBatch:
    """``tts.scheduler.Rows`` of the embedded voice.

    A sentence with guidance takes two of the decoder's rows (lanes), one without takes one. All
    tensors keep their addresses.

    Args:
        generator: The model as its options say; the cache must be of fixed shape.
        n_rows: Sentences at a time.
        n_lanes: Lanes; two per row, or one where the options have no guidance, if not given.
        n_slots: The most positions of a sentence: characters, tokens, and two looks beyond.
        n_pages: Of a paged cache; enough for all lanes if not given.

    Raises:
        InapplicableError: The options' cache cannot take in rows one by one.
    """

    def __init__(
        self,
        generator: Generator,
        n_rows: int,
        *,
        n_lanes: int | None = None,
        n_slots: int = CAPACITY,
        n_pages: int | None = None,
    ) -> None:
        self.generator, self.n_rows, self.n_slots = generator, n_rows, n_slots
        self.look_every = generator.look_every
        self.n_lanes = n_lanes or (2 * n_rows if generator.is_guided else n_rows)
        device, config = generator.device, generator.lm.decoder.config
        self.cache = self._cache(n_pages)
        self.state = State.idle(n_rows, self.n_lanes, n_slots, device)
        dtype = generator.table.dtype
        self.hidden = torch.zeros((self.n_lanes, config.width), dtype=dtype, device=device)
        self._prefill = Prefill(generator, self.cache, self.hidden, self.state.positions)
        # Which lanes a row is drawn from, the same one twice without guidance; whose each lane is.
        self.conditional = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self.unconditional = torch.zeros_like(self.conditional)
        self.row_of = torch.zeros(self.n_lanes, dtype=torch.int64, device=device)
        self.lanes: dict[int, tuple[int, ...]] = {}
        self.used: dict[int, int] = {}  # positions in use, by row
        self._free_lanes = list(range(self.n_lanes - 1, -1, -1))
        self._idle = (
            torch.arange(n_rows, device=device),
            torch.arange(self.n_lanes, device=device),
        )
        self._graph: StepGraph | None = None

    def check(self, request: Row) -> None:
        """See ``Rows.check``."""
        if not request.characters or request.cap < 1:
            raise ValueError("a sentence needs characters and a cap of at least 1")
        if not all(0 < character < N_CHARACTERS for character in request.characters):
            raise ValueError(f"characters are ids in [1, {N_CHARACTERS})")
        n_lanes, n_needed = self._n_lanes_of(request), self._n_slots_of(request)
        if n_lanes > self.n_lanes or n_needed > self.n_slots:
            raise ValueError(
                f"{n_needed} positions in {n_lanes} lanes, of {self.n_slots} in {self.n_lanes}"
            )
        if isinstance(self.cache, PagedCache):
            n_pages = n_lanes * self.cache.n_needed(n_needed)
            if n_pages > self.cache.n_pages - 1:
                raise ValueError(f"{n_pages} pages, of {self.cache.n_pages - 1} in the cache")

    def reserve(self, row: int, request: Row) -> bool:
        """See ``Rows.reserve``."""
        n = self._n_lanes_of(request)
        if n > len(self._free_lanes):
            return False
        lanes = self._free_lanes[-n:]
        if isinstance(self.cache, PagedCache):
            try:
                self.cache.assign(lanes, self._n_slots_of(request))
            except OutOfPagesError:
                return False
        del self._free_lanes[-n:]
        self.lanes[row] = tuple(lanes)
        return True

    @torch.inference_mode()
    def begin(self, arrivals: Sequence[tuple[int, Row]], *, is_watched: bool = False) -> None:
        """See ``Rows.begin``; watched, nothing captured is replayed, as in ``Batch.advance``."""
        device = self.generator.device
        texts = [text for row, request in arrivals for text in self._texts(row, request)]
        with only(self.generator.options.attention):
            self._prefill(texts, is_watched=is_watched)
        rows = [row for row, _ in arrivals]
        self.state.begin(rows, [request for _, request in arrivals], self.generator.sampling)
        index = upload(rows, device)
        self.conditional[index] = upload([self.lanes[row][0] for row in rows], device)
        self.unconditional[index] = upload([self.lanes[row][-1] for row in rows], device)
        for row, request in arrivals:
            self.used[row] = len(request.characters) + 1
        pairs = [(lane, row) for row in rows for lane in self.lanes[row]]
        where, whose = upload(pairs, device).unbind(1)
        self.row_of[where] = whose
        self._note_idle()

    @torch.inference_mode()
    def advance(self, *, is_watched: bool = False) -> None:
        """See ``Rows.advance``; watched, one step is run, and nothing captured is replayed."""
        idle_rows, idle_lanes = self._idle
        self.state.step.index_fill_(0, idle_rows, 0)
        self.state.positions.index_fill_(0, idle_lanes, 0)
        longest = max(self.used.values(), default=0) + self.look_every
        n_live = self.generator.n_live(min(longest, self.n_slots), self.n_slots)
        with only(self.generator.options.attention):
            self.cache.show(n_live)
            if self.generator.has_graph and self._graph is None and not is_watched:
                self._graph = self._captured()
            for _ in range(1 if is_watched else self.look_every):
                if self._graph is not None and not is_watched:
                    self._graph()
                else:
                    self._step(n_live)
        for row in self.used:
            self.used[row] += self.look_every

    def ended(self) -> list[int]:
        """See ``Rows.ended``."""
        is_done = self.state.is_done[:, 0].tolist()
        return [row for row in self.used if is_done[row]]

    def results(self, rows: Sequence[int]) -> list[Spoken]:
        """See ``Rows.results``."""
        if not rows:
            return []
        index = upload(list(rows), self.generator.device)
        drawn = torch.cat((self.state.caps[index], self.state.tokens[index]), dim=1).tolist()
        return [cut(tokens[:cap]) for cap, *tokens in drawn]

    def release(self, rows: Sequence[int]) -> None:
        """See ``Rows.release``."""
        if not rows:
            return
        lanes = [lane for row in rows for lane in self.lanes.pop(row)]
        for row in rows:
            self.used.pop(row, None)
        if isinstance(self.cache, PagedCache):
            self.cache.release(lanes)
        self._free_lanes += lanes
        with torch.inference_mode():
            self.state.is_done[upload(list(rows), self.generator.device)] = True
            self._note_idle()

    def _cache(self, n_pages: int | None) -> LaneCache:
        g, layout = self.generator, self.generator.layout
        if layout not in ("static", "static_int8", "paged"):
            raise InapplicableError(
                "kv_cache",
                layout,
                "rows that come and go need buffers of their own: static, static_int8 or paged",
            )
        cache = static_cache(
            g.options, g.lm.decoder.config, n_lanes=self.n_lanes, n_slots=self.n_slots,
            dtype=g.table.dtype, device=g.device, keeps_buckets=False, n_pages=n_pages,
        )  # fmt: skip
        assert not isinstance(cache, BucketedCache)
        return cache

    def _n_lanes_of(self, request: Row) -> int:
        sampling = request.sampling or self.generator.sampling
        return 1 if sampling.cfg_weight == 1 else 2

    def _n_slots_of(self, request: Row) -> int:
        """Steps go on until the end has been seen; one look later at the most."""
        return len(request.characters) + 1 + request.cap + self.look_every

    def _texts(self, row: int, request: Row) -> Iterator[Text]:
        silence = (NULL,) * len(request.characters)
        for lane, characters in zip(self.lanes[row], (request.characters, silence), strict=False):
            yield Text(lane=lane, characters=characters)

    def _note_idle(self) -> None:
        """Rows and lanes without a request run along: they are held at the first position."""
        device = self.generator.device
        busy = {lane for row in self.used for lane in self.lanes[row]}
        rows = [row for row in range(self.n_rows) if row not in self.used]
        lanes = [lane for lane in range(self.n_lanes) if lane not in busy]
        self._idle = (upload(rows, device), upload(lanes, device))

    def _step(self, n_live: int) -> Tensor:
        """Draw a token per row and decode it."""
        g, state, hidden = self.generator, self.state, self.hidden
        guided = guide(hidden[self.conditional], hidden[self.unconditional], state.sampling)
        scores = g.lm.logits(guided.to(hidden.dtype))
        state.note(g.sampler.draw(scores, state.sampling, state.keys, state.step, state.tokens))
        state.positions.add_(1)
        x = F.embedding(state.last[self.row_of], g.table)
        return self.hidden.copy_(g.decode(x, state.positions, self.cache, n_live))

    def _captured(self) -> StepGraph:
        """Capture the step, and leave everything that its dry runs change as it was."""
        self.generator.n_graphs += 1
        state = self.state
        changed = (state.last, state.positions, state.step, state.is_done, state.tokens)
        before = [tensor.clone() for tensor in (*changed, self.hidden)]
        graph = StepGraph(lambda: self._step(self.n_slots), self.generator.device)
        for tensor, value in zip((*changed, self.hidden), before, strict=True):
            tensor.copy_(value)
        return graph
