"""Runs the stages of the demo one after the other, each once.

Synthesis and the counting of codes run here; the verbs (`prepare`, `pretrain`, `finetune`,
`evaluate`) run as processes of their own with the command line that a user would type, which is
printed: the demo is also the tutorial. What is done is kept in `stages.json`; the same command goes
on after an interruption, and a directory of another demo is refused.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from speechvq.demo.config import PLANS, DemoConfig
from speechvq.errors import ConfigError, InterruptedRunError, SpeechvqError

INTERRUPTED = {130: signal.SIGINT, 143: signal.SIGTERM, -2: signal.SIGINT, -15: signal.SIGTERM}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the demo.

    Attributes:
        name: Unique name, such as ``finetune hin_Deva``.
        purpose: What it does, as one sentence.
        arguments: Verb and keys of the console script; empty where `action` is given.
        action: What to call in this process instead.
        expected_seconds: Wall time on two cores.
    """

    name: str
    purpose: str
    arguments: tuple[str, ...] = ()
    action: Callable[[], None] | None = None
    expected_seconds: float = 0.0

    @property
    def command(self) -> str:
        """What a user would type; empty for what only the demo does."""
        return shlex.join(["speechvq", *self.arguments]) if self.arguments else ""


class StageFailedError(SpeechvqError):
    """A verb that the demo started ended with an error; carries its exit code."""

    def __init__(self, stage: Stage, exit_code: int) -> None:
        self.exit_code = exit_code if exit_code > 0 else 1
        super().__init__(
            f"The stage `{stage.name}` ended with exit code {exit_code}; its message stands above. "
            f"Its command was `{stage.command}`. Once mended, the same demo command goes on here."
        )


class StageLog:
    """What is done, in `<output>/stages.json`.

    Args:
        output: Directory of the demo.
        config: The demo's configuration.

    Raises:
        ConfigError: When the directory holds a demo of another configuration, or something else.
    """

    def __init__(self, output: Path, config: DemoConfig) -> None:
        self._path = output / "stages.json"
        plan = json.loads(json.dumps(asdict(PLANS[config.preset])))
        del plan["expected_seconds"]
        described = {"preset": config.preset.value, "seed": config.seed, "plan": plan}
        self._content: dict[str, Any] = {"config": described, "stages": {}}
        if self._path.is_file():
            self._content = json.loads(self._path.read_text(encoding="utf-8"))
            if self._content["config"] != described:
                before = self._content["config"]
                raise ConfigError(
                    [
                        f"`output` must be a new directory or one of the same demo, but `{output}` "
                        f"holds preset={before['preset']} seed={before['seed']} (or comes from "
                        "another version): choose another, or delete it."
                    ]
                )
        elif output.exists() and (output.is_file() or any(output.iterdir())):
            raise ConfigError(
                [f"`output` must be a new directory, but `{output}` is a file or holds others."]
            )
        output.mkdir(parents=True, exist_ok=True)
        self._write()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of every stage that is done."""
        return dict(self._content["stages"])

    def add(self, name: str, seconds: float) -> None:
        """Note that a stage is done."""
        self._content["stages"][name] = round(seconds, 2)
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_name(".stages.json.tmp")
        temporary.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._path)


def run_stages(stages: Sequence[Stage], log: StageLog) -> None:
    """Run every stage that is not done yet, and say so.

    Raises:
        StageFailedError: When a verb fails.
        InterruptedRunError: When a verb was stopped by a signal.
    """
    for number, stage in enumerate(stages, start=1):
        head = f"[{number}/{len(stages)}] {stage.name}"
        if stage.name in log.seconds:
            say(f"{head}: done before, in {format_seconds(log.seconds[stage.name])}")
            continue
        left = sum(s.expected_seconds for s in stages[number - 1 :] if s.name not in log.seconds)
        say(f"\n{head}: {stage.purpose} (about {format_seconds(left)} left in all)")
        start = time.monotonic()
        if stage.action is not None:
            stage.action()
        else:
            say(f"    {stage.command}")
            run_verb(stage)
        log.add(stage.name, time.monotonic() - start)
        say(f"[{number}/{len(stages)}] {stage.name}: {format_seconds(log.seconds[stage.name])}")


def run_verb(stage: Stage) -> None:
    """Run a verb of the console script as a process that writes to this terminal.

    A signal that reaches this process is left to the verb, which saves its state and ends.
    """
    process = subprocess.Popen([sys.executable, "-m", "speechvq.cli", *stage.arguments])

    def forward(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:  # Ctrl+C reaches the whole process group by itself
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        exit_code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if exit_code in INTERRUPTED:
        raise InterruptedRunError(
            int(INTERRUPTED[exit_code]),
            f"The demo was stopped in the stage `{stage.name}`; the same command goes on there.",
        )
    if exit_code != 0:
        raise StageFailedError(stage, exit_code)


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


class ProgressLine:
    """A line that says how far a stage is: rewritten on a terminal, repeated in a log."""

    LOG_SECONDS = 5.0

    def __init__(self) -> None:
        self._last = -math.inf

    def show(self, text: str) -> None:
        """Show a new state."""
        if sys.stdout.isatty():
            print(f"\r    {text}\033[K", end="", flush=True)
        elif time.monotonic() - self._last >= self.LOG_SECONDS:
            self._last = time.monotonic()
            say(f"    {text}")

    def close(self, text: str) -> None:
        """Leave a last line behind."""
        print(
            ("\r" if sys.stdout.isatty() else "") + f"    {text}" + "\033[K" * sys.stdout.isatty()
        )


def format_seconds(seconds: float) -> str:
    """Minutes and seconds, such as ``4:07 min``; short times in seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
