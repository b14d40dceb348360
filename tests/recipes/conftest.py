"""One fork server and one corpus for all tests of recipes in a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.corpora import write_tone_corpus
from tests.support.forks import ForkServer


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """A process whose forks run recipes."""
    with ForkServer() as server:
        yield server


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of tones in two languages."""
    return write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus")
