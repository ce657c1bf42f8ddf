"""A sweep's file with twenty prompts beside it, each of which means "say la"."""

from __future__ import annotations

from pathlib import Path

from search.config import SweepConfig, load_config

ROWS = (f"p{i:02d}\tall\tsay la {i}\tsay la" for i in range(20))
TABLE = "\n".join(["id\tstratum\ttext\treference", *ROWS]) + "\n"


def sweep(folder: Path, lines: str) -> SweepConfig:
    """Write ``sweep.yaml`` and ``prompts.tsv``; return what the former says."""
    (folder / "prompts.tsv").write_text(TABLE, encoding="utf-8")
    (folder / "sweep.yaml").write_text(lines, encoding="utf-8")
    return load_config(folder / "sweep.yaml")
