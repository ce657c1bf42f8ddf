"""Speech recognition for the word error rate, by openai-whisper's own model and decoder.

    recogniser = load("embedded")          # the ear that ships with us
    recogniser = load("base.en")           # OpenAI's, downloaded once
    text = recogniser.transcribe(samples)  # 16 kHz, float32

``embedded`` reads the ear's weights, ``pieces`` cuts long audio, ``recogniser`` decodes.
"""

from evaluation.asr.recogniser import Recogniser, load

__all__ = ["Recogniser", "load"]
