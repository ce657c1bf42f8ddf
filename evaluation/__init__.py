"""How fast, how good, and is that proven: audio and timings in, numbers and a verdict out.

The room knows nothing of which optimization it judges, nor of Optuna, MLflow, ``search`` or
``tts``. In the order data flows: ``prompts`` and ``timing`` / ``telemetry`` on the speed side;
``audio``, ``metrics`` and ``guards`` behind ``judge`` on the quality side; ``statistics`` and
``gate`` turn both sides' ``scores`` into a verdict. ``folders`` and ``folder_verdict`` do all that
to anybody's wavs; ``provenance`` says which scores may be compared at all.
"""
