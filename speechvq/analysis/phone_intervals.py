"""Phones in time: intervals of an utterance, and the phone of each of its frames."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_table import SILENCE
from speechvq.data.audio import Waveform
from speechvq.data.records import Utterance

_SILENCES = frozenset({"", "sil", "sp", "pau", "silence", "<sil>", "<eps>", "<p:>", "h#", "_", "#"})
_UNKNOWN = frozenset({"spn", "<unk>", "nsn", "?"})


@dataclass(frozen=True, slots=True)
class PhoneInterval:
    """One phone of an utterance.

    Attributes:
        phone: Its name, `sil` for silence; None where it is known that it is not known.
        begin_seconds: From the begin of the utterance; may lie before it.
        end_seconds: From the begin of the utterance; may lie after its end.
    """

    phone: str | None
    begin_seconds: float
    end_seconds: float


class PhoneSource(Protocol):
    """Where the phones of utterances come from."""

    def find(self, utterance: Utterance, waveform: Waveform) -> list[PhoneInterval] | None:
        """Returns the phones of an utterance in order of time, None where there are none."""
        ...


def name_phone(label: str) -> str | None:
    """Returns a label as the code table writes it: composed (NFC), all silences as `sil`; None for
    labels of what is no phone, such as MFA's `spn`.
    """
    text = unicodedata.normalize("NFC", label.strip())
    if text.casefold() in _SILENCES:
        return SILENCE
    return None if text.casefold() in _UNKNOWN else text


def label_frames(
    intervals: Sequence[PhoneInterval],
    times: NDArray[np.float32],
    *,
    gaps_are_silence: bool = False,
) -> list[str | None]:
    """Gives every frame the phone within which its centre lies: begin ≤ centre < end.

    Args:
        intervals: In order of begin; where two overlap, the later one counts.
        times: (T,) centres of frames, seconds from the begin of the utterance, rising.
        gaps_are_silence: Whether frames in no interval are `sil`; else None.

    Returns:
        T phones.
    """
    phones: list[str | None] = [SILENCE if gaps_are_silence else None] * len(times)
    centres = np.asarray(times, dtype=np.float64)
    begins = np.searchsorted(centres, [one.begin_seconds - 1e-6 for one in intervals], "left")
    ends = np.searchsorted(centres, [one.end_seconds - 1e-6 for one in intervals], "left")
    for one, begin, end in zip(intervals, begins, ends, strict=True):
        phones[begin:end] = [one.phone] * max(0, end - begin)
    return phones
