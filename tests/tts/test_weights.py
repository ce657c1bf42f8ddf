import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tts.embedded import weights
from tts.errors import WeightsError


@pytest.fixture
def copy(voice: Path, tmp_path: Path) -> Path:
    return shutil.copytree(voice, tmp_path / "voice")


def test_what_was_saved_is_loaded(voice: Path, tmp_path: Path) -> None:
    lm, codec = weights.load(voice)
    again = weights.save(tmp_path / "again", lm, codec, {"version": "2", "hours": 70}).parent
    assert weights.fingerprint(again) == weights.fingerprint(voice)
    manifest = weights.read_manifest(again)
    assert (manifest["version"], manifest["trained"]["hours"]) == ("2", 70)
    assert lm.training is False
    assert all(p.dtype == torch.float32 for p in lm.parameters())


def test_shards_stay_below_their_limit(
    voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_SHARD_BYTES", 2**20)
    lm, codec = weights.load(voice)
    directory = weights.save(tmp_path / "split", lm, codec, {}).parent
    shards = sorted(p.name for p in directory.glob("lm-*"))
    assert shards == ["lm-01-of-02.safetensors", "lm-02-of-02.safetensors"]
    state = weights.load(directory)[0].state_dict()
    assert all(state[k].equal(v) for k, v in lm.state_dict().items())


def test_one_flipped_bit_is_found(copy: Path) -> None:
    path = copy / "codec.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(WeightsError, match="damaged") as caught:
        weights.load(copy)
    message = str(caught.value)
    expected = json.loads((copy / "manifest.json").read_text())["files"]["codec.safetensors"]
    assert str(path) in message
    assert expected["sha256"] in message
    assert "git checkout" in message


def test_a_truncated_file_is_found(copy: Path) -> None:
    path = copy / "codec.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"\(1000 bytes\)"):
        weights.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "codec.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"codec\.safetensors: cannot be read"):
        weights.load(copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read"), ("[]", "lacks codec"), ('{"format": 1}', "lacks codec")],
)
def test_a_broken_manifest_is_named(copy: Path, text: str, words: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=words):
        weights.load(copy)


@pytest.mark.parametrize("files", [["codec.safetensors"], {"codec.safetensors": {"bytes": 1}}])
def test_a_manifest_without_checksums_is_named(copy: Path, files: object) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "files": files}))
    with pytest.raises(WeightsError, match="lacks the sha256"):
        weights.load(copy)


@pytest.mark.parametrize("change", [{"format": 99}, {"sample_rate": 8000}, {"lm": {"no": 1}}])
def test_another_release_is_refused(copy: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(WeightsError, match="one release"):
        weights.load(copy)
