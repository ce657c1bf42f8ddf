"""GPU kernels in Triton for one decode step: few rows, all of it bound by memory.

The modules import Triton at their head, so import them where they are used: a machine without
Triton can import everything else of ``tts``.

With programmatic dependent launch (``pdl``, Hopper and later) a kernel starts while the one before
it still runs, fetches what no step changes, its weights above all, and then waits.
"""
