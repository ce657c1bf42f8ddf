"""The weights of the embedded ear: read, checked and rebuilt into a Whisper checkpoint.

Only the vocabulary rows in use are stored, in fp16, and no sinusoid. The ear's final layer norm
gives the constant 1 in channel 0, whatever it hears; a row that is not in use is rebuilt as a
large negative number in that channel and zero elsewhere, so it can never win.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor
from whisper.model import ModelDimensions, TextDecoder, Whisper, sinusoids

from evaluation.errors import MetricError

WEIGHTS_DIRECTORY = Path(__file__).parent / "weights"
WEIGHTS, MANIFEST = "ear.safetensors", "manifest.json"
FORMAT = 1
UNUSED_ROW_LOGIT = -10_000.0

_EMBEDDING = "decoder.token_embedding.weight"
_ROW_IDS = "row_ids"
_REMEDY = "restore it with 'git checkout', or make it anew with 'python -m training.ear_export'"


def save(
    directory: Path,
    dims: ModelDimensions,
    state: Mapping[str, Tensor],
    row_ids: Tensor,
    trained: Mapping[str, Any],
) -> None:
    """Write the ear's two files, the manifest last.

    Args:
        directory: Where to; made if missing.
        dims: Whisper's ten integers, with the whole vocabulary.
        state: Whisper's parameters with a compact token embedding (n_rows, width), no buffers.
        row_ids: Which vocabulary row each compact row is, shape (n_rows,).
        trained: Plain JSON values on how it was trained.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half().contiguous() for name, value in state.items()}
    tensors[_ROW_IDS] = row_ids.to(torch.int32)
    blob = dump_tensors(tensors)
    manifest = {
        "format": FORMAT,
        "file": WEIGHTS,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "bytes": len(blob),
        "dims": asdict(dims),
        "n_rows": len(row_ids),
        "trained": dict(trained),
    }
    (directory / WEIGHTS).write_bytes(blob)
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def checkpoint(directory: Path = WEIGHTS_DIRECTORY) -> dict[str, Any]:
    """Rebuild what ``whisper.load_model`` reads: ``{"dims", "model_state_dict"}``, float32.

    Raises:
        MetricError: A file is missing or damaged; the message names it and the remedy.
    """
    dims, state, row_ids = _read(directory)
    whole = torch.zeros(dims.n_vocab, dims.n_text_state)
    whole[:, 0] = UNUSED_ROW_LOGIT
    whole[row_ids] = state[_EMBEDDING]
    return {"dims": asdict(dims), "model_state_dict": state | {_EMBEDDING: whole}}


def load_ear(directory: Path = WEIGHTS_DIRECTORY) -> Whisper:
    """Build the ear on the CPU, in evaluation mode, with a decoder that scores only rows in use.

    The words are those of ``checkpoint``'s model, at a third of a decoding step's time: the whole
    vocabulary is 53 MB that every step would read.

    Raises:
        MetricError: A file is missing, damaged or of another shape.
    """
    dims, state, row_ids = _read(directory)
    model = Whisper(replace(dims, n_vocab=len(row_ids)))
    model.decoder = RowsInUse(dims, row_ids)
    model.dims = dims
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        path = directory / WEIGHTS
        raise MetricError(f"{path}: tensors do not fit: {error}; {_REMEDY}") from error
    return model.eval()


class RowsInUse(TextDecoder):  # type: ignore[misc]
    """Whisper's text decoder over some rows of its vocabulary.

    Args:
        dims: Whisper's ten integers, with the whole vocabulary.
        row_ids: Which vocabulary row each compact row is, shape (n_rows,).
    """

    def __init__(self, dims: ModelDimensions, row_ids: Tensor) -> None:
        super().__init__(
            len(row_ids), dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer
        )
        rows = torch.zeros(dims.n_vocab, dtype=torch.long)
        rows[row_ids] = torch.arange(len(row_ids))
        self.register_buffer("row_ids", row_ids, persistent=False)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, x: Tensor, xa: Tensor, kv_cache: dict[Any, Any] | None = None) -> Tensor:
        """Score the whole vocabulary, as the decoder it stands for; shapes as Whisper's."""
        scores: Tensor = super().forward(self.rows[x], xa, kv_cache)
        whole = scores.new_full((*scores.shape[:-1], len(self.rows)), UNUSED_ROW_LOGIT)
        whole[..., self.row_ids] = scores
        return whole


def read_manifest(directory: Path = WEIGHTS_DIRECTORY) -> dict[str, Any]:
    """Read the manifest.

    Raises:
        MetricError: It is missing, is no JSON object, or lacks a field.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise MetricError(f"{path}: cannot be read: {error.strerror}; {_REMEDY}") from error
    except ValueError as error:
        raise MetricError(f"{path}: damaged: {error}; {_REMEDY}") from error
    if not isinstance(manifest, dict) or not {"sha256", "dims"} <= manifest.keys():
        raise MetricError(f"{path}: damaged: no sha256 or dims in it; {_REMEDY}")
    if manifest.get("format") != FORMAT:
        raise MetricError(f"{path}: format {manifest.get('format')}, not {FORMAT}; {_REMEDY}")
    return manifest


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise MetricError(f"{path}: cannot be read: {error.strerror}; {_REMEDY}") from error
    found = hashlib.sha256(blob).hexdigest()
    if found != sha256:
        raise MetricError(
            f"{path}: damaged: SHA-256 {found[:12]}..., not {sha256[:12]}...; {_REMEDY}"
        )
    try:
        return load_tensors(blob)
    except SafetensorError as error:
        raise MetricError(f"{path}: damaged: {error}; {_REMEDY}") from error


def _read(directory: Path) -> tuple[ModelDimensions, dict[str, Tensor], Tensor]:
    """Read (dims, float32 state with the compact embedding, row ids), checked."""
    manifest = read_manifest(directory)
    path = directory / WEIGHTS
    tensors = _read_tensors(path, manifest["sha256"])
    try:
        dims = ModelDimensions(**manifest["dims"])
        row_ids = tensors.pop(_ROW_IDS).long()
        state = {name: value.float() for name, value in tensors.items()}
        if state["decoder.ln.weight"][0] != 0 or state["decoder.ln.bias"][0] != 1:
            raise ValueError("channel 0 of decoder.ln is not the constant 1")
        state["encoder.positional_embedding"] = sinusoids(dims.n_audio_ctx, dims.n_audio_state)
    except (KeyError, TypeError, ValueError) as error:
        raise MetricError(f"{path}: not an ear of this version: {error!r}; {_REMEDY}") from error
    return dims, state, row_ids
