"""Recognisers that say nothing but blank are noticed in time."""

from __future__ import annotations

from typing import Any

from speechvq.training.blank_watch import BlankWatch, describe_blanks


def watch(shares: list[float], num_steps: int = 1000) -> dict[int, str]:
    """Sentences by step, for intervals of 25 steps."""
    watch = BlankWatch(num_steps)
    found = {}
    for number, share in enumerate(shares, start=1):
        sentence = watch.check(25 * number, {"blank_share": share, "loss": 3.0})
        if sentence:
            found[25 * number] = sentence
    return found


def test_silence_is_noticed_within_a_hundred_steps_and_told_again_when_it_stays() -> None:
    found = watch([1.0] * 12)
    assert list(found) == [50, 200]
    assert found[50].startswith("note: at step 50, 100.0% of the frames say blank (loss 3.00)")
    assert "if it is the same at step 200, raise `optimizer.lr`" in found[50]
    assert found[200].startswith("warning: at step 200")
    assert "collapsed" in found[200]


def test_short_runs_are_told_once() -> None:
    found = watch([1.0] * 8, num_steps=200)
    assert list(found) == [50]
    assert found[50].startswith("warning")


def test_recogniser_that_speaks_is_left_alone() -> None:
    assert watch([1.0, 0.98, 0.9, 0.85]) == {}


def test_collapse_late_in_a_run_is_noticed() -> None:
    assert list(watch([0.9] * 20 + [1.0])) == [525]


def create_lines(shares: list[float]) -> list[dict[str, Any]]:
    return [
        {"step": 25 * number, "split": "train", "blank_share": share}
        for number, share in enumerate(shares, start=1)
    ]


def test_finished_run_says_how_long_it_was_silent() -> None:
    assert describe_blanks(create_lines([1.0, 0.9])) is None
    assert describe_blanks([]) is None
    silent = describe_blanks(create_lines([1.0, 1.0, 1.0, 0.9]))
    assert silent == "Nothing but blank was recognised until about step 75."
    collapsed = describe_blanks(create_lines([1.0, 0.9, 0.995]))
    assert collapsed is not None
    assert "ended with 99.5% of the frames blank" in collapsed
