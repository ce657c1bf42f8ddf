"""From a model's name and options to a synthesizer that is ready to speak."""

from __future__ import annotations

from tts.adapters import resolve
from tts.device import probe
from tts.options import Options
from tts.types import Built
from tts.validity import canonical, refusal


def build(model: str, options: Options, device: str = "auto") -> Built:
    """Build a synthesizer that does exactly what the options say.

    Args:
        model: ``"embedded"``, ``"embedded:/path/to/weights"``, or ``"package.module:Class"``.
        options: What to apply; brought to canonical form first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        InapplicableError: The device or the model cannot take an option.
        WeightsError: The weights are missing or damaged.
        ModelError: No such model.
    """
    caps = probe(device)
    refused = refusal(options, caps)
    if refused is not None:
        raise refused
    return resolve(model)(canonical(options, caps), caps.torch_name)
