"""``mosgate ui``: MLflow's own pages on the studies' database."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from search.exits import InputError
from search.tracking import ARTIFACTS, DATABASE, database_uri

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # six idle processes for what is not used
    "PYTHONWARNINGS": "ignore",  # deprecations inside the server are no news for its user
}


def run(args: argparse.Namespace) -> int:
    """Become the MLflow server; Ctrl-C ends it."""
    root = Path(args.root).resolve()
    if not (root / DATABASE).is_file():
        raise InputError(f"{root / DATABASE} does not exist; run a sweep first, or name --root")
    _refuse_busy(args.host, args.port)
    command = server_command(root, args.host, args.port)
    print(f"MLflow on http://{args.host}:{args.port} (Ctrl-C ends it)", flush=True)
    if args.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"mosgate: warning: everybody who reaches {args.host} can read and change the runs",
            file=sys.stderr,
        )
    os.execve(sys.executable, command, {**os.environ, **_SETTINGS})


def server_command(root: Path, host: str, port: int) -> list[str]:
    """Return the command line of a server that finds the studies."""
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        database_uri(root),
        "--default-artifact-root",
        (root / ARTIFACTS).as_uri(),
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]


def _refuse_busy(host: str, port: int) -> None:
    if not 1 <= port <= 65_535:
        raise InputError(f"--port {port}: is not between 1 and 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; try another --port"
        ) from error
