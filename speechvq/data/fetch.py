"""Audio from lists of URLs through yt-dlp, politely and resumably: `fetch_audio`.

    <output>/archive.jsonl          a line per file that is complete: URL, path, provenance
    <output>/audio/<language>/…     as they came, not converted
    <output>/manifest.tsv           for `prepare`: path, language, licence, url, uploader, …
    <output>/failed.tsv             what could not be fetched, and why

What the archive names is not fetched again; a file that was cut off goes on where it stopped. So
the same command can be killed and repeated at will.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechvq.data.corpus import write_text_atomically
from speechvq.data.fetch_config import FetchConfig
from speechvq.data.writers import join_cells
from speechvq.errors import ConfigError, DataError, InterruptedRunError, MissingDependencyError
from speechvq.languages import find_language

ARCHIVE_FILE = "archive.jsonl"
FAILED_FILE = "failed.tsv"
_MANIFEST_COLUMNS = ("path", "language", "source", "recording", "licence", "url", "uploader",
                     "title", "seconds")  # fmt: skip
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}")


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a list."""

    url: str
    language: str
    licence: str | None


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """One line of the archive.

    Attributes:
        url: As the list names it.
        path: The file, relative to the output.
        language: `hin_Deva`.
        licence: As the site says, else as the list or the configuration does; or None.
        source: The site.
        recording: The site's name for the recording.
        uploader: Who published it, or None.
        title: Its title, or None.
        seconds: Its length, or None.
    """

    url: str
    path: str
    language: str
    licence: str | None
    source: str
    recording: str
    uploader: str | None
    title: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class FetchResult:
    """How a run ended.

    Attributes:
        num_fetched: Files that this run fetched.
        num_before: Files that were there already.
        num_failed: Files that could not be fetched.
    """

    num_fetched: int
    num_before: int
    num_failed: int


def fetch_audio(config: FetchConfig) -> FetchResult:
    """Fetches what the lists name and writes the manifest.

    Args:
        config: Which lists, where to, and how politely.

    Returns:
        How much was fetched.

    Raises:
        ConfigError: If the configuration cannot work.
        DataError: If a list cannot be read, or nothing at all could be fetched.
        MissingDependencyError: If yt-dlp is not installed.
        InterruptedRunError: If a signal came; the same command goes on.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    yt_dlp = _import_yt_dlp()
    targets = read_targets(config)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    done = read_archive(output)
    todo = [target for target in targets if target.url not in done]
    num_before = len(targets) - len(todo)
    failures: list[tuple[Target, str]] = []
    try:
        for target in todo:
            outcome = _fetch(yt_dlp, target, config)
            if isinstance(outcome, str):
                failures.append((target, outcome))
            else:
                done[target.url] = outcome
                _append_to_archive(output, outcome)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            signal.SIGINT,
            f"Interrupted. What is complete is in {output}: the same command goes on.",
        ) from None
    finally:
        _write_manifest(output, [done[t.url] for t in targets if t.url in done], failures)
    if failures and not len(done):
        raise DataError(
            f"None of {len(failures)} files could be fetched: {failures[0][1]} See"
            f" {output / FAILED_FILE}."
        )
    return FetchResult(len(todo) - len(failures), num_before, len(failures))


def read_targets(config: FetchConfig) -> list[Target]:
    """Reads all lists; a URL that stands in several counts once, for the first.

    Raises:
        DataError: If a list cannot be read, or its language is unknown.
    """
    targets: dict[str, Target] = {}
    for path in _list_files(config):
        language = config.language or find_language(path.stem)
        if language is None:
            raise DataError(
                f"{path} must be named for its language, such as `hin_Deva.txt`, or the language"
                " be set with `language=`."
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
        for line in lines:
            cells = [cell.strip() for cell in line.split("\t")]
            if not cells[0] or cells[0].startswith("#"):
                continue
            url = cells[0]
            if _VIDEO_ID.fullmatch(url):
                url = f"https://www.youtube.com/watch?v={url}"
            licence = cells[1] if len(cells) > 1 and cells[1] else config.licence or None
            targets.setdefault(url, Target(url, language, licence))
    if not targets:
        raise DataError("The lists hold no URL.")
    return list(targets.values())


def _list_files(config: FetchConfig) -> Iterator[Path]:
    for path in map(Path, config.urls):
        if path.is_dir():
            yield from sorted(path.glob("*.txt"))
        else:
            yield path


def read_archive(output: Path) -> dict[str, FetchedFile]:
    """Reads which files are complete, by URL; files that are gone since are left out."""
    done: dict[str, FetchedFile] = {}
    try:
        lines = (output / ARCHIVE_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return done
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):  # the last line of a killed run
            entry = FetchedFile(**json.loads(line))
            if (output / entry.path).is_file():
                done[entry.url] = entry
    return done


def _append_to_archive(output: Path, entry: FetchedFile) -> None:
    line = json.dumps(asdict(entry), ensure_ascii=False)
    with (output / ARCHIVE_FILE).open("a+b") as file:
        size = file.tell()
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _fetch(yt_dlp: Any, target: Target, config: FetchConfig) -> FetchedFile | str:
    """Fetches one file; returns why where that fails."""
    # Named by the URL: sites give the same name to different files.
    name = hashlib.blake2b(target.url.encode(), digest_size=10).hexdigest()
    folder = Path(config.output) / "audio" / target.language
    log = _Log()
    options = {
        "format": "bestaudio/best",
        "outtmpl": {"default": str(folder / name).replace("%", "%%") + ".%(ext)s"},
        "logger": log,
        "quiet": True,
        "noprogress": True,
        "noplaylist": True,
        "playlist_items": "1",
        "ignoreconfig": True,
        "retries": config.retries,
        "fragment_retries": config.retries,
        "socket_timeout": 30,
        "sleep_interval": config.sleep_seconds,
        "max_sleep_interval": 2 * config.sleep_seconds,
        "sleep_interval_requests": min(1.0, config.sleep_seconds),
        "fixup": "never",
    }
    if config.rate_limit_kb:
        options["ratelimit"] = 1000 * config.rate_limit_kb
    if config.max_file_mb:
        options["max_filesize"] = round(1e6 * config.max_file_mb)
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            info = downloader.extract_info(target.url, download=True)
    except yt_dlp.utils.YoutubeDLError as error:
        return _clean(str(error))
    if not info or info.get("_type", "video") != "video":
        return "The URL is a playlist: list its entries one by one."
    downloads = info.get("requested_downloads") or []
    files = [Path(one["filepath"]) for one in downloads if one.get("filepath")]
    if len(files) != 1 or not files[0].is_file():
        return _clean(log.last or "Nothing was downloaded.")
    return _describe(target, files[0].relative_to(config.output), info)


def _describe(target: Target, path: Path, info: dict[str, Any]) -> FetchedFile:
    seconds = info.get("duration")
    return FetchedFile(
        url=target.url,
        path=path.as_posix(),
        language=target.language,
        licence=info.get("license") or target.licence,
        source=str(info.get("webpage_url_domain") or "fetched").partition(":")[0],
        recording=str(info.get("id") or path.stem)
        if info.get("extractor_key") != "Generic"
        else path.stem,
        uploader=info.get("uploader") or info.get("channel"),
        title=info.get("title"),
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
    )


class _Log:
    """Keeps what yt-dlp says last, and keeps it from the terminal."""

    def __init__(self) -> None:
        self.last = ""

    def debug(self, message: str) -> None:
        if not message.startswith("[debug]"):
            self.last = message

    def warning(self, message: str) -> None:
        self.last = message

    error = warning


def _clean(message: str) -> str:
    message = re.sub(r"\x1b\[[0-9;]*m", "", message).removeprefix("ERROR: ")
    return " ".join(message.split())


def _write_manifest(
    output: Path, entries: list[FetchedFile], failures: list[tuple[Target, str]]
) -> None:
    lines = ["\t".join(_MANIFEST_COLUMNS)]
    lines += [join_cells(getattr(entry, name) for name in _MANIFEST_COLUMNS) for entry in entries]
    write_text_atomically(output / "manifest.tsv", "\n".join(lines) + "\n")
    rows = ["url\tlanguage\treason"]
    rows += [join_cells((target.url, target.language, reason)) for target, reason in failures]
    write_text_atomically(output / FAILED_FILE, "\n".join(rows) + "\n")


def _import_yt_dlp() -> Any:
    try:
        import yt_dlp
    except ImportError:
        raise MissingDependencyError("yt_dlp", "fetch", "fetch audio from URLs") from None
    return yt_dlp
