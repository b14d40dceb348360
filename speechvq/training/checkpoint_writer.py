"""The part of saving that fairseq2 leaves out: digests, syncs, and a manifest before the rename."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
import torch.distributed as dist
from fairseq2.gang import Gang
from fairseq2.io import TensorFileDumper, TensorFileDumpOptions
from typing_extensions import override

from speechvq.durable import sync_directory
from speechvq.training.checkpoints import FileDigest, write_manifest


class DigestedFile:
    """A file that knows the digest of what was written to it.

    Args:
        file: Where the bytes go, from its beginning, in order.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of some bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error  # torch.save may report an error of its own instead
            raise
        self._hash.update(data)
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        """Hand the bytes over to the system."""
        self._file.flush()

    @property
    def digest(self) -> FileDigest:
        """Size and digest of what was written."""
        return FileDigest(self._size, self._hash.hexdigest())


class DigestingDumper(TensorFileDumper):
    """Saves tensor files to the disk and remembers their digests."""

    def __init__(self) -> None:
        self._digests: dict[Path, FileDigest] = {}

    @override
    def dump(
        self, data: Mapping[str, object], file: Path, options: TensorFileDumpOptions | None = None
    ) -> None:
        """Save a file with `torch.save`.

        Raises:
            OSError: It could not be written.
        """
        protocol = (options or TensorFileDumpOptions()).pickle_protocol
        try:
            self._digests[file] = _save(data, file, protocol)
        except OSError as error:
            error.filename = error.filename or str(file)
            raise

    def take_digests(self, directory: Path) -> dict[str, FileDigest]:
        """Return the digests of the files below a directory, by path, and forget all."""
        found = {
            file.relative_to(directory).as_posix(): digest
            for file, digest in self._digests.items()
            if file.is_relative_to(directory)
        }
        self._digests.clear()
        return found


def _save(data: Mapping[str, object], path: Path, protocol: int) -> FileDigest:
    with path.open("wb") as file:
        digested = DigestedFile(file)
        try:
            torch.save(data, digested, pickle_protocol=protocol)  # type: ignore[arg-type]
        except Exception as error:
            if digested.error is not None:
                raise digested.error from error
            raise
        file.flush()
        os.fsync(file.fileno())
    return digested.digest


class Committing(Protocol):
    """What `CheckpointWriter` needs of fairseq2's checkpoint manager, which has no public hooks."""

    _checkpoint_dir: Path
    _tensor_file_dumper: TensorFileDumper

    def _commit_checkpoint(self, step_nr: int) -> None: ...


class CheckpointWriter:
    """Makes fairseq2's checkpoints whole ones.

    Each rank digests what it writes, in the thread that writes; rank 0 adds the manifest once all
    ranks have written, before the checkpoint gets its name.

    Args:
        gang: All ranks.
    """

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._dumper = DigestingDumper()

    def install(self, manager: Committing) -> None:
        """Take part in a manager's saving."""
        manager._tensor_file_dumper = self._dumper
        commit = manager._commit_checkpoint
        root = manager._checkpoint_dir

        def complete_and_commit(step_nr: int) -> None:
            self._complete(root / f"step_{step_nr}.tmp")
            commit(step_nr)
            if self._gang.rank == 0:
                sync_directory(root)

        manager._commit_checkpoint = complete_and_commit  # type: ignore[method-assign]

    def _complete(self, directory: Path) -> None:
        digests = self._dumper.take_digests(directory)
        if self._gang.size > 1:
            parts: list[Any] = [None] * self._gang.size
            dist.all_gather_object(parts, digests, group=self._gang.as_process_group())
            for part in parts:
                digests.update(part)
        if self._gang.rank == 0:
            write_manifest(directory, digests, self._gang.size)
