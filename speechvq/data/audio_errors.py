"""What can be wrong with an audio file, as exceptions that carry how much audio is lost."""

from __future__ import annotations

from speechvq.errors import DataError


class AudioError(DataError):
    """A file cannot be decoded; the message is the decoder's."""


class TruncatedAudioError(AudioError):
    """A file ends before its header says.

    Args:
        message: What is missing.
        num_samples: Decoded length at 16 kHz.
        declared_seconds: Length according to the header, if known.
    """

    def __init__(self, message: str, num_samples: int, declared_seconds: float | None) -> None:
        super().__init__(message)
        self.num_samples = num_samples
        self.declared_seconds = declared_seconds


class TooLongAudioError(AudioError):
    """A file is longer than may be decoded at once.

    Args:
        message: The limit and the remedy.
        num_samples: Length at 16 kHz: as declared, else as far as it was decoded.
    """

    def __init__(self, message: str, num_samples: int) -> None:
        super().__init__(message)
        self.num_samples = num_samples


class NonFiniteAudioError(AudioError):
    """A file holds samples that are NaN or infinite.

    Args:
        num_samples: Length at 16 kHz.
        num_bad: Samples at 16 kHz that are no number.
    """

    def __init__(self, num_samples: int, num_bad: int) -> None:
        super().__init__("Samples that are NaN or infinite.")
        self.num_samples = num_samples
        self.num_bad = num_bad


class DecoderCrashedError(AudioError):
    """The process that decoded a file died."""


class DecoderHungError(AudioError):
    """Decoding a file took longer than any sound file does.

    Args:
        message: What happened.
        limit_seconds: The time that the file was given.
    """

    def __init__(self, message: str, limit_seconds: float) -> None:
        super().__init__(message)
        self.limit_seconds = limit_seconds
