"""A KV cache in pages of one pool: a row holds as many as it needs, from anywhere in the pool.

Which pages are whose is decided on the host and told to the device in a block table of fixed
address; kernels and captured graphs only ever read that table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tts.device import upload
from tts.errors import OutOfPagesError
from tts.kv_cache import PagedSlots, ShownCache, Slots

PAGE_SIZE = 64  # slots; a power of two, for the kernels
SINK = 0  # the page that rows without pages write to and nobody reads


class PagedCache(ShownCache):
    """Keys and values of all layers, in pages.

    Pages are free until they are assigned, by all layers at once: a page number means the same
    in every layer's pool.

    Args:
        n_layers: Layers of the decoder.
        shape: (lanes, kv_heads, n_slots, head_dim); n_slots is the most that a lane can take, a
            multiple of the page size.
        dtype: Of keys and values.
        device: Where the pools lie: ``keys`` and ``values``,
            (n_layers, n_pages, kv_heads, page_size, head_dim).
        n_pages: Pages in the pool, the sink among them; enough for all lanes if not given.
        page_size: Slots per page, a power of two.
        is_raw: Whether a step returns ``PagedSlots``; otherwise the pages of each lane, gathered.
    """

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        *,
        n_pages: int | None = None,
        page_size: int = PAGE_SIZE,
        is_raw: bool = False,
    ) -> None:
        n_lanes, n_kv_heads, n_slots, head_dim = shape
        if n_slots % page_size or page_size & (page_size - 1):
            raise ValueError(f"page_size {page_size}: not a power of two that divides {n_slots}")
        self.n_slots, self.page_size = n_slots, page_size
        self.n_pages = n_lanes * n_slots // page_size + 1 if n_pages is None else n_pages
        pool = (n_layers, self.n_pages, n_kv_heads, page_size, head_dim)
        self.keys = torch.zeros(pool, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        table = torch.full((n_lanes, n_slots // page_size), SINK, dtype=torch.int32, device=device)
        self.block_table = table
        self.layers: list[PagedLayer] = [
            PagedLayer(k, v, table, is_raw=is_raw)
            for k, v in zip(self.keys, self.values, strict=True)
        ]
        self._free = list(range(self.n_pages - 1, SINK, -1))
        self._held: dict[int, list[int]] = {}

    @property
    def n_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def n_needed(self, n_slots: int) -> int:
        """Return how many pages hold so many slots."""
        return -(-n_slots // self.page_size)

    def assign(self, lanes: Sequence[int], n_slots: int) -> None:
        """Give each of some lanes pages for so many slots; all of them or none.

        Raises:
            OutOfPagesError: Fewer pages are free.
            ValueError: A lane holds pages already, or no lane can have so many slots.
        """
        n = self.n_needed(n_slots)
        if n_slots > self.n_slots or any(lane in self._held for lane in lanes):
            raise ValueError(f"{n_slots} slots for lanes {list(lanes)}: too many, or held already")
        if n * len(lanes) > len(self._free):
            raise OutOfPagesError(
                f"{n * len(lanes)} pages of {self.page_size} slots are needed and {self.n_free} of "
                f"{self.n_pages - 1} are free"
            )
        for lane in lanes:
            self._held[lane] = [self._free.pop() for _ in range(n)]
        self._tell(lanes)

    def release(self, lanes: Sequence[int]) -> None:
        """Take back the pages of some lanes; what these write from now on goes to the sink."""
        if not lanes:
            return
        for lane in lanes:
            self._free += reversed(self._held.pop(lane))
        self._tell(lanes)

    def refill(self, n_slots: int) -> None:
        """Take everything back and give every lane pages for so many slots."""
        self.release(list(self._held))
        self.assign(range(len(self.block_table)), n_slots)

    def _tell(self, lanes: Sequence[int]) -> None:
        n = self.block_table.shape[1]
        rows = []
        for lane in lanes:
            pages = self._held.get(lane, [])
            rows.append([*pages, *[SINK] * (n - len(pages))])
        device = self.block_table.device
        self.block_table[upload(list(lanes), device)] = upload(rows, device, torch.int32)


class PagedLayer:
    """One layer of a ``PagedCache``.

    Args:
        keys: The pool, shape (n_pages, kv_heads, page_size, head_dim).
        values: As ``keys``.
        block_table: The pages of each lane in order, shape (lanes, n), int32.
        is_raw: See ``PagedCache``.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, block_table: Tensor, *, is_raw: bool = False
    ) -> None:
        self.keys, self.values, self.block_table = keys, values, block_table
        self.is_raw = is_raw
        self.page_size = keys.shape[2]
        self.n_live = block_table.shape[1] * self.page_size

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Slots, Slots]:
        """See ``LayerCache.update``."""
        pages = self.block_table.gather(1, positions // self.page_size)
        slots = positions % self.page_size
        self.keys[pages, :, slots] = k.transpose(1, 2)
        self.values[pages, :, slots] = v.transpose(1, 2)
        if k.shape[2] > 1:
            return k, v
        if self.is_raw:
            return (
                PagedSlots(pages=self.keys, block_table=self.block_table),
                PagedSlots(pages=self.values, block_table=self.block_table),
            )
        return self._gathered(self.keys), self._gathered(self.values)

    def _gathered(self, pool: Tensor) -> Tensor:
        n = -(-self.n_live // self.page_size)
        found = pool[self.block_table[:, :n]]  # (lanes, n, kv_heads, page_size, head_dim)
        return found.transpose(1, 2).flatten(2, 3)[:, :, : self.n_live]
