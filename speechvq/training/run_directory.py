"""The directory of a training run.

    config.json     the resolved configuration
    metrics.jsonl   one line per interval and validation
    summary.json    what came out
    report.html     the same to look at
    model/          the model (DESIGN.md D4)
    engine/         fairseq2's own files, for resuming this run only: logs, TensorBoard, and
                    checkpoints, each with a manifest (training.checkpoints)

A directory that holds a run with another configuration is refused; the same configuration goes on
where the run stopped (DESIGN.md D2).
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from speechvq.durable import write_durably
from speechvq.errors import ConfigError
from speechvq.training.checkpoints import is_complete, list_steps, set_aside_damaged
from speechvq.training.config import Resume, TrainConfig

FREE_KEYS = frozenset(
    {"output", "resume", "plan", "plan_gpus", "plan_gpu_hours_per_hour", "plan_efficiency",
     "num_threads", "keep_checkpoints", "batch.num_workers", "batch.num_prefetch", "tensorboard",
     "wandb_project", "activation_checkpointing", "rounds", "patience", "device",
     "recognize_seconds", "num_doubtful", "doubtful_megabytes"}
)  # fmt: skip
"""Keys that change nothing of the result, so that they may differ when a run goes on."""

MAX_WAIT_SECONDS = 300.0
"""How long other ranks wait for rank 0 to begin the run."""

EXTENDABLE_KEYS = frozenset(
    {"steps", "health.action", "health.patience", "health.min_perplexity_share",
     "health.max_equal_share", "health.max_dead_share", "architecture.diversity_weight",
     "early_stop_patience"}
)  # fmt: skip
"""Keys that `resume=extend` may change."""


def to_plain(value: Any) -> Any:
    """Turn a configuration into JSON-able values; enums become their names."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


class RunDirectory:
    """Files of one run.

    Args:
        config: The run's configuration; its `output` is the directory.
        verb: Which recipe the run is of, `pretrain` or `finetune`.
        rank: This process among those of the run; only rank 0 writes.
        num_ranks: Processes of the run; they share its batches and each keep a state of their own.
    """

    def __init__(
        self, config: TrainConfig, verb: str, *, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.path = Path(config.output).absolute()
        self._config = config
        self._is_main = rank == 0
        self._plain = {"verb": verb, "num_ranks": num_ranks, **to_plain(asdict(config))}

    @property
    def model(self) -> Path:
        """The model directory that the run leaves."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """The file of metrics."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The states to resume from."""
        return self.path / "engine" / "checkpoints"

    def check(self) -> None:
        """Refuse a directory that holds something else; set damaged checkpoints aside.

        Raises:
            ConfigError: Names every key that differs.
            ModelError: There are checkpoints, and none of them is whole.
        """
        self._check_configuration()
        if self._is_main:
            for sentence in set_aside_damaged(self.checkpoints):
                print(f"  note: {sentence}", flush=True)

    def _check_configuration(self) -> None:
        path = self.path / "config.json"
        if not path.exists():
            # Other ranks may come while rank 0 is filling the directory, and leave this to it.
            if self._is_main and self.path.exists() and any(self.path.iterdir()):
                raise ConfigError(
                    [
                        f"`output` must be a new directory or one of the same run, but {self.path} "
                        "holds other files: choose another."
                    ]
                )
            return
        before = flatten(json.loads(path.read_text(encoding="utf-8")))
        now = flatten(self._plain)
        before.setdefault("num_ranks", now["num_ranks"])
        may_differ = FREE_KEYS | (
            EXTENDABLE_KEYS if self._config.resume is Resume.extend else frozenset()
        )
        problems = [
            f"`{key}` is {now.get(key)!r}, but the run in {self.path} has {before.get(key)!r}."
            for key in sorted(before.keys() | now.keys())
            if key not in may_differ and before.get(key) != now.get(key)
        ]
        if "steps" in may_differ and now["steps"] < before["steps"]:
            problems.append(
                f"`steps` must be at least that of the run in {self.path} ({before['steps']}) "
                f"with `resume=extend`, but is {now['steps']}."
            )
        if problems:
            advice = (
                "Choose another `output`, or the same values; `resume=extend` allows more `steps`."
            )
            raise ConfigError([*problems, advice])

    def write_config(self) -> None:
        """Create the directory and save the resolved configuration; other ranks wait for rank 0.

        Raises:
            ConfigError: Rank 0 did not begin the run.
        """
        if not self._is_main:
            self._wait_for_main()
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_json("config.json", self._plain)

    def _wait_for_main(self) -> None:
        """Wait until rank 0 has judged the directory: nothing is written to a foreign one."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while not (self.path / "config.json").exists():
            if time.monotonic() > deadline:
                raise ConfigError(
                    [
                        f"Rank 0 has not begun the run in {self.path} within {MAX_WAIT_SECONDS} s: "
                        "see its message, and that all ranks see the same directory."
                    ]
                )
            time.sleep(0.05)

    def describe_training(self, step: int) -> dict[str, Any]:
        """What a model of the run says of its training."""
        rest = {key: value for key, value in self._plain.items() if key != "num_ranks"}
        return {"verb": self._plain["verb"], "step": step, **rest}

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Save what came out of the run."""
        self.write_json("summary.json", summary)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read one of the run's JSON files, or None if it is not there."""
        path = self.path / name
        if not path.exists():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one of the run's JSON files, whole or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=False)
        write_durably(self.path / name, f"{text}\n".encode())

    def read_model_step(self) -> int | None:
        """Return the step whose model the run has left, or None if there is no model yet."""
        document = self.read_json("model/config.json")
        step: int | None = (document or {}).get("training", {}).get("step")
        return step

    def drop_checkpoints(self, last_kept: int) -> int:
        """Remove the checkpoints of later steps; returns the last that is left, or 0.

        One that is still being written goes, too: without its directory it cannot be committed.
        """
        for path in self.checkpoints.glob("step_*"):
            number = path.name.removeprefix("step_").removesuffix(".tmp")
            if number.isdigit() and int(number) > last_kept:
                shutil.rmtree(path, ignore_errors=path.suffix == ".tmp")
        return self.find_last_checkpoint()

    def find_last_checkpoint(self) -> int:
        """Return the step of the last whole checkpoint, 0 if there is none."""
        steps = list_steps(self.checkpoints)
        return max((s for s in steps if is_complete(self.checkpoints / f"step_{s}")), default=0)
