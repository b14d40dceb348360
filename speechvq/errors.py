"""Errors that a user sees.

Every exception that speechvq raises on purpose derives from `SpeechvqError`. Entry points print its
message, without a traceback, and leave with its `exit_code`: 2 for a bad configuration or input
(nothing was written), 3 for training that diverged or collapsed, 4 for a full disk, 130/143 for a
run interrupted by a signal, 1 for one that lost a process of its own or a store that it reads.
`transcribe` leaves with 5 where some of its files could not be read and all others are done.
Anything else that escapes is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class SpeechvqError(Exception):
    """Base of all errors that are meant for the user's eyes."""

    exit_code: int = 1


class ConfigError(SpeechvqError):
    """The configuration of a run cannot work; lists every problem at once.

    Args:
        problems: One sentence a problem: the key that the user typed, the rule, the value, the
            remedy.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))


class DataError(SpeechvqError):
    """Input data cannot be used; the message names file, row and id."""

    exit_code = 2


class StoreError(SpeechvqError):
    """A store does not answer; the message says which, why, and how to go on."""


class ModelError(SpeechvqError):
    """A model directory is missing, foreign, damaged, or does not fit the request."""

    exit_code = 2


class MissingDependencyError(SpeechvqError):
    """A package that this function needs is not installed.

    Args:
        package: The importable name that is missing.
        extra: The extra of speechvq that brings it.
        purpose: What it is needed for, as the end of "… is needed to".
    """

    exit_code = 2

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"`{package}` is needed to {purpose}, but is not installed: "
            f'`pip install "speechvq[{extra}]"`.'
        )


class TrainingDivergedError(SpeechvqError):
    """Training produced non-finite values too often, or its codebook collapsed."""

    exit_code = 3


class LostRankError(SpeechvqError):
    """Another process of the run is gone; the last checkpoint is kept."""


class NoSpaceError(SpeechvqError):
    """The disk is full; the message says how much is needed."""

    exit_code = 4


class InterruptedRunError(SpeechvqError):
    """A signal ended the run after its state was saved.

    Args:
        signal_number: The signal, 2 (SIGINT) or 15 (SIGTERM).
        message: What was saved and how to go on.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(message)
