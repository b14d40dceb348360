"""Ends this rank when another one is gone, instead of waiting for it for ever.

A rank that is killed, or whose machine is, leaves the others inside a collective operation: gloo
mostly notices, NCCL and a lost machine only at the engine's timeout of 15 minutes. So each rank
counts up a number in the job's store every few seconds and looks at those of the others. A slow
rank goes on counting; a dead or stopped one does not.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import torch.distributed as dist

TICK_SECONDS = 5.0
"""Time between two looks."""

MAX_SILENT_TICKS = 4
"""Looks at an unchanged number after which a rank counts as gone. Looks, not seconds: a job that
was suspended and goes on has them all before it. `torchrun` leaves a stopped rank 30 s more before
it kills it: the job ends within a minute."""

MAX_FAILED_TICKS = 2
"""Looks at a rank that has said it failed, in which this one may end by itself."""


class Store(Protocol):
    """What ranks share; `torch.distributed.Store` is one."""

    def add(self, key: str, amount: int) -> int:
        """Add to a number, 0 before, and return it."""


def connect_to_store() -> Store:
    """Connect to the job's store, beside the connection of the process group, which may block."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=TICK_SECONDS * MAX_SILENT_TICKS)
    return dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=False, timeout=timeout, wait_for_workers=False
    )


def leave(rank: int, message: str) -> None:
    """End the process at once: its main thread may never come back."""
    print(f"speechvq (rank {rank}): {message}", file=sys.stderr, flush=True)
    os._exit(1)


@dataclass
class _Peer:
    count: int = -1
    num_silent: int = 0
    num_failed: int = 0


@dataclass
class RankWatch:
    """Watches the other ranks of a run.

    Attributes:
        rank: This process among them.
        size: How many there are.
        connect: Connects to what they share.
        leave: Called with this rank and a sentence when another is gone.
        tick_seconds: Time between two looks.
    """

    rank: int
    size: int
    connect: Callable[[], Store] = connect_to_store
    leave: Callable[[int, str], None] = leave
    tick_seconds: float = TICK_SECONDS
    _peers: dict[int, _Peer] = field(default_factory=dict)
    _num_looks: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _has_failed: bool = False

    def start(self) -> None:
        """Watch from now on, in threads; does nothing for a single rank."""
        if self.size == 1:
            return
        self._peers = {rank: _Peer() for rank in range(self.size) if rank != self.rank}
        for work in (self._look, self._judge):
            threading.Thread(target=work, name=f"rank-watch{work.__name__}", daemon=True).start()

    def stop(self, *, has_failed: bool) -> None:
        """Stop watching, and tell the others that this rank ends.

        Args:
            has_failed: Whether it ends without having done its part.
        """
        self._has_failed = has_failed
        self._stop.set()

    def _look(self) -> None:
        """Count, and read the others' numbers; ends silently with the store, `_judge` notices."""
        prefix = f"speechvq/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        try:
            store = self.connect()
        except (RuntimeError, KeyError, ValueError):
            return  # a launcher without a store: the engine's timeout has to do
        try:
            while not self._stop.is_set():
                store.add(f"{prefix}/{self.rank}/count", 1)
                for rank, peer in self._peers.items():
                    count = store.add(f"{prefix}/{rank}/count", 0)
                    has_ended = store.add(f"{prefix}/{rank}/ended", 0) > 0
                    has_failed = store.add(f"{prefix}/{rank}/failed", 0) > 0
                    peer.num_failed += has_failed
                    peer.num_silent = 0 if has_ended or count != peer.count else peer.num_silent + 1
                    peer.count = count
                self._num_looks += 1
                self._stop.wait(self.tick_seconds)
            store.add(f"{prefix}/{self.rank}/ended", 1)
            if self._has_failed:
                store.add(f"{prefix}/{self.rank}/failed", 1)
        except RuntimeError:
            return

    def _judge(self) -> None:
        """Leave when a rank is gone, or the store with the machine that held it."""
        num_looks, num_idle = -1, 0
        while not self._stop.wait(self.tick_seconds):
            num_idle = num_idle + 1 if 0 < num_looks == self._num_looks else 0
            num_looks = self._num_looks
            gone = [
                rank
                for rank, peer in self._peers.items()
                if peer.num_silent >= MAX_SILENT_TICKS or peer.num_failed >= MAX_FAILED_TICKS
            ]
            if gone or num_idle >= MAX_SILENT_TICKS:
                self.leave(self.rank, describe_loss(gone))
                return


def describe_loss(gone: list[int]) -> str:
    """Say what happened and how to go on.

    Args:
        gone: The ranks that are gone; empty if that is not known.
    """
    who = "another rank" if not gone else f"rank {', '.join(str(number) for number in gone)}"
    return (
        f"This run has lost {who}, which failed, was killed or cannot be reached; see its own "
        "message. All ranks end; the same command goes on from the last checkpoint."
    )
