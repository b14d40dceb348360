"""Preparation from and to a store that speaks S3: moto's server, on this machine.

`pip install "moto[server]" boto3` beside the extra `cloud`; without them these tests are skipped.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from speechvq.data import prepare, stores
from speechvq.data.config import ForgetConfig, PrepareConfig
from speechvq.data.corpus import read_utterances
from speechvq.data.forget import forget
from speechvq.data.prepare import prepare_corpus
from speechvq.data.publish import publish_corpus
from speechvq.data.storage import is_directory, open_file
from speechvq.errors import StoreError
from tests.unit.data.conftest import make_voice

s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install s3fs")
moto = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]' boto3")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
RATE = 16_000


class Store:
    """A server that can be stopped and started; its objects stay."""

    def __init__(self) -> None:
        self._server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = moto.ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    system = fsspec.filesystem("s3")
    system.makedirs("bucket", exist_ok=True)  # the server keeps what a test before left
    for name, data in _create_objects().items():
        system.pipe_file(f"bucket/in/{name}", data)
    system.invalidate_cache()
    yield store
    store.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def _encode(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, make_voice(2 + 0.1 * seed, seed=seed), RATE, format="FLAC")
    return file.getvalue()


def _list_clips(*numbers: int) -> bytes:
    rows = [f"clip{number}.flac\thin_Deva\ts{number}" for number in numbers]
    return "\n".join(["path\tlanguage\tspeaker", *rows]).encode()


def _create_objects() -> dict[str, bytes]:
    """A tree that lacks a file, a tar, and a Parquet file with audio."""
    objects = {f"tree/clip{number}.flac": _encode(number) for number in range(3)}
    objects["tree/manifest.tsv"] = _list_clips(0, 1, 2, 9)
    objects["tree/"] = b""
    members = {f"clip{number}.flac": _encode(number) for number in (3, 4)}
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as archive:
        for name, data in {**members, "manifest.tsv": _list_clips(3, 4)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    objects["tape.tar"] = tape.getvalue()
    rows = io.BytesIO()
    audio = [{"bytes": _encode(number), "path": None} for number in (5, 6)]
    pq.write_table(pa.table({"audio": audio, "language": ["hin_Deva"] * 2}), rows)
    objects["hub/train-00000.parquet"] = rows.getvalue()
    return objects


def test_a_corpus_from_a_store_to_a_store(store: Store, tmp_path: Path) -> None:
    url = "s3://bucket/out/corpus"
    config = PrepareConfig(
        input=["s3://bucket/in/tree", "s3://bucket/in/tape.tar", "s3://bucket/in/hub"],
        output=str(tmp_path / "corpus"),
        publish=url,
        workers=1,
    )
    prepare_corpus(config)
    corpus = Path(config.output)
    assert [row.id for row in read_utterances(corpus)] == [
        "hub/train-00000.parquet!/0",
        "hub/train-00000.parquet!/1",
        *(f"tape/tape.tar!/clip{number}.flac" for number in (3, 4)),
        *(f"tree/clip{number}.flac" for number in range(3)),
    ]
    rejected = (corpus / "rejected.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:4] for line in rejected] == [
        ["clip9.flac", "tree", "hin_Deva", "missing_file"]
    ]
    system = fsspec.filesystem("s3")
    system.get(url, str(tmp_path / "back"), recursive=True)
    assert list(read_utterances(tmp_path / "back")) == list(read_utterances(corpus))
    forget(ForgetConfig(corpus=config.output, speaker="s1"))
    assert publish_corpus(corpus, url).num_copied
    system.invalidate_cache()
    published = system.find(url)
    assert len(published) == 7
    assert not [name for name in published if b"clip1.flac" in system.cat_file(name)]


def test_a_store_that_goes_away_midway(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PrepareConfig(
        input=["s3://bucket/in/tape.tar"], output=str(tmp_path / "corpus"), workers=1
    )
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "check_space", lambda *_: store.stop())  # planned, not yet decoded
        with pytest.raises(StoreError, match=r"cannot be reached.*`aws s3 ls s3://bucket/in`"):
            prepare_corpus(config)
    store.start()
    prepare_corpus(config)
    assert len(list(read_utterances(config.output))) == 2
    assert (tmp_path / "corpus" / "rejected.tsv").read_text().count("\n") == 1, "nothing was lost"
    store.stop()
    monkeypatch.setattr(stores, "RETRY_SECONDS", ())
    with pytest.raises(StoreError, match="s3://bucket/out cannot be published at"):
        prepare_corpus(replace(config, publish="s3://bucket/out"))
    store.start()


def test_credentials_and_buckets_that_are_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        open_file("s3://bucket/in/tree", "clip9.flac")
    assert not is_directory("s3://nobucket/in")
    with pytest.raises(StoreError, match="bucket does not exist"):
        prepare.check_target("s3://nobucket/out")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(StoreError, match=r"Unable to locate credentials\. Check address, network"):
        is_directory("s3://bucket/in/tree")
