"""The collector of WebRTC's decisions does what py-webrtcvad's example describes."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.data.webrtc import collect_speech, compute_webrtc_probabilities
from tests.unit.data.conftest import make_voice


def _collect_as_published(voiced: list[bool]) -> list[tuple[int, int]]:
    """The state machine as its description says: a ring of ten frames, 90 % to switch."""
    ring: deque[tuple[int, bool]] = deque(maxlen=10)
    found, begin = [], None
    for frame, is_voiced in enumerate(voiced):
        ring.append((frame, is_voiced))
        if begin is None and sum(v for _, v in ring) > 0.9 * 10:
            begin = ring[0][0]
            ring.clear()
        elif begin is not None and sum(not v for _, v in ring) > 0.9 * 10:
            found.append((begin, frame + 1))
            begin = None
            ring.clear()
    return [*found, (begin, len(voiced))] if begin is not None else found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=20).map(
        lambda runs: [value for count, value in runs for _ in range(count)]
    )
)
def test_collects_as_published(voiced: list[bool]) -> None:
    assert list(collect_speech(np.array(voiced, np.bool_))) == _collect_as_published(voiced)


def test_a_voice_between_pauses() -> None:
    pytest.importorskip("webrtcvad")
    pause = np.zeros(32_000, np.float32)
    samples = np.concatenate([pause, make_voice(3), pause])
    speech = compute_webrtc_probabilities(samples)
    assert len(speech) == -(-len(samples) // 512)
    assert speech[:50].max() == 0
    assert speech[70:140].min() == 1
    assert speech[-30:].max() == 0
