from __future__ import annotations

import pytest

from speechvq.data import progress
from speechvq.data.progress import PrepareProgress, format_time


def test_line_and_time_left() -> None:
    bar = PrepareProgress(7200)
    assert bar.describe(1.0).endswith("? left")
    bar.advance(1800)
    assert bar.describe(18.0) == "prepare  25%  0.50 of about 2.00 h  100 x real time  0:54 left"


def test_plain_lines_are_not_too_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    with PrepareProgress(100) as bar:
        for _ in range(10):
            bar.advance(10)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_format_time() -> None:
    assert [format_time(s) for s in (0, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]
