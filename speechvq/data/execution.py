"""Spreading pieces of work over processes: a local pool, or the workers of a Dask cluster, behind
`concurrent.futures`.

A process that dies (a decoder's fault, no memory) takes its whole pool with it. The pieces that
were under way are then run one by one; the one that dies again names the file it was reading, and
is run once more without that file.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from speechvq.errors import MissingDependencyError, NoSpaceError

_MAX_CRASHES = 100


class Indexed(Protocol):
    """A piece of work, or its result."""

    @property
    def index(self) -> int:
        """Number among all pieces."""


PartT = TypeVar("PartT", bound=Indexed)
ResultT = TypeVar("ResultT", bound=Indexed)


def run_parts(
    parts: Sequence[PartT],
    function: Callable[[PartT, frozenset[int]], ResultT],
    *,
    workers: int,
    dask_scheduler: str,
    find_crashed: Callable[[PartT], int | None],
) -> Generator[ResultT]:
    """Runs every piece of work.

    Args:
        parts: What to do.
        function: What to do with each, without some of its rows; must pickle.
        workers: Local processes; 0 is one per core.
        dask_scheduler: Address of a Dask scheduler; empty for local processes.
        find_crashed: Asked when a process died: the position of the row that it was reading, or
            None.

    Yields:
        Results as they are ready.

    Raises:
        NoSpaceError: If the disk is full.
    """
    if dask_scheduler:
        with _connect_to_dask(dask_scheduler) as executor:
            yield from _run(executor, parts, function, num_ahead=256)
        return
    workers = workers or count_cores()
    remaining = {part.index: part for part in parts}
    while remaining:
        executor = _create_pool(min(workers, len(remaining)))
        started: dict[int, PartT] = {}
        try:
            for result in _run(executor, list(remaining.values()), function, 2 * workers, started):
                del remaining[result.index]
                yield result
        except BrokenProcessPool:
            for part in [part for index, part in started.items() if index in remaining]:
                yield _run_alone(part, function, find_crashed)
                del remaining[part.index]
        finally:
            _stop_pool(executor)


def count_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(
    executor: Executor,
    parts: Sequence[PartT],
    function: Callable[[PartT, frozenset[int]], ResultT],
    num_ahead: int,
    started: dict[int, PartT] | None = None,
) -> Iterator[ResultT]:
    """Submits pieces, a limited number ahead, and yields what is done; `started` gets what is under
    way.
    """
    waiting = iter(parts)
    pending: dict[Future[ResultT], PartT] = {}
    started = {} if started is None else started
    while True:
        for part in waiting:
            started[part.index] = part
            pending[executor.submit(function, part, frozenset())] = part
            if len(pending) >= num_ahead:
                break
        if not pending:
            return
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda future: pending[future].index):
            result = _get_result(future)
            del started[pending.pop(future).index]
            yield result


def _run_alone(
    part: PartT,
    function: Callable[[PartT, frozenset[int]], ResultT],
    find_crashed: Callable[[PartT], int | None],
) -> ResultT:
    crashed: frozenset[int] = frozenset()
    for _ in range(_MAX_CRASHES):
        executor = _create_pool(1)
        try:
            return _get_result(executor.submit(function, part, crashed))
        except BrokenProcessPool:
            row = find_crashed(part)
            if row is None or row in crashed:
                raise
            crashed |= {row}
        finally:
            _stop_pool(executor)
    raise RuntimeError(f"More than {_MAX_CRASHES} files of one piece of work end the process.")


def _get_result(future: Future[ResultT]) -> ResultT:
    try:
        return future.result()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"The disk is full ({error}). What is done is kept: free some space and run the"
                " same command again."
            ) from error
        raise


def _create_pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_initialize_worker)


def _initialize_worker() -> None:
    """The parent alone answers signals; a worker uses one core and does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limit_threads()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def limit_threads() -> None:
    """Lets torch use one core of this process: the others have work of their own."""
    import torch

    torch.set_num_threads(1)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _stop_pool(executor: ProcessPoolExecutor) -> None:
    """Ends the pool at once; pieces under way leave temporary files only."""
    processes = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        with contextlib.suppress(ValueError):
            process.terminate()
    for process in processes:
        process.join(timeout=10)


@contextlib.contextmanager
def _connect_to_dask(address: str) -> Iterator[Any]:
    try:
        from dask.distributed import Client
    except ImportError:
        raise MissingDependencyError(
            "distributed", "prep", "prepare data on a Dask cluster"
        ) from None
    # The worker processes import this package themselves, so they need the same environment.
    client: Any = Client(address)  # type: ignore[no-untyped-call]
    with client:
        yield client.get_executor(pure=False)
