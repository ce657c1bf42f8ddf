"""Read and write the embedded voice's weight files, each checked by its SHA-256.

A directory holds ``manifest.json`` (shapes, checksums, how it was trained), ``lm-*.safetensors``
shards and ``codec.safetensors``, all float16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from tts.decoder import DecoderConfig
from tts.embedded.codec import SAMPLE_RATE_HZ, CodecDecoder, CodecDecoderConfig
from tts.embedded.lm import SpeechLM
from tts.errors import WeightsError

DEFAULT_DIRECTORY = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"
FORMAT = 1
MAX_SHARD_BYTES = 15 * 2**20
_REMEDY = "restore it with 'git checkout', or make it anew with training/"


def save(directory: Path | str, lm: SpeechLM, codec: CodecDecoder, info: Mapping[str, Any]) -> Path:
    """Write a voice; every file appears whole, the manifest last.

    Args:
        directory: Where to; made if missing.
        lm: The language model, of any shape and precision.
        codec: The codec decoder.
        info: Plain JSON values on how it was trained; ``version`` names the release.

    Returns:
        The manifest's path.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = {name: _write(directory / name, blob) for name, blob in _blobs(lm, codec)}
    manifest = {
        "format": FORMAT,
        "version": str(info.get("version", "0")),
        "sample_rate": SAMPLE_RATE_HZ,
        "files": files,
        "lm": asdict(lm.decoder.config),
        "codec": asdict(codec.config),
        "trained": dict(info),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    _write(directory / MANIFEST, text.encode())
    return directory / MANIFEST


def load(directory: Path | str = DEFAULT_DIRECTORY) -> tuple[SpeechLM, CodecDecoder]:
    """Read a voice into float32 modules on the CPU, in evaluation mode.

    Raises:
        WeightsError: A file is missing, its checksum differs, or its tensors do not fit.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    tensors = {name: _read(directory / name, entry) for name, entry in manifest["files"].items()}
    lm_state = {k: v for name, t in tensors.items() if name.startswith("lm-") for k, v in t.items()}
    try:
        lm = SpeechLM(DecoderConfig.from_mapping(manifest["lm"]))
        codec = CodecDecoder(CodecDecoderConfig(**manifest["codec"]))
        lm.load_state_dict(lm_state)
        codec.load_state_dict(tensors.get("codec.safetensors", {}))
    except (RuntimeError, TypeError) as error:
        raise WeightsError(
            f"{directory / MANIFEST}: the tensors do not fit this version's model: {error}; "
            "use weights and code of one release"
        ) from error
    return lm.eval(), codec.eval()


def read_manifest(directory: Path | str = DEFAULT_DIRECTORY) -> dict[str, Any]:
    """Return the manifest of a voice.

    Raises:
        WeightsError: It is missing, is no JSON, or lacks an entry.
    """
    path = Path(directory) / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: missing; {_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
    needed = {"format", "files", "lm", "codec", "sample_rate"}
    missing = needed - set(manifest) if isinstance(manifest, dict) else needed
    if missing:
        raise WeightsError(f"{path}: lacks {', '.join(sorted(missing))}; {_REMEDY}")
    for key, known in (("format", FORMAT), ("sample_rate", SAMPLE_RATE_HZ)):
        if manifest[key] != known:
            raise WeightsError(
                f"{path}: {key} {manifest[key]}, this version reads {known}; "
                "use weights and code of one release"
            )
    entries = manifest["files"].values() if isinstance(manifest["files"], dict) else (None,)
    if not all(isinstance(entry, dict) and {"sha256", "bytes"} <= set(entry) for entry in entries):
        raise WeightsError(f"{path}: lacks the sha256 and bytes of a file; {_REMEDY}")
    return dict(manifest)


def fingerprint(directory: Path | str = DEFAULT_DIRECTORY) -> str:
    """Return 16 hexadecimal digits that name these weights: a hash over all checksums."""
    files = read_manifest(directory)["files"]
    text = "".join(f"{name}{files[name]['sha256']}" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _blobs(lm: SpeechLM, codec: CodecDecoder) -> Iterator[tuple[str, bytes]]:
    shards = list(_shards(_halved(lm)))
    for i, shard in enumerate(shards):
        yield f"lm-{i + 1:02d}-of-{len(shards):02d}.safetensors", dump_tensors(shard)
    yield "codec.safetensors", dump_tensors(_halved(codec))


def _halved(module: torch.nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    return {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in state.items()}


def _shards(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Pack tensors, in order, into groups of at most ``MAX_SHARD_BYTES``."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in state.items():
        if shard and size + tensor.nbytes > MAX_SHARD_BYTES - 65_536:  # room for the header
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def _write(path: Path, blob: bytes) -> dict[str, str | int]:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(blob)
    partial.replace(path)
    return {"sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}


def _read(path: Path, entry: Mapping[str, Any]) -> dict[str, Tensor]:
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); {_REMEDY}") from error
    actual = hashlib.sha256(blob).hexdigest()
    if actual != entry["sha256"]:
        raise WeightsError(
            f"{path}: damaged: sha256 {actual} ({len(blob)} bytes), "
            f"expected {entry['sha256']} ({entry['bytes']} bytes); {_REMEDY}"
        )
    try:
        return {name: tensor.float() for name, tensor in load_tensors(blob).items()}
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); {_REMEDY}") from error
