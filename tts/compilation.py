"""Compile the decode step."""

from __future__ import annotations

from tts.embedded.generation import Generator
from tts.errors import InapplicableError
from tts.options import Compile
from tts.types import Applied


def apply(generator: Generator, mode: Compile) -> Applied:
    """Compile (only none so far)."""
    if mode != "none":
        raise InapplicableError("compile", mode, "not built yet")
    return Applied(name="compile", value="none", n_modules=0, detail="eager")
