"""Sweeps: several runs of one command line (`--multirun`), one after another or side by side.

Hydra makes the runs and its launchers start them; what is added here is a directory for each run, a
name before each of its lines, a failure that does not take the others along, and a table with the
exit code at the end (docs/sweeps.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from speechvq.errors import ConfigError, InterruptedRunError, SpeechvqError
from speechvq.training.config import Precision, TrainConfig
from speechvq.training.run_directory import FREE_KEYS, flatten, to_plain
from speechvq.training.sweep_records import (
    RECORDS,
    RunRecord,
    RunState,
    read_records,
    write_record,
)

MAX_NAME_LENGTH = 120
"""Longer names of runs are cut, and told apart by a digest."""

_LAUNCHERS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The runs of one command line.

    Attributes:
        keys: The keys whose values differ.
        num_runs: Runs.
        is_nested: Whether runs would share an `output`, and go to directories below it.
        records: Directory of this start's own files, absolute.
    """

    keys: tuple[str, ...]
    num_runs: int
    is_nested: bool
    records: str

    def name_run(self, overrides: Sequence[str], *, is_directory: bool = False) -> str:
        """Return the name of a run: the values of the swept keys.

        Args:
            overrides: The run's own `key=value` pairs.
            is_directory: Leave out `output`, which the directory stands in.
        """
        pairs = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
        keys = [key for key in self.keys if not (is_directory and key == "output")]
        return _shorten("+".join(f"{key}={pairs[key]}" for key in sorted(keys) if key in pairs))


def check_launcher(arguments: Sequence[str]) -> None:
    """Refuse a launcher whose package is missing.

    Raises:
        ConfigError: Names the extra that brings it.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        module = _LAUNCHERS.get(value)
        if key == "hydra/launcher" and module is not None and not _can_import(module):
            raise ConfigError(
                [
                    f"`hydra/launcher` is {value}, whose package is not installed: "
                    '`pip install "speechvq[sweep]"`.'
                ]
            )


def check_single_init(overrides: Sequence[str]) -> None:
    """Refuse a sweep over `init`, whose architecture all runs of a command line have.

    Raises:
        ConfigError: `init` has several values.
    """
    texts = [override for override in overrides if override.lstrip("+").startswith("init=")]
    if any(len(values) > 1 for values in parse_choices(texts)):
        raise ConfigError(
            [
                "`init` must be one model, as all runs of a sweep have its architecture, but has "
                "several values: start one sweep for each."
            ]
        )


def _can_import(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def parse_choices(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each key, one a value; only swept keys have several."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    choices = []
    for override in overrides:
        parsed = parser.parse_overrides([override])[0]
        values = [override]
        if parsed.is_sweep_override() and parsed.is_discrete_sweep():
            key = parsed.get_key_element()
            values = [f"{key}={value}" for value in parsed.sweep_string_iterator()]
        choices.append(values)
    return choices


def list_variants(overrides: Sequence[str]) -> list[list[str]]:
    """Return the first run of a sweep, then one run for each further value of a key."""
    choices = parse_choices(overrides)
    first = [values[0] for values in choices]
    others = [
        [*first[:position], value, *first[position + 1 :]]
        for position, values in enumerate(choices)
        for value in values[1:]
    ]
    return [first, *others]


def plan_sweep(overrides: Sequence[str], get_output: Callable[[list[str]], str]) -> Sweep:
    """Find out which runs a sweep has, and whether they need directories of their own.

    Args:
        overrides: `key=value` pairs in Hydra's grammar, without Hydra's own keys.
        get_output: Composes one run and returns its `output`.

    Returns:
        The sweep.
    """
    choices = parse_choices(overrides)
    swept = {values[0].partition("=")[0]: values for values in choices if len(values) > 1}
    runs = [list(run) for run in itertools.product(*choices)]
    outputs = [values for values in choices if values[0].startswith("output=")]
    if any("${" in value for values in outputs for value in values):
        directories = [get_output(run) for run in runs]
    else:
        # Only `output` itself can tell the runs apart: composing each would take seconds.
        texts = [value.partition("=")[2].strip("'\"") for values in outputs for value in values]
        directories = (texts or [get_output(runs[0])]) * (len(runs) // max(len(texts), 1))
    is_nested = len(set(directories)) < len(runs)
    first = Path(directories[0]).absolute()
    root = first if is_nested else first.parent
    start = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
    return Sweep(
        keys=tuple(key.lstrip("+") for key in swept),
        num_runs=len(runs),
        is_nested=is_nested,
        records=str(root / RECORDS / start),
    )


def _shorten(name: str) -> str:
    """Make a name that stands in a path and on a command line as it is."""
    plain = re.sub(r"[^\w.=+%@-]+", "-", re.sub(r"[\[\]{}'\"]", "", name)).replace("=-", "=")
    if plain == name and len(plain) <= MAX_NAME_LENGTH:
        return plain
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:6]
    return f"{plain[:MAX_NAME_LENGTH]}-{digest}"


def run_in_sweep(
    sweep: Sweep,
    config: Any,
    create: Callable[[Any], Any],
    run: Callable[[Any], object],
    translate: Callable[[Exception], SpeechvqError | None],
) -> int:
    """Run one run of a sweep, in whatever process the launcher has chosen.

    Args:
        sweep: The sweep.
        config: The run's composed configuration.
        create: Makes the recipe's dataclass of it.
        run: The recipe.
        translate: Turns an exception into an error of ours, or None for a defect.

    Returns:
        The exit code that the run would have had on its own.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    name = sweep.name_run(overrides)
    if sweep.is_nested:
        config = config.copy()
        config.output = str(Path(config.output) / sweep.name_run(overrides, is_directory=True))
    records = Path(sweep.records)
    is_local = not str(hydra.launcher.get("_target_", "")).startswith(_LAUNCHERS["submitit_slurm"])
    if is_local and any(r.state == RunState.interrupted.value for r in read_records(records)):
        return 0  # Ctrl-C ended another run: this one does not begin
    begin = time.monotonic()
    with _prefix_lines(name):
        state, code, message = _run_caught(lambda: create(config), run, translate)
    record = RunRecord(
        name=name,
        output=str(Path(config.output).absolute()),
        state=state.value,
        exit_code=code,
        message=message,
        seconds=round(time.monotonic() - begin, 1),
    )
    if _is_main():
        write_record(records, int(hydra.job.num), record)
    return code


def _is_main() -> bool:
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _run_caught(
    create: Callable[[], Any],
    run: Callable[[Any], object],
    translate: Callable[[Exception], SpeechvqError | None],
) -> tuple[RunState, int, str]:
    """Run; print an error, and return state, exit code and message."""
    try:
        config = create()
        if is_finished(config):
            print(f"already finished: {config.output}", flush=True)
            return RunState.skipped, 0, ""
        run(config)
    except KeyboardInterrupt:
        return RunState.interrupted, 130, "interrupted"
    except Exception as error:
        known = translate(error)
        if known is None:
            traceback.print_exc()
            return RunState.failed, 1, f"{type(error).__name__}: {error}"
        print(f"speechvq: {known}", file=sys.stderr, flush=True)
        is_stopped = isinstance(known, InterruptedRunError)
        state = RunState.interrupted if is_stopped else RunState.failed
        return state, known.exit_code, str(known)
    return RunState.finished, 0, ""


def is_finished(config: object) -> bool:
    """Tell whether a training run of this configuration is over; anything else never is."""
    if not isinstance(config, TrainConfig) or config.plan:
        return False
    directory = Path(config.output)
    try:
        before = flatten(json.loads((directory / "config.json").read_text(encoding="utf-8")))
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    now = flatten(to_plain(asdict(config)))
    free = FREE_KEYS | ({"precision"} if config.precision is Precision.auto else set())
    return (
        all(before.get(key) == value for key, value in now.items() if key not in free)
        and summary.get("steps", 0) >= config.steps
        and (directory / "model" / "config.json").exists()
    )


def finish_sweep(sweep: Sweep) -> int:
    """Print a table of the runs.

    Returns:
        The sweep's exit code: that of the first run without a result, else 0.
    """
    records = read_records(Path(sweep.records))
    width = max((len(record.name) for record in records), default=0)
    print(f"\nSweep of {sweep.num_runs} runs:", flush=True)
    for record in records:
        line = f"  {record.name:<{width}}  {record.state}"
        if record.state != RunState.skipped.value:
            line += f" after {record.seconds:.0f} s"
        if record.exit_code:
            line += f", exit code {record.exit_code}: {_cut(record.message)}"
        print(line)
    num_lost = sweep.num_runs - len(records)
    if num_lost:
        print(f"  {num_lost} without a result: not begun, or killed.")
    codes = [record.exit_code for record in records if record.exit_code]
    if codes or num_lost:
        print("The same command goes on; runs that are finished are not run again.", flush=True)
    else:
        directories = " ".join(record.output for record in records)
        print(f"Side by side: speechvq compare {directories}", flush=True)
    return codes[0] if codes else int(num_lost > 0)


def _cut(text: str, length: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


@contextlib.contextmanager
def wait_for_runs() -> Iterator[None]:
    """Let the runs answer the first Ctrl-C, which reaches them too; the second ends everything."""

    def wait(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        print("speechvq: the runs that have begun are saving; Ctrl-C again ends them.",
              file=sys.stderr, flush=True)  # fmt: skip

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _prefix_lines(name: str) -> Iterator[None]:
    """Put a run's name before each line that it prints."""
    with (
        contextlib.redirect_stdout(_PrefixedStream(sys.stdout, name)),
        contextlib.redirect_stderr(_PrefixedStream(sys.stderr, name)),
    ):
        yield


class _PrefixedStream(io.TextIOBase):
    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._prefix = f"[{name}] "
        self._is_line_open = False

    def write(self, text: str, /) -> int:
        for line in text.splitlines(keepends=True):
            self._stream.write(line if self._is_line_open else self._prefix + line)
            self._is_line_open = not line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
