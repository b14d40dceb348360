"""Publishing: the URL holds what the corpus holds, never half of it, and nothing of before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from speechvq.data import publish, stores
from speechvq.data.config import ForgetConfig, PrepareConfig
from speechvq.data.convert_config import ConvertConfig
from speechvq.data.corpus import CorpusWriter, list_partitions, read_corpus_info, read_utterances
from speechvq.data.index import load_index
from speechvq.data.publish import (
    PUBLISHED_FILE,
    Published,
    check_target,
    list_publications,
    publish_corpus,
)
from speechvq.data.records import Utterance
from speechvq.errors import ConfigError, DataError, StoreError

PART = "split=train/language={}/part-00000.parquet"
HINDI, TAMIL = PART.format("hin_Deva"), PART.format("tam_Taml")


def write_corpus(directory: Path, *languages: str, audio: bytes = b"x") -> Path:
    with CorpusWriter(directory) as writer:
        for language in languages:
            writer.add(Utterance(id=language, language=language, audio=audio, num_samples=9))
    (directory / "summary.json").write_text("{}")
    return directory


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    corpus = write_corpus(tmp_path / "corpus", "hin_Deva", "tam_Taml")
    (corpus / "measurements").mkdir()
    for name in ("measurements/audio-0000000.parquet", "report.html", "prepare.json"):
        (corpus / name).write_text("rejected audio, or names of this machine")
    return corpus


@pytest.fixture(params=["memory", "file", "directory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory://bucket/published"
        fsspec.filesystem("memory").store.clear()
    else:
        place = tmp_path / "far" / "published"
        yield f"file://{place}" if request.param == "file" else str(place)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "RETRY_SECONDS", (0.0, 0.0))


def read_target(url: str) -> dict[str, bytes]:
    system, prefix = fsspec.core.url_to_fs(url)
    return {name.removeprefix(prefix + "/"): system.cat_file(name) for name in system.find(prefix)}


def publish_counted(corpus: Path, url: str) -> tuple[int, int, int]:
    done = publish_corpus(corpus, url)
    return done.num_copied, done.num_removed, done.num_kept


def test_only_what_changed_is_copied(corpus: Path, url: str, tmp_path: Path) -> None:
    check_target(url)
    assert publish_corpus(corpus, url) == Published(num_copied=4, num_removed=0, num_kept=0)
    published = read_target(url)
    assert set(published) == {HINDI, TAMIL, "summary.json", "corpus.json", PUBLISHED_FILE}
    assert all(
        data == (corpus / path).read_bytes()
        for path, data in published.items()
        if path != PUBLISHED_FILE
    )
    assert set(json.loads(published[PUBLISHED_FILE])["files"]) == {*published} - {PUBLISHED_FILE}
    assert publish_counted(corpus, url) == (0, 0, 4)

    # The same length, another content: known by its digest.
    changed = write_corpus(tmp_path / "b" / "corpus", "hin_Deva", audio=b"y")
    assert (changed / HINDI).stat().st_size == (corpus / HINDI).stat().st_size
    assert publish_counted(changed, url) == (2, 1, 1)
    published = read_target(url)
    assert TAMIL not in published
    assert published[HINDI] == (changed / HINDI).read_bytes()
    assert list_publications(corpus) == list_publications(changed)


def test_what_is_missing_or_torn_at_the_url_is_copied_again(corpus: Path, url: str) -> None:
    publish_corpus(corpus, url)
    system, prefix = fsspec.core.url_to_fs(url)
    system.pipe_file(f"{prefix}/{HINDI}", b"torn")
    system.rm_file(f"{prefix}/summary.json")
    assert publish_counted(corpus, url) == (2, 0, 2)
    system.pipe_file(f"{prefix}/{PUBLISHED_FILE}", b"{")
    assert publish_counted(corpus, url) == (4, 0, 0), "what is not known is copied"
    system.rm_file(f"{prefix}/corpus.json")
    assert publish_counted(corpus, url) == (1, 0, 3)


def test_nobody_reads_half_a_corpus_and_an_interruption_loses_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_NUM_COPIES_AT_ONCE", 1)
    url = str(tmp_path / "published")
    before = write_corpus(tmp_path / "old" / "corpus", "hin_Deva", "zul_Latn", audio=b"y")
    publish_corpus(before, url)
    put = LocalFileSystem.put_file

    def create_dying(num_files: int) -> Callable[..., None]:
        left = iter(range(num_files))

        def put_file(self: LocalFileSystem, source: str, place: str) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            put(self, source, place)

        return put_file

    for num_files in (0, 1):
        with (
            mock.patch.object(LocalFileSystem, "put_file", create_dying(num_files)),
            pytest.raises(KeyboardInterrupt),
        ):
            publish_corpus(corpus, url)
        with pytest.raises(DataError, match="no complete corpus"):
            read_corpus_info(url)
        assert PART.format("zul_Latn") not in read_target(url)
    assert publish_counted(corpus, url) == (2, 0, 2), "one part, and the mark"
    assert [row.id for row in read_utterances(url)] == ["hin_Deva", "tam_Taml"]


def test_other_peoples_files_are_let_alone(corpus: Path, url: str) -> None:
    system, prefix = fsspec.core.url_to_fs(url)
    system.makedirs(prefix, exist_ok=True)
    system.pipe_file(f"{prefix}/thesis.tex", b"")
    for action in (check_target, lambda url: publish_corpus(corpus, url)):
        with pytest.raises(ConfigError, match=r"`publish` must be an empty place.* thesis\.tex"):
            action(url)
    assert set(read_target(url)) == {"thesis.tex"}
    system.rm_file(f"{prefix}/thesis.tex")
    publish_corpus(corpus, url)
    system.pipe_file(f"{prefix}/README", b"ours")
    assert publish_counted(corpus, url) == (0, 0, 4)
    assert read_target(url)["README"] == b"ours"


def test_a_store_that_does_not_answer(corpus: Path) -> None:
    url = "memory://bucket/published"
    gone = mock.Mock(side_effect=RuntimeError("no route"))
    with (
        mock.patch.object(MemoryFileSystem, "put_file", gone),
        pytest.raises(StoreError, match=f"^{url} cannot be published at: no route.*same command"),
    ):
        publish_corpus(corpus, url)
    assert gone.call_count >= 3, "asked again"
    passing = mock.Mock(side_effect=[RuntimeError("reset"), None, None, None])
    with (
        mock.patch.object(MemoryFileSystem, "put_file", passing),
        pytest.raises(StoreError, match="has None bytes there, not"),
    ):
        publish_corpus(corpus, url)
    assert "corpus.json" not in read_target(url)
    assert publish_counted(corpus, url) == (4, 0, 0)
    fsspec.filesystem("memory").store.clear()


def test_an_incomplete_corpus_is_not_published(corpus: Path, url: str) -> None:
    (corpus / "corpus.json").unlink()
    with pytest.raises(DataError, match="no complete corpus"):
        publish_corpus(corpus, url)
    assert read_target(url) == {}


@pytest.mark.parametrize("publish_to", ["corpus", "corpus/split=train", "."])
def test_a_corpus_is_not_published_into_itself(
    tmp_path: Path, publish_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = PrepareConfig(input=["."], output="corpus", publish=publish_to)
    assert [text for text in config.validate() if "`publish` must lie outside" in text]
    assert not PrepareConfig(input=["."], output="corpus", publish="elsewhere").validate()


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("s3://bucket/a/corpus", "`aws s3 sync --delete s3://bucket/a/corpus corpus`"),
        ("gs://bucket/corpus", "`gcloud storage rsync -r -d gs://bucket/corpus corpus`"),
        ("sftp://host/corpus", "with the store's own tools"),
    ],
)
def test_a_corpus_at_a_url_is_to_be_copied(url: str, command: str) -> None:
    for read in (
        lambda: list_partitions(url),
        lambda: list_partitions(Path(url)),
        lambda: load_index([url], split="train"),
        lambda: next(read_utterances(url)),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert url in str(caught.value)
        assert command in str(caught.value)
    problems = "\n".join(ConvertConfig(corpus=url, output=url, format="nemo").validate())
    assert command in problems
    assert f"`output` must be a directory of this machine, but is {url}" in problems
    assert "publish it again" in "\n".join(ForgetConfig(corpus=url, speaker="x").validate())
    problems = "\n".join(PrepareConfig(input=["."], output=url).validate())
    assert f"`output=DIR publish={url}`" in problems
