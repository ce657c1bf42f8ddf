"""Ways to break a built voice on purpose, each a function of the voice and a size.

They are put in after the build, where a faulty kernel or pass would put them, so that the broken
model runs through the same cache and the same steps as a whole one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tts import decoder as decoder_module
from tts import kv_cache
from tts.decoder import DecoderConfig
from tts.embedded.lm import EOS
from tts.embedded.state import State
from tts.embedded.voice import EmbeddedVoice

Damage = Callable[[EmbeddedVoice, float], None]


def _matrices(voice: EmbeddedVoice) -> list[nn.Linear]:
    return [m for m in voice.generator.lm.modules() if isinstance(m, nn.Linear)]


@torch.no_grad()
def noise(voice: EmbeddedVoice, share: float) -> None:
    """Add white noise to every matrix: ``share`` of its own standard deviation."""
    random = torch.Generator().manual_seed(0)
    for m in _matrices(voice):
        m.weight += share * m.weight.std() * torch.randn(m.weight.shape, generator=random)


@torch.no_grad()
def few_bits(voice: EmbeddedVoice, bits: float, group: int = 64) -> None:
    """Round every matrix to so many bits, symmetrically, a scale per row and 64 columns."""
    top = 2 ** (int(bits) - 1) - 1
    for m in _matrices(voice):
        w = m.weight.unflatten(1, (-1, group))
        scales = w.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / top
        m.weight.copy_(((w / scales).round().clamp(-top - 1, top) * scales).flatten(1))


@torch.no_grad()
def zero_layer(voice: EmbeddedVoice, layer: float) -> None:
    """Let one layer pass its input through: its two output matrices are zero."""
    block = voice.generator.lm.decoder.blocks[int(layer)]
    block.attention.out.weight.zero_()  # type: ignore[union-attr]
    block.ffn.down.weight.zero_()  # type: ignore[union-attr]


def shifted_positions(_: EmbeddedVoice, by: float) -> None:
    """Turn decode steps (not the prefill) to a rotary position that is off by so many."""
    whole = decoder_module.rotary_table

    def shifted(positions: Tensor, config: DecoderConfig) -> tuple[Tensor, Tensor]:
        wrong = positions + int(by) if positions.shape[1] == 1 else positions
        return whole(wrong, config)

    decoder_module.rotary_table = shifted


def cache_scale(_: EmbeddedVoice, factor: float) -> None:
    """Store the 8-bit cache's scales wrong by a factor; needs ``static_int8``."""
    whole = kv_cache.quantize_rows

    def wrong(x: Tensor) -> tuple[Tensor, Tensor]:
        codes, scales = whole(x)
        return codes, scales * factor

    kv_cache.quantize_rows = wrong


def stale_cache(_: EmbeddedVoice, n: float) -> None:
    """Never write the keys and values of every n-th decode step; needs a static cache."""
    whole = kv_cache.StaticLayer.update

    def forgetful(
        self: kv_cache.StaticLayer, k: Tensor, v: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        if k.shape[2] == 1 and int(positions[0, 0]) % int(n) == 0:
            return self.keys[:, :, : self.n_live], self.values[:, :, : self.n_live]
        return whole(self, k, v, positions)

    kv_cache.StaticLayer.update = forgetful  # type: ignore[method-assign]


def end_bias(voice: EmbeddedVoice, nats: float) -> None:
    """Add so much to the score of the end."""
    lm = voice.generator.lm
    whole = lm.logits

    def biased(hidden: Tensor) -> Tensor:
        scores = whole(hidden)
        scores[..., EOS] += nats
        return scores

    lm.logits = biased  # type: ignore[method-assign]


def sharper(voice: EmbeddedVoice, factor: float) -> None:
    """Multiply all scores: a temperature that got into the model."""
    lm = voice.generator.lm
    whole = lm.logits
    lm.logits = lambda hidden: whole(hidden) * factor  # type: ignore[method-assign]


def deaf(voice: EmbeddedVoice, _: float) -> None:
    """Exchange the halves of guidance: the text is not heard."""
    generator = voice.generator
    generator.conditional = lambda hidden: generator.lm.logits(  # type: ignore[method-assign]
        hidden.chunk(2)[1]
    )
    whole = generator.scores

    def swapped(hidden: Tensor, state: State) -> Tensor:
        first, second = hidden.chunk(2)
        return whole(torch.cat((second, first)), state)

    generator.scores = swapped  # type: ignore[method-assign]


DAMAGES: dict[str, Damage] = {
    "noise": noise,
    "few_bits": few_bits,
    "zero_layer": zero_layer,
    "shifted_positions": shifted_positions,
    "cache_scale": cache_scale,
    "stale_cache": stale_cache,
    "end_bias": end_bias,
    "sharper": sharper,
    "deaf": deaf,
}
