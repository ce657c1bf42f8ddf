"""The picture beside a trial's audio."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile as sf

from search.spectrogram import draw, levels_db


@pytest.mark.parametrize("n_samples", [0, 100, 16_000])
def test_a_picture_of_any_length(tmp_path: Path, n_samples: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    sf.write(tmp_path / "a.wav", noise, 16_000)
    draw({"this trial": tmp_path / "a.wav", "baseline": tmp_path / "a.wav"}, tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png").shape[:2] == (480, 800)


@pytest.mark.parametrize("hz", [1000, 7000])
def test_a_tone_is_loudest_where_it_belongs(hz: int) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000).astype(np.float32)
    levels = levels_db(tone)
    assert levels.shape == (257, 122)
    assert set(levels.argmax(axis=0)) == {hz * 512 // 16_000}
