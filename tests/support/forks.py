"""Starts recipes in forks of a process that has imported everything; see `fork_server`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.runs import ROOT, create_environment


class ForkServer:
    """The process whose forks run recipes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server"],
            cwd=ROOT,
            env=create_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running: set[int] = set()
        self._logs = tempfile.TemporaryDirectory(prefix="forks-")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request; returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(
        self,
        verb: str,
        arguments: Sequence[str],
        *,
        ranks: int = 1,
        faults: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ForkedRun:
        """Start a recipe, one process per rank.

        Args:
            verb: The recipe.
            arguments: `key=value` pairs.
            ranks: Processes, each a rank.
            faults: What goes wrong in it; see `tests.support.faults`.
            environment: Further variables.
        """
        directory = Path(tempfile.mkdtemp(dir=self._logs.name))
        port = _find_free_port()
        processes = []
        for rank in range(ranks):
            variables = dict(environment or {})
            if ranks > 1:
                variables |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
                    "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                }  # fmt: skip
            log = directory / f"rank_{rank}.log"
            log.touch()
            request = {
                "verb": verb, "arguments": list(arguments), "environment": variables,
                "log": str(log), "faults": dict(faults or {}),
            }  # fmt: skip
            processes.append(ForkedProcess(self, self.ask(request)["pid"], log))
        self._running |= {process.pid for process in processes}
        return ForkedRun(processes)

    def run(self, verb: str, arguments: Sequence[str], **options: Any) -> ForkedRun:
        """Run a recipe to its end."""
        run = self.start(verb, arguments, **options)
        run.wait()
        return run

    def forget(self, pid: int) -> None:
        """Take a process that has ended off the list."""
        self._running.discard(pid)

    def close(self) -> None:
        """End all forks and the server."""
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._logs.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ForkedProcess:
    """One rank of a recipe."""

    def __init__(self, server: ForkServer, pid: int, log: Path) -> None:
        self._server = server
        self._code: int | None = None
        self.pid = pid
        self.log = log

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        if self._code is None:
            self._code = self._server.ask({"poll": self.pid})["code"]
            if self._code is not None:
                self._server.forget(self.pid)
        return self._code

    def wait(self, timeout: float = 240) -> int:
        """Wait for the end; returns the exit code.

        Raises:
            TimeoutError: It takes too long; the process is killed.
        """
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"still running after {timeout} s:\n{self.log.read_text()}")
            time.sleep(0.02)
        return code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkedRun:
    """All ranks of a recipe."""

    def __init__(self, processes: Sequence[ForkedProcess]) -> None:
        self.processes = processes

    def wait(self, timeout: float = 240) -> list[int]:
        """Wait for the end of all ranks; returns their exit codes."""
        return [process.wait(timeout) for process in self.processes]

    def kill(self) -> None:
        """Kill all ranks, as a power cut would."""
        for process in self.processes:
            process.kill()

    @property
    def codes(self) -> list[int | None]:
        """Exit codes of the ranks."""
        return [process.poll() for process in self.processes]

    @property
    def output(self) -> str:
        """What the ranks printed."""
        return "".join(process.log.read_text() for process in self.processes)


def _find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
