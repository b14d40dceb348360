"""Fetching from a server on this machine: provenance, resuming, failures, politeness."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from speechvq.data import fetch
from speechvq.data.fetch import fetch_audio, read_archive, read_targets
from speechvq.data.fetch_config import FetchConfig
from speechvq.data.manifest import read_manifests
from speechvq.errors import (
    ConfigError,
    DataError,
    InterruptedRunError,
    MissingDependencyError,
)
from tests.unit.data.formats.golden import make_audio

pytest.importorskip("yt_dlp")
CLIP = make_audio(2.0, "FLAC")


class _Server(ThreadingHTTPServer):
    """Serves `/…flac`; remembers requests; cuts the first answer for `/cut.flac` in half."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, str]] = []
        self.is_cutting = True
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        span = self.headers.get("Range", "")
        self.server.requests.append((self.command, self.path, span))
        if not self.path.endswith(".flac"):
            self.send_error(404)
            return
        begin = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", "audio/flac")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(CLIP) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(CLIP) - 1}/{len(CLIP)}")
        self.end_headers()
        if with_body:
            is_cut = self.server.is_cutting and "cut" in self.path
            self.wfile.write(CLIP[begin : len(CLIP) // 2] if is_cut else CLIP[begin:])

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _config(tmp_path: Path, **keys: object) -> FetchConfig:
    defaults: dict[str, object] = {
        "urls": [str(tmp_path / "urls")],
        "output": str(tmp_path / "out"),
        "sleep_seconds": 0.0,
        "retries": 0,
    }
    return FetchConfig(**{**defaults, **keys})  # type: ignore[arg-type]


def _write_lists(tmp_path: Path, **lists: str) -> None:
    (tmp_path / "urls").mkdir(exist_ok=True)
    for name, text in lists.items():
        (tmp_path / "urls" / f"{name}.txt").write_text(text, encoding="utf-8")


def test_lists_become_audio_with_provenance(server: _Server, tmp_path: Path) -> None:
    _write_lists(
        tmp_path,
        hin_Deva=f"# a remark\n{server.url}/a/x.flac\tCC BY 4.0\n\n{server.url}/b/x.flac\n",
        tamil=f"{server.url}/c.flac\n{server.url}/gone.html\n{server.url}/a/x.flac\n",
    )
    result = fetch_audio(_config(tmp_path, licence="all rights reserved"))
    assert (result.num_fetched, result.num_before, result.num_failed) == (3, 0, 1)
    rows, rejections = read_manifests([str(tmp_path / "out")])
    assert rejections == []
    assert [(row.language, row.licence, row.url, row.source) for row in rows] == [
        ("hin_Deva", "CC BY 4.0", f"{server.url}/a/x.flac", "127.0.0.1"),
        ("hin_Deva", "all rights reserved", f"{server.url}/b/x.flac", "127.0.0.1"),
        ("tam_Taml", "all rights reserved", f"{server.url}/c.flac", "127.0.0.1"),
    ]
    assert len({row.recording for row in rows}) == 3
    assert all((tmp_path / "out" / row.path).read_bytes() == CLIP for row in rows)
    failed = (tmp_path / "out" / "failed.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:2] for line in failed] == [[f"{server.url}/gone.html", "tam_Taml"]]
    assert "404" in failed[0]


def test_what_is_there_is_not_fetched_again(server: _Server, tmp_path: Path) -> None:
    _write_lists(tmp_path, hin_Deva=f"{server.url}/a.flac\n{server.url}/b.flac\n")
    fetch_audio(_config(tmp_path))
    manifest = (tmp_path / "out" / "manifest.tsv").read_bytes()
    archive = tmp_path / "out" / fetch.ARCHIVE_FILE
    archive.write_bytes(archive.read_bytes() + b'{"url": "half a li')  # killed while writing
    server.requests.clear()
    result = fetch_audio(_config(tmp_path))
    assert (result.num_fetched, result.num_before) == (0, 2)
    assert server.requests == []
    assert (tmp_path / "out" / "manifest.tsv").read_bytes() == manifest
    (lost, _) = read_archive(tmp_path / "out").values()
    (tmp_path / "out" / lost.path).unlink()
    assert fetch_audio(_config(tmp_path)).num_fetched == 1
    assert {path for _, path, _ in server.requests} == {"/a.flac"}
    assert (tmp_path / "out" / "manifest.tsv").read_bytes() == manifest
    assert len(read_archive(tmp_path / "out")) == 2


def test_a_file_that_was_cut_off_goes_on(server: _Server, tmp_path: Path) -> None:
    _write_lists(tmp_path, hin_Deva=f"{server.url}/cut.flac\n{server.url}/a.flac\n")
    assert fetch_audio(_config(tmp_path)).num_failed == 1
    (part,) = (tmp_path / "out" / "audio" / "hin_Deva").glob("*.part")
    assert 0 < part.stat().st_size < len(CLIP)
    server.is_cutting = False
    server.requests.clear()
    assert fetch_audio(_config(tmp_path)).num_fetched == 1
    spans = [span for _, path, span in server.requests if path == "/cut.flac" and span]
    assert [0 < int(span[6:-1]) <= len(CLIP) // 2 for span in spans] == [True]
    entry = read_archive(tmp_path / "out")[f"{server.url}/cut.flac"]
    assert (tmp_path / "out" / entry.path).read_bytes() == CLIP


def test_rate_and_pauses_are_kept(server: _Server, tmp_path: Path) -> None:
    _write_lists(tmp_path, hin_Deva=f"{server.url}/a.flac\n")
    begin = time.monotonic()
    fetch_audio(_config(tmp_path, sleep_seconds=0.5))
    assert time.monotonic() - begin >= 0.5


def test_files_over_the_limit_are_left_out(server: _Server, tmp_path: Path) -> None:
    _write_lists(tmp_path, hin_Deva=f"{server.url}/a.flac\n")
    with pytest.raises(DataError, match=r"None of 1 files.*larger than max"):
        fetch_audio(_config(tmp_path, max_file_mb=len(CLIP) / 2e6))


def test_an_interrupted_run_keeps_what_is_complete(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_lists(tmp_path, hin_Deva="".join(f"{server.url}/{i}.flac\n" for i in range(3)))
    real, calls = fetch._fetch, []

    def interrupt(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch, "_fetch", interrupt)
    with pytest.raises(InterruptedRunError) as caught:
        fetch_audio(_config(tmp_path))
    assert caught.value.exit_code == 130
    assert len(read_manifests([str(tmp_path / "out")])[0]) == 1
    monkeypatch.setattr(fetch, "_fetch", real)
    result = fetch_audio(_config(tmp_path))
    assert (result.num_fetched, result.num_before) == (2, 1)


def test_lists_that_cannot_be_used(tmp_path: Path) -> None:
    _write_lists(tmp_path, klingon="http://127.0.0.1/a.flac\n")
    with pytest.raises(DataError, match="named for its language"):
        read_targets(_config(tmp_path))
    targets = read_targets(_config(tmp_path, language="mai_Deva"))
    assert [target.language for target in targets] == ["mai_Deva"]
    _write_lists(tmp_path, klingon="# nothing\n\n")
    with pytest.raises(DataError, match="no URL"):
        read_targets(_config(tmp_path, language="mai_Deva"))
    _write_lists(tmp_path, klingon="dQw4w9WgXcQ\n")
    (target,) = read_targets(_config(tmp_path, language="mai_Deva"))
    assert target.url == "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
    with pytest.raises(ConfigError) as caught:
        fetch_audio(FetchConfig(urls=["/nothing"], language="hindi", sleep_seconds=-1))
    for key in ("`urls`", "`output`", "`language`", "`sleep_seconds`"):
        assert key in str(caught.value)


def test_files_of_this_machine_are_not_urls(tmp_path: Path) -> None:
    (tmp_path / "secret.flac").write_bytes(CLIP)
    _write_lists(tmp_path, hin_Deva=f"file://{tmp_path}/secret.flac\n")
    with pytest.raises(DataError, match="None of 1 files"):
        fetch_audio(_config(tmp_path))


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_lists(tmp_path, hin_Deva="http://127.0.0.1/a.flac\n")
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "speechvq\[fetch\]"'):
        fetch_audio(_config(tmp_path))
    assert not (tmp_path / "out").exists()
