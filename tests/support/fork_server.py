"""Runs recipes in forks of one process that has imported everything, without the 16 s of imports.

    python -m tests.support.fork_server

Requests and answers are lines of JSON. A fork calls the recipe's `main` as `python -m` would, in a
session of its own, so that it can be killed like any process.

    {"verb", "arguments", "environment", "log", "faults"}  →  {"pid"}
    {"poll": pid}                                          →  {"code"}, null while it runs
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

MODULES = (
    "recipes.pretrain", "recipes.finetune", "speechvq.training.pretraining",
    "speechvq.training.finetuning", "tests.support.faults",
)  # fmt: skip


def import_all() -> None:
    """Import what a run imports, and compose once; no thread may be started."""
    from speechvq.config.application import load_config
    from speechvq.errors import ConfigError
    from speechvq.training.pretrain_config import PretrainConfig

    for name in MODULES:
        importlib.import_module(name)
    with contextlib.suppress(ConfigError):  # nothing was given
        load_config(PretrainConfig, "pretrain")


def run(request: dict[str, Any]) -> int:
    """Run a recipe in this process; returns its exit code."""
    from tests.support.faults import install_faults

    os.setsid()
    with Path(request["log"]).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(request["environment"])
    sys.argv = [request["verb"], *request["arguments"]]
    try:
        install_faults(request["faults"])
        importlib.import_module(f"recipes.{request['verb']}").main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(request: dict[str, Any]) -> int:
    """Fork; returns the child's process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = run(request)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def poll(pid: int) -> int | None:
    """Return the exit code, negative for a signal, or None while the process runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    """Answer requests until the end of the input."""
    import_all()
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"code": poll(request["poll"])} if "poll" in request else {"pid": start(request)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
