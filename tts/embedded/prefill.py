"""Read characters into some lanes of a cache whose other lanes are in the middle of speaking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tts.compilation import StepGraph
from tts.device import upload
from tts.embedded.generation import Generator, at
from tts.embedded.lm import NULL
from tts.lanes import LaneCache, newcomers

# A graph is captured for each size, lanes by positions: small ones, as they come beside others.
# Launched one by one, the kernels of a prefill take longer than they run.
LANE_STEP, MAX_LANES = 2, 16
POSITION_STEP, MAX_POSITIONS = 64, 256


@dataclass(frozen=True, kw_only=True)
class Text:
    """What one lane reads: characters and then BOS.

    Args:
        lane: Which one.
        characters: Ids; NULLs for the half of guidance that does not hear the text.
    """

    lane: int
    characters: Sequence[int]


@dataclass(kw_only=True, eq=False)
class _Inputs:
    ids: Tensor  # (n, longest) int64
    ends: Tensor  # (n, 1) int64, where BOS stands
    lanes: Tensor  # (n,) int64

    def copy_(self, other: _Inputs) -> None:
        self.ids.copy_(other.ids)
        self.ends.copy_(other.ends)
        self.lanes.copy_(other.lanes)


class Prefill:
    """Fills lanes of a cache.

    Args:
        generator: The model.
        cache: Its lanes are filled from slot 0 on.
        hidden: Shape (lanes, width): takes the hidden states at BOS, from which the first token is
            drawn.
        positions: Shape (lanes, 1), int64: takes where BOS stands.
    """

    def __init__(
        self, generator: Generator, cache: LaneCache, hidden: Tensor, positions: Tensor
    ) -> None:
        self.generator, self.cache = generator, cache
        self.hidden, self.positions = hidden, positions
        self._captured: dict[tuple[int, int], tuple[_Inputs, StepGraph]] = {}

    def __call__(self, texts: Sequence[Text], *, is_watched: bool = False) -> None:
        """Read some texts, all in one pass; watched, a captured one is run and not replayed."""
        n_positions = max(len(text.characters) for text in texts) + 1
        is_small = len(texts) <= MAX_LANES and n_positions <= MAX_POSITIONS
        if not (self.generator.has_graph and is_small):
            self._read(self._inputs(texts, n_positions))
            return
        n_lanes = max(LANE_STEP, 1 << (len(texts) - 1).bit_length())
        n_padded = -(-n_positions // POSITION_STEP) * POSITION_STEP
        n_positions = min(n_padded, self.cache.n_slots)
        # The last text is read several times over, to the same end each time.
        inputs = self._inputs([*texts, *[texts[-1]] * (n_lanes - len(texts))], n_positions)
        if is_watched:
            self._read(inputs)
            return
        kept = self._captured.get((n_lanes, n_positions))
        if kept is None:
            self._captured[n_lanes, n_positions] = self._capture(inputs)
            return
        kept[0].copy_(inputs)
        kept[1]()

    def _capture(self, inputs: _Inputs) -> tuple[_Inputs, StepGraph]:
        """Capture a size; the dry runs have read these inputs already."""
        self.generator.n_graphs += 1
        return inputs, StepGraph(lambda: self._read(inputs), self.generator.device)

    def _inputs(self, texts: Sequence[Text], n_positions: int) -> _Inputs:
        device = self.generator.device
        ids = [[*t.characters, *[NULL] * (n_positions - len(t.characters))] for t in texts]
        return _Inputs(
            ids=upload(ids, device),
            ends=upload([[len(text.characters)] for text in texts], device),
            lanes=upload([text.lane for text in texts], device),
        )

    def _read(self, inputs: _Inputs) -> Tensor:
        g, ids, ends, lanes = self.generator, inputs.ids, inputs.ends, inputs.lanes
        slots = torch.arange(ids.shape[1], device=g.device).expand(len(ids), -1)
        embedded = g.embed_prefix(ids, slots, ends)
        hidden = g.lm.decoder(embedded, slots, None, newcomers(self.cache, lanes))
        self.hidden[lanes] = at(hidden, ends)
        self.positions[lanes] = ends
        return self.hidden
