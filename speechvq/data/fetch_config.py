"""The configuration of `fetch`; no yt-dlp, no Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from speechvq.data.config import MISSING_VALUE
from speechvq.errors import DataError
from speechvq.languages import parse_language


@dataclass(kw_only=True)
class FetchConfig:
    """From lists of URLs to a directory that `prepare` reads."""

    urls: list[str] = field(default_factory=list)
    """Lists of URLs: files, or directories of files `<language>.txt`. A line is a URL (or the id of
    a YouTube video), and after tabs, if known, a licence; `#` begins a remark."""
    output: str = MISSING_VALUE
    """Where audio and `manifest.tsv` will stand: a new directory, or one that the same command was
    filling."""
    language: str = ""
    """The language of all lists; empty where each list is named for its language, such as
    `hin_Deva.txt`."""
    licence: str = ""
    """The licence of what does not say one."""
    sleep_seconds: float = 5.0
    """Pause before each file; up to twice as long, at random, so as not to strain the server."""
    rate_limit_kb: float = 2000.0
    """At most so many kilobytes a second; 0 for no limit."""
    retries: int = 5
    """How often a file is tried again after an error of the network."""
    max_file_mb: float = 0.0
    """Larger files are left out; 0 for no limit."""

    def validate(self) -> list[str]:
        """Returns every problem of this configuration as a sentence."""
        problems = [
            f"`urls` must name files or directories, but {path!r} is none."
            for path in self.urls
            if not Path(path).exists()
        ]
        if not self.urls:
            problems.append("`urls` must be set: `urls=FILE`.")
        if self.output == MISSING_VALUE:
            problems.append("`output` must be set: `output=DIR`.")
        elif Path(self.output).exists() and not Path(self.output).is_dir():
            problems.append(f"`output` must be a directory, but {self.output!r} is a file.")
        if self.language:
            try:
                parse_language(self.language)
            except DataError as error:
                problems.append(f"`language`: {error}")
        limits: list[tuple[str, float, float]] = [
            ("sleep_seconds", self.sleep_seconds, 3600),
            ("rate_limit_kb", self.rate_limit_kb, 1e9),
            ("retries", self.retries, 1000),
            ("max_file_mb", self.max_file_mb, 1e9),
        ]
        problems += [
            f"`{key}` must be 0 to {high:g}, but is {value:g}."
            for key, value, high in limits
            if not 0 <= value <= high
        ]
        return problems
