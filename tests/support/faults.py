"""Faults and probes that a run of the fork server can be given, by name."""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib
import json
import os
import resource
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FULL_DISKS: dict[str, dict[str, Any]] = {
    "file size in a checkpoint": {"file_size": {"num_bytes": 100_000}},
    "no space in a checkpoint": {"full_disk": {"ending": "step_8.tmp/trainer/rank_00.pt"}},
    "file size in the metrics": {
        "file_size_in": {
            "target": "speechvq.training.metrics:MetricsFile.write", "num_bytes": 1000, "call": 6,
        }
    },
    "file size in the manifest": {
        "file_size_in": {
            "target": "speechvq.training.checkpoint_writer:write_manifest", "num_bytes": 100,
            "call": 2,
        }
    },
    "file size in the model directory": {
        "file_size_in": {
            "target": "speechvq.training.pretraining:save_model", "num_bytes": 10_000
        }
    },
    "file size in the summary": {
        "file_size_in": {
            "target": "speechvq.training.run_directory:RunDirectory.write_summary", "num_bytes": 20
        }
    },
}  # fmt: skip
"""Places where a disk may be full, as faults."""


def install_faults(faults: Mapping[str, Any]) -> None:
    """Make things go wrong in this process, each as its function says."""
    known: dict[str, Callable[..., None]] = {
        "nan_loss": spoil_loss,
        "no_targets": hide_targets,
        "file_size": limit_files,
        "file_size_in": limit_files_in,
        "full_disk": fill_disk,
        "kill_in_save": kill_in_save,
        "buffers": write_buffers,
    }
    for name, options in faults.items():
        known[name](**options)


def get_rank() -> int:
    """Return this process's rank."""
    return int(os.environ.get("RANK", "0"))


def wrap(target: str, wrapper: Callable[..., Any]) -> None:
    """Replace `module:Class.method` by `wrapper(original, *args, **kwargs)`."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    original = getattr(owner, name)

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, replacement)


def spoil_loss(steps: list[int], rank: int) -> None:
    """The audio of these steps holds a NaN on a rank."""
    current = [0]

    def note_step(original: Any, unit: Any, step: int) -> None:
        current[0] = step
        original(unit, step)

    def spoil(original: Any, unit: Any, batch: Any, bag: Any) -> Any:
        if current[0] in steps:
            batch.waveform = batch.waveform.clone()
            batch.waveform[0, 1000] = float("nan")
        return original(unit, batch, bag)

    if get_rank() == rank:
        wrap("speechvq.training.pretrain_units:PretrainUnit.set_step_nr", note_step)
        wrap("speechvq.training.pretrain_units:PretrainUnit.process_batch", spoil)


def hide_targets(steps: list[int], rank: int) -> None:
    """The batches of these steps have no masked frame on a rank, as if too short for a mask."""
    import torch

    current = [0]

    def note_step(original: Any, unit: Any, step: int) -> None:
        current[0] = step
        original(unit, step)

    def hide(original: Any, unit: Any, batch: Any, bag: Any) -> Any:
        if current[0] in steps:
            batch.num_masked = torch.zeros_like(batch.num_masked)
            batch.masked_frames = batch.masked_frames[:, :0]
            batch.distractors = batch.distractors[:, :0]
        return original(unit, batch, bag)

    if get_rank() == rank:
        wrap("speechvq.training.pretrain_units:PretrainUnit.set_step_nr", note_step)
        wrap("speechvq.training.pretrain_units:PretrainUnit.process_batch", hide)


def limit_files(num_bytes: int) -> None:
    """No file may grow past a size, as with `ulimit -f`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))


def limit_files_in(target: str, num_bytes: int, call: int = 1) -> None:
    """The same while a function runs for the n-th time."""
    num_calls = [0]

    def limit(original: Any, *args: Any, **kwargs: Any) -> Any:
        num_calls[0] += 1
        if num_calls[0] == call:
            limit_files(num_bytes)
        try:
            return original(*args, **kwargs)
        finally:
            limit_files(resource.RLIM_INFINITY)

    wrap(target, limit)


def fill_disk(ending: str) -> None:
    """ENOSPC after the first kilobyte of a checkpoint's file whose path ends so."""

    def write(original: Any, file: Any, data: bytes) -> int:
        if Path(file._file.name).as_posix().endswith(ending) and file.digest.size > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = original(file, data)
        return written

    wrap("speechvq.training.checkpoint_writer:DigestedFile.write", write)


def kill_in_save(step: int, place: str, rank: int = 0) -> None:
    """SIGKILL to a rank in the saving of a step's checkpoint.

    Args:
        step: The step.
        place: A number of bytes of the rank's files that are written by then; or `manifest`, before
            it is written; `rename`, before the checkpoint gets its name; `renamed`, after.
        rank: Which one dies.
    """
    name, num_written = f"step_{step}.tmp", [0]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write(original: Any, file: Any, data: bytes) -> int:
        if name in Path(file._file.name).parts:
            rest = int(place) - num_written[0]
            if len(data) >= rest:
                original(file, memoryview(data)[:rest])
                file.flush()
                die()
            num_written[0] += len(data)
        written: int = original(file, data)
        return written

    def before(original: Any, *args: Any) -> Any:
        if any(str(value).endswith(name) for value in args):
            die()
        return original(*args)

    def around_rename(original: Any, manager: Any, step_nr: int) -> None:
        if place == "rename" and step_nr == step:
            die()
        original(manager, step_nr)
        if place == "renamed" and step_nr == step:
            die()

    if get_rank() != rank:
        return
    if place.isdigit():
        wrap("speechvq.training.checkpoint_writer:DigestedFile.write", write)
    elif place == "manifest":
        wrap("speechvq.training.checkpoint_writer:CheckpointWriter._complete", before)
    else:
        manager = "fairseq2.checkpoint.manager:StandardCheckpointManager._commit_checkpoint"
        wrap(manager, around_rename)


def write_buffers(directory: str) -> None:
    """Every rank writes the digests of its model's buffers at the end of the run."""

    def save(original: Any, recipe: Any, model: Any, *args: Any) -> None:
        digests = {
            name: hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()
            for name, value in model.named_buffers()
        }
        path = Path(directory) / f"buffers_{get_rank()}.json"
        path.write_text(json.dumps(digests), encoding="utf-8")
        original(recipe, model, *args)

    wrap("speechvq.training.engine:EngineRecipe._save", save)
