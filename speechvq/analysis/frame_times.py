"""When a frame is: the centre of the samples that it is computed from.

Frame t of a front end sees the samples [t · hop, t · hop + window); its time is the middle of them.
For wav2vec 2.0's convolutions (hop 320, window 400) that is 20 t + 12.5 ms; for log-mel filter
banks of which n are stacked (hop 160 n, window 160 (n − 1) + 400), 20 t + 17.5 ms with n = 2 and
40 t + 27.5 ms with n = 4. Normalisation over the utterance and the Transformer see more; neither
moves the centre. A phone is given to the frames whose centres lie within it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speechvq.data.records import SAMPLE_RATE
from speechvq.nn.front_end import FrontEnd

_MAX_WINDOW = 1 << 20


def find_window_samples(front_end: FrontEnd) -> int:
    """Returns the samples that one frame is computed from: the least that give a frame."""
    low, high = 1, 1
    while front_end.num_frames(high) < 1:
        low, high = high + 1, 2 * high
        if high > _MAX_WINDOW:
            raise ValueError(f"The front end gives no frame of {_MAX_WINDOW} samples.")
    while low < high:
        middle = (low + high) // 2
        if front_end.num_frames(middle) >= 1:
            high = middle
        else:
            low = middle + 1
    return low


def compute_frame_times(front_end: FrontEnd, num_frames: int) -> NDArray[np.float32]:
    """Computes the centres of frames.

    Args:
        front_end: The front end that made them.
        num_frames: T.

    Returns:
        (T,) seconds from the begin of the utterance.
    """
    begins = np.arange(num_frames, dtype=np.int64) * front_end.frame_samples
    centres = begins + find_window_samples(front_end) / 2
    return np.asarray(centres / SAMPLE_RATE, dtype=np.float32)
