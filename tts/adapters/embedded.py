"""Build the embedded voice: ordered passes, each of which says what it did or raises."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from tts import attention, compilation, precision, quantization
from tts.embedded import weights
from tts.embedded.generation import Generator, speech_table
from tts.embedded.memory import describe_cache
from tts.embedded.vocoder import Vocoder
from tts.embedded.voice import EmbeddedVoice
from tts.options import STATIC, Options
from tts.types import Applied, Built


class EmbeddedAdapter:
    """The voice that ships with mosgate, or one of the same kind.

    Args:
        directory: Where its weights lie; our own where not given.
    """

    def __init__(self, directory: str | Path = weights.DEFAULT_DIRECTORY) -> None:
        self.directory = Path(directory)

    def build(self, options: Options, device: str) -> Built:
        """Load the weights and apply every option, in order."""
        started = time.perf_counter()
        where = torch.device(device)
        lm, codec = weights.load(self.directory)
        lm.to(where)
        codec.to(where)
        loaded = Applied(
            name="load",
            value=weights.fingerprint(self.directory),
            n_modules=2,
            detail=f"language model and codec decoder to {device}",
        )
        cast = precision.apply(
            [lm, codec.embed, codec.token_blocks, codec.upsample, codec.frame_blocks],
            options.precision,
            where,
        )
        table = speech_table(lm)
        if options.compile == "fused":
            fused, quantized = compilation.fuse(lm.decoder, options.quantization)
        else:
            fused, quantized = None, quantization.apply(lm, options.quantization)
        attended = attention.check(
            options.attention,
            lm.decoder.config,
            table.dtype,
            where,
            has_mask=options.kv_cache in STATIC
            or (options.kv_cache == "dynamic" and options.batch_size > 1),
            is_fused=fused is not None,
        )
        cached = describe_cache(options.kv_cache, lm.decoder.config.n_layers, table.dtype)
        lm.decoder.attend = attention.attend_by(options.attention)
        compiled = compilation.apply(lm.decoder, options.compile)
        generator = Generator(lm, table, options, where, fused)
        voice = EmbeddedVoice(generator, Vocoder(codec, where), options)
        return Built(
            synthesizer=voice,
            applied=(loaded, cast, quantized, attended, cached, compiled),
            load_s=time.perf_counter() - started,
        )
