import io

import pytest

from speechvq.deploy.progress import ProgressLine, format_clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599.6, "1:00:00"), (7325, "2:02:05")]
)
def test_clock(seconds, text):
    assert format_clock(seconds) == text


def test_line_tells_share_rate_and_time_left():
    progress = ProgressLine("evaluate", 400.0, io.StringIO())
    progress.advance(3, 100.0)
    line = progress.describe(elapsed=10.0)
    assert "25%" in line
    assert "3 utterances" in line
    assert "1:40 of 6:40" in line
    assert "10 x real time" in line
    assert line.endswith("0:30 left")


def test_nothing_to_do_is_no_error():
    stream = io.StringIO()
    ProgressLine("evaluate", 0.0, stream).close()
    assert "100%" in stream.getvalue()
