"""Archives: members as streams, everything evil refused with a reason, nothing on the disk."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from speechvq.data.archive_listing import ArchiveLimits
from speechvq.data.archives import list_members, read_source_bytes, split_member_path
from speechvq.data.records import Reason
from speechvq.data.tree import FileTree
from speechvq.errors import DataError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
FILES = {"clips/a.wav": b"a" * 700, "clips/b.wav": b"b" * 1300, "table.tsv": b"path\n"}


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """Packs files in the way that the suffix says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    buffer = io.BytesIO()
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    if path.suffix == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        data = sink.getvalue().to_pybytes()
    path.write_bytes(data)
    return path


def _write_tar(path: Path, infos: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for info, data in infos:
            tar.addfile(info, io.BytesIO(data))
    return path


def _info(
    name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_members_are_read_in_any_order(tmp_path: Path, suffix: str) -> None:
    write_archive(tmp_path / f"x{suffix}", {f"./{n}": d for n, d in FILES.items()})
    listing = list_members(str(tmp_path), f"x{suffix}")
    assert listing.refusals == ()
    assert {name: member.num_bytes for name, member in listing.members.items()} == {
        name: len(data) for name, data in FILES.items()
    }
    for name in [*FILES, *reversed(FILES), "clips/b.wav"]:
        assert read_source_bytes(str(tmp_path), f"x{suffix}!/{name}") == FILES[name]
    assert os.listdir(tmp_path) == [f"x{suffix}"]  # noqa: PTH208
    with pytest.raises(DataError, match=r"no member 'c\.wav'"):
        read_source_bytes(str(tmp_path), f"x{suffix}!/c.wav")


def test_an_archive_that_changed_is_read_anew(tmp_path: Path) -> None:
    write_archive(tmp_path / "x.tar", {"a": b"old"})
    assert read_source_bytes(str(tmp_path), "x.tar!/a") == b"old"
    write_archive(tmp_path / "x.tar", {"a": b"newer", "b": b"x" * 20_000})
    assert read_source_bytes(str(tmp_path), "x.tar!/a") == b"newer"


def test_plain_files_are_read_and_confined(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(b"no")
    assert read_source_bytes(str(tmp_path / "in"), "a.wav") == b"abc"
    for path in ("../secret", "../secret.tar!/a"):
        with pytest.raises(DataError, match="leads out"):
            read_source_bytes(str(tmp_path / "in"), path)


def test_evil_members_of_a_tar(tmp_path: Path) -> None:
    good = _info("good.wav", size=3)
    path = _write_tar(
        tmp_path / "evil.tar.gz",
        [
            (_info("../up.wav", size=1), b"x"),
            (_info("/abs.wav", size=1), b"x"),
            (_info("a/../../up.wav", size=1), b"x"),
            (_info("soft", tarfile.SYMTYPE, link="/etc/passwd"), b""),
            (_info("hard", tarfile.LNKTYPE, link="../../etc/passwd"), b""),
            (_info("device", tarfile.CHRTYPE), b""),
            (_info("block", tarfile.BLKTYPE), b""),
            (_info("pipe", tarfile.FIFOTYPE), b""),
            (_info("sparse", tarfile.GNUTYPE_SPARSE), b""),
            (_info("folder", tarfile.DIRTYPE), b""),
            (good, b"yes"),
            (good, b"two"),
            (_info("C:/x.wav", size=1), b"x"),
            (_info("large.wav", size=2000), b"x" * 2000),
        ],
    )
    listing = list_members(str(tmp_path), path.name, ArchiveLimits(max_member_bytes=1000))
    assert list(listing.members) == ["good.wav"]
    assert [(r.name, r.reason) for r in listing.refusals] == [
        ("../up.wav", Reason.OUTSIDE_INPUT),
        ("/abs.wav", Reason.OUTSIDE_INPUT),
        ("a/../../up.wav", Reason.OUTSIDE_INPUT),
        ("soft", Reason.NOT_A_FILE),
        ("hard", Reason.NOT_A_FILE),
        ("device", Reason.NOT_A_FILE),
        ("block", Reason.NOT_A_FILE),
        ("pipe", Reason.NOT_A_FILE),
        ("sparse", Reason.NOT_A_FILE),
        ("good.wav", Reason.DUPLICATE),
        ("C:/x.wav", Reason.OUTSIDE_INPUT),
        ("large.wav", Reason.OVER_LIMIT),
    ]
    assert read_source_bytes(str(tmp_path), f"{path.name}!/good.wav") == b"yes"
    for name in ("soft", "../up.wav", "device"):
        with pytest.raises(DataError, match="no member"):
            read_source_bytes(str(tmp_path), f"{path.name}!/{name}")


def test_evil_members_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../up.wav", b"x")
        archive.writestr("..\\up.wav", b"x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.wav", b"yes")
        archive.writestr("bomb.wav", bytes(64 << 20))
        archive.writestr("secret.wav", b"x" * 40)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"secret.wav")  # the central directory: its flags lie 38 bytes before
    data[entry - 38] |= 1
    path.write_bytes(data)
    listing = list_members(str(tmp_path), path.name)
    assert list(listing.members) == ["good.wav"]
    assert [(r.name, r.reason) for r in listing.refusals] == [
        ("../up.wav", Reason.OUTSIDE_INPUT),
        ("..\\up.wav", Reason.OUTSIDE_INPUT),
        ("link", Reason.NOT_A_FILE),
        ("bomb.wav", Reason.OVER_LIMIT),
        ("secret.wav", Reason.ENCRYPTED),
    ]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_a_compressed_bomb_is_refused_early(tmp_path: Path, suffix: str) -> None:
    path = write_archive(tmp_path / f"bomb{suffix}", {"a.wav": b"x", "zeros.wav": bytes(40 << 20)})
    listing = list_members(str(tmp_path), path.name)
    assert listing.members == {}
    assert [r.reason for r in listing.refusals] == [Reason.OVER_LIMIT]
    assert "times its size" in listing.refusals[0].detail


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize(
    ("limits", "message"),
    [(ArchiveLimits(max_members=2), "members"), (ArchiveLimits(max_total_bytes=900), "bytes")],
)
def test_limits_of_the_whole(
    tmp_path: Path, suffix: str, limits: ArchiveLimits, message: str
) -> None:
    path = write_archive(tmp_path / f"x{suffix}", FILES)
    listing = list_members(str(tmp_path), path.name, limits)
    assert listing.members == {}
    (refusal,) = listing.refusals
    assert refusal.reason == Reason.OVER_LIMIT
    assert message in refusal.detail


def test_members_of_a_zip_must_not_share_bytes(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x.zip", {"a": b"1" * 50, "b": b"2" * 50})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")  # let the second member begin where the first does
    data[second + 42 : second + 46] = bytes(4)
    path.write_bytes(data)
    listing = list_members(str(tmp_path), path.name)
    assert listing.members == {}
    assert "overlap" in listing.refusals[0].detail


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip"])
def test_half_an_archive_keeps_what_is_whole_and_says_so(tmp_path: Path, suffix: str) -> None:
    noise = {f"{i}.wav": os.urandom(60_000) for i in range(60)}
    path = write_archive(tmp_path / f"x{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    listing = list_members(str(tmp_path), path.name)
    assert [(r.name, r.reason) for r in listing.refusals] == [("", Reason.UNREADABLE)]
    if suffix != ".zip":  # its table of contents stands at the end
        assert 10 < len(listing.members) < 32
        assert read_source_bytes(str(tmp_path), f"{path.name}!/0.wav") == noise["0.wav"]


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x.tar", {f"{i}.wav": b"x" * 512 for i in range(5)})
    data = bytearray(path.read_bytes())
    data[2 * 1024 : 2 * 1024 + 8] = b"\xff" * 8  # the third header
    path.write_bytes(data)
    listing = list_members(str(tmp_path), path.name)
    assert list(listing.members) == ["0.wav", "1.wav"]
    assert [r.reason for r in listing.refusals] == [Reason.UNREADABLE]


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, b"\x1f\x8b\x08\0\0"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_archive_is_set_aside(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    listing = list_members(str(tmp_path), f"x{suffix}")
    assert listing.members == {}
    assert [r.reason for r in listing.refusals] == [Reason.UNREADABLE]


def test_spelling_of_members() -> None:
    assert split_member_path("a/b.tar.gz!/c/d!/e.wav") == ("a/b.tar.gz", "c/d!/e.wav")
    assert split_member_path("odd!/b.wav") is None
    assert split_member_path("odd!/b.zip!/c") == ("odd!/b.zip", "c")
    assert split_member_path("t.parquet!/12") == ("t.parquet", "12")


def test_a_tree_shows_archives_as_if_unpacked(tmp_path: Path) -> None:
    (tmp_path / "hi").mkdir()
    write_archive(tmp_path / "hi" / "audio.tar.gz", FILES)
    (tmp_path / "hi" / "table.tsv").write_text("mine\n")
    tree = FileTree(str(tmp_path))
    assert {place: entry.path for place, entry in tree.entries.items()} == {
        "hi/clips/a.wav": "hi/audio.tar.gz!/clips/a.wav",
        "hi/clips/b.wav": "hi/audio.tar.gz!/clips/b.wav",
        "hi/table.tsv": "hi/table.tsv",
    }
    assert tree.read_text("hi/table.tsv") == "mine\n"
    entry = tree.find("hi/clips/b.wav")
    assert entry == tree.find("hi/audio.tar.gz!/clips/b.wav")
    assert entry is not None
    assert entry.num_bytes == 1300
    alone = FileTree(str(tmp_path / "hi" / "audio.tar.gz"))
    assert (alone.name, list(alone.entries)) == ("audio", sorted(FILES))
    assert alone.read_text("table.tsv") == "path\n"
    assert alone.find("../table.tsv") is None
