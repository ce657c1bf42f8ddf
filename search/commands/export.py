"""``mosgate export``: ship what won."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from search.commands.studies import load_config_of, load_study, warn_damaged
from search.exits import Exit
from search.export import NothingPassedError, export, warnings


def run(args: argparse.Namespace) -> int:
    """Write the winner of a study into a folder."""
    root, target = Path(args.root), Path(args.output)
    result, damaged = load_study(root, args.study)
    warn_damaged(damaged)
    config = load_config_of(root, args.study)
    try:
        files = export(result, target, config=config, force=args.force)
    except NothingPassedError as error:
        print(f"mosgate: {error}", file=sys.stderr)
        return Exit.NOTHING_PASSED
    for warning in warnings(result):
        print(f"mosgate: warning: {warning}", file=sys.stderr)
    print(f"{target}: {len(files)} files; check them with: cd {target} && sha256sum -c SHA256SUMS")
    return Exit.WINNER
