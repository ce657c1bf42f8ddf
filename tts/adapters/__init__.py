"""Which model a name means: one of ours, or your own class as ``package.module:Class``.

An adapter is a class with ``build(options, device) -> Built``. It takes the options in canonical
form, raises ``InapplicableError`` for one it cannot give, and reports each pass as ``Applied``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any

from tts.errors import TtsError
from tts.options import Options
from tts.types import Built

Build = Callable[[Options, str], Built]

BUILTIN = {"embedded": "tts.adapters.embedded:EmbeddedAdapter"}


class ModelError(TtsError):
    """A model name that means nothing, or an adapter that does not load."""


def resolve(model: str) -> Build:
    """Return how to build a model.

    Args:
        model: ``"embedded"``, ``"embedded:/path/to/weights"``, or ``"package.module:Class"``.

    Raises:
        ModelError: Nothing of that name, or its module does not import.
    """
    name, _, rest = model.partition(":")
    if name in BUILTIN:
        adapter = _load(BUILTIN[name], model)(rest) if rest else _load(BUILTIN[name], model)()
        return adapter.build  # type: ignore[no-any-return]
    if not rest:
        close = difflib.get_close_matches(name, BUILTIN, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"we have: {', '.join(BUILTIN)};"
        raise ModelError(
            f"model {model!r} is unknown; {hint} your own is written package.module:Class"
        )
    return _load(model, model)().build  # type: ignore[no-any-return]


def _load(path: str, model: str) -> Any:  # noqa: ANN401 - any class with build()
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(f"model {model!r}: cannot import {module_name}: {error}") from error
    found = getattr(module, class_name, None)
    if found is None or not hasattr(found, "build"):
        raise ModelError(f"model {model!r}: {module_name} has no class {class_name} with build()")
    return found
