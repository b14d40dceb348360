import io

import pytest

from speechvq.deploy.progress import ProgressLine, StepsProgress, format_clock


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


def test_steps_tell_loss_and_time_left_and_the_last_one_closes():
    stream = io.StringIO()
    progress = StepsProgress("tokfsm", 4, stream)
    progress.advance(2.5)
    line = progress.describe(elapsed=2.0)
    assert "step 1 of 4, loss 2.5000, 0.5 steps a second" in line
    assert line.endswith("0:06 left")
    assert stream.getvalue() == ""
    for loss in (2.0, 1.5, 1.0):
        progress.advance(loss)
    assert "step 4 of 4, loss 1.0000" in stream.getvalue()
