"""Faults that a run of the fork server can be given, by name."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def install_faults(faults: Mapping[str, Any]) -> None:
    """Make things go wrong in this process.

    Args:
        faults: {"nan_loss": {"steps": [3, 4], "rank": 0}}: the loss of these steps is NaN on a
            rank; {"file_size": 4096}: `ulimit -f` in bytes; {"full_disk": "trainer/rank_00.pt"}:
            ENOSPC after the first kilobyte of a checkpoint's file whose path ends so.
    """
    if "nan_loss" in faults:
        _spoil_loss(**faults["nan_loss"])
    if "file_size" in faults:
        resource.setrlimit(resource.RLIMIT_FSIZE, (faults["file_size"], faults["file_size"]))
    if "full_disk" in faults:
        _fill_disk(faults["full_disk"])


def _spoil_loss(steps: list[int], rank: int) -> None:
    from speechvq.training.units import PretrainUnit

    if int(os.environ.get("RANK", "0")) != rank:
        return
    process_batch, set_step_nr = PretrainUnit.process_batch, PretrainUnit.set_step_nr
    current = [0]

    def note_step(self: PretrainUnit, step_nr: int) -> None:
        current[0] = step_nr
        set_step_nr(self, step_nr)

    def spoil(self: PretrainUnit, batch: Any, metric_bag: Any) -> Any:
        loss, num_targets = process_batch(self, batch, metric_bag)
        return (loss * float("nan") if current[0] in steps else loss), num_targets

    PretrainUnit.set_step_nr = note_step  # type: ignore[method-assign]
    PretrainUnit.process_batch = spoil  # type: ignore[method-assign]


def _fill_disk(ending: str) -> None:
    from speechvq.training.checkpoint_writer import DigestedFile

    write = DigestedFile.write

    def write_or_fail(self: DigestedFile, data: bytes) -> int:
        name = Path(self._file.name).as_posix()
        if name.endswith(ending) and self.digest.size > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        return write(self, data)

    DigestedFile.write = write_or_fail  # type: ignore[method-assign]
