"""A rank notices within seconds that another one is gone, and only then."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("fairseq2")

from speechvq.training.rank_watch import MAX_SILENT_TICKS, RankWatch

TICK = 0.02


class SharedNumbers:
    """A store in this process."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()
        self.is_gone = False

    def add(self, key: str, amount: int) -> int:
        if self.is_gone:
            raise RuntimeError("Connection reset by peer")
        with self._lock:
            self._numbers[key] = self._numbers.get(key, 0) + amount
            return self._numbers[key]


class Ranks:
    """Watches that note what they would say."""

    def __init__(self, size: int) -> None:
        self.store = SharedNumbers()
        self.messages: list[tuple[int, str]] = []
        self.watches = [
            RankWatch(rank, size, lambda: self.store, self.note, TICK) for rank in range(size)
        ]

    def note(self, rank: int, message: str) -> None:
        self.messages.append((rank, message))

    def start(self, *ranks: int) -> None:
        for rank in ranks:
            self.watches[rank].start()

    def stop(self) -> None:
        for watch in self.watches:
            watch.stop(has_failed=False)

    def wait_for_message(self) -> tuple[int, str]:
        deadline = time.monotonic() + 20
        while not self.messages and time.monotonic() < deadline:
            time.sleep(TICK)
        self.stop()
        assert self.messages, "nobody noticed"
        return self.messages[0]


def wait_ticks(number: int) -> None:
    time.sleep(number * TICK)


def test_rank_that_never_counts_is_lost() -> None:
    ranks = Ranks(3)
    ranks.start(0, 1)
    _, message = ranks.wait_for_message()
    assert "This run has lost rank 2," in message
    assert "the same command goes on from the last checkpoint" in message


def test_store_that_is_gone_is_noticed() -> None:
    ranks = Ranks(2)
    ranks.start(0, 1)
    wait_ticks(3)
    ranks.store.is_gone = True
    assert "has lost another rank" in ranks.wait_for_message()[1]


def test_rank_that_failed_is_not_waited_for() -> None:
    ranks = Ranks(2)
    ranks.start(0, 1)
    wait_ticks(3)
    ranks.watches[1].stop(has_failed=True)
    rank, message = ranks.wait_for_message()
    assert rank == 0
    assert "has lost rank 1," in message


def test_ranks_that_count_and_one_that_has_ended_are_left_in_peace() -> None:
    ranks = Ranks(3)
    ranks.start(0, 1, 2)
    wait_ticks(3)
    ranks.watches[2].stop(has_failed=False)
    wait_ticks(5 * MAX_SILENT_TICKS)
    ranks.stop()
    assert ranks.messages == []


def test_launcher_without_a_store_is_no_loss() -> None:
    def refuse() -> SharedNumbers:
        raise KeyError("MASTER_ADDR")

    messages: list[tuple[int, str]] = []
    watch = RankWatch(0, 2, refuse, lambda *message: messages.append(message), TICK)
    watch.start()
    wait_ticks(3 * MAX_SILENT_TICKS)
    watch.stop(has_failed=False)
    assert messages == []


def test_single_rank_needs_no_store() -> None:
    watch = RankWatch(0, 1, connect=lambda: pytest.fail("connected"))
    watch.start()
    watch.stop(has_failed=False)
