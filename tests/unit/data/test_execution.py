"""A process that dies takes one file with it, not the run."""

from __future__ import annotations

import errno
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from speechvq.data.execution import run_parts
from speechvq.data.manifest import ManifestRow
from speechvq.data.work import Part
from speechvq.errors import NoSpaceError


def _row(path: str) -> ManifestRow:
    return ManifestRow(
        root="/in",
        path=path,
        source="s",
        language="hin_Deva",
        split="train",
        speaker=None,
        recording=path,
        transcript=None,
        licence=None,
        seconds=1.0,
        num_bytes=1,
    )


def _parts(*paths: list[str]) -> list[Part]:
    return [
        Part(
            index=index,
            language="hin_Deva",
            rows=tuple(map(_row, names)),
            estimated_seconds=1.0,
        )
        for index, names in enumerate(paths)
    ]


@dataclass(frozen=True)
class _Result:
    index: int
    paths: list[str] = field(default_factory=list)


def _work(directory: Path, part: Part, crashed: frozenset[int]) -> _Result:
    result = _Result(part.index)
    for position, row in enumerate(part.rows):
        if position in crashed:
            continue
        (directory / str(part.index)).write_text(str(position))
        if row.path == "killer":
            os._exit(11)
        if row.path == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        result.paths.append(row.path)
    return result


def _find(directory: Path, part: Part) -> int | None:
    return int((directory / str(part.index)).read_text())


def test_only_the_killers_are_lost(tmp_path: Path) -> None:
    parts = _parts(["a", "b"], ["c", "killer", "d", "killer"], ["e"])
    results = run_parts(
        parts,
        functools.partial(_work, tmp_path),
        workers=2,
        dask_scheduler="",
        find_crashed=functools.partial(_find, tmp_path),
    )
    found = {result.index: sorted(result.paths) for result in results}
    assert found == {0: ["a", "b"], 1: ["c", "d"], 2: ["e"]}


def test_a_full_disk_in_a_worker(tmp_path: Path) -> None:
    results = run_parts(
        _parts(["full"]),
        functools.partial(_work, tmp_path),
        workers=1,
        dask_scheduler="",
        find_crashed=functools.partial(_find, tmp_path),
    )
    with pytest.raises(NoSpaceError, match="same command"):
        list(results)


@pytest.mark.slow
def test_dask_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("dask.distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False
    ) as cluster:
        results = run_parts(
            _parts(["a"], ["b", "c"]),
            functools.partial(_work, tmp_path),
            workers=0,
            dask_scheduler=cluster.scheduler_address,
            find_crashed=functools.partial(_find, tmp_path),
        )
        assert sorted(result.index for result in results) == [0, 1]
