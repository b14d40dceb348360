"""What file headers declare, read from the bytes: decoders keep silent about files that end too
early.

Where it stands: `speechvq.data.audio` asks here after decoding. Pure functions over an open file.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFFFF - 36, 0xFFFFFFFF - 44)
"""Data sizes that programs write when they stream a WAV and do not know its length."""
_MAX_OGG_PAGE_BYTES = 65_307


def is_ffmpeg_only(head: bytes) -> bool:
    """Returns whether the first bytes are Matroska/WebM or MP4/M4A, which libsndfile does not
    read.
    """
    return head.startswith(b"\x1aE\xdf\xa3") or head[4:8] == b"ftyp"


def compute_missing_bytes(file: BinaryIO) -> int:
    """Returns how many bytes the file lacks according to its own header; 0 where it is complete or
    says nothing.

    WAV (RIFF, RF64 with a 32 bit size), AIFF, AU, MP4, MP3 and Ogg are understood; FLAC declares a
    length that the decoder reports.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _missing_in_riff(file, size)
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _missing_after(8 + int.from_bytes(head[4:8], "big"), size)
    if head[:4] == b".snd":
        begin, length = struct.unpack(">II", head[4:12])
        return 0 if length in _UNKNOWN_SIZES else _missing_after(begin + length, size)
    if head[:4] == b"OggS":
        return _missing_in_ogg(file, size)
    if head[4:8] == b"ftyp":
        return _missing_in_mp4(file, size)
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        return _missing_in_mp3(file, size)
    return 0


def _missing_after(end: int, size: int) -> int:
    return max(0, end - size)


def _missing_in_ogg(file: BinaryIO, size: int) -> int:
    """Looks at the last page, which is at most 65,307 bytes long: it must be all there."""
    file.seek(max(0, size - 2 * _MAX_OGG_PAGE_BYTES))
    data = file.read()
    position = data.rfind(b"OggS")
    if position < 0:
        return 0
    page = data[position:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return _missing_after(27 + page[26] + sum(page[27 : 27 + page[26]]), len(page))


def _missing_in_riff(file: BinaryIO, size: int) -> int:
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            if length in _UNKNOWN_SIZES:
                return 0
            return int(max(0, position + 8 + length - size))
        position += 8 + length + length % 2
    return 0


def _missing_in_mp4(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))
        if length == 0:  # "to the end of the file"
            return 0
        if length < 8:
            return 0
        position += length
    return int(max(0, position - size))


_MP3_BITRATES = {
    # (MPEG-1 or 2/2.5) of layer III, in kbit/s
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _missing_in_mp3(file: BinaryIO, size: int) -> int:
    """Walks the frames of a layer III stream: a file cut anywhere but at a frame's edge lacks the
    end of its last frame.
    """
    file.seek(0)
    data = file.read(min(size, 1 << 28))
    position = 0
    if data[:3] == b"ID3" and len(data) > 10:
        tag = data[6:10]
        position = 10 + (
            (tag[0] & 0x7F) << 21 | (tag[1] & 0x7F) << 14 | (tag[2] & 0x7F) << 7 | tag[3] & 0x7F
        )
    while position + 4 <= len(data):
        length = _mp3_frame_bytes(data[position : position + 4])
        if length is None:  # a tag at the end, or padding: no statement
            return 0
        position += length
    return max(0, position - len(data)) if len(data) == size else 0


def _mp3_frame_bytes(header: bytes) -> int | None:
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bitrate_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer != 1 or rate_index == 3 or bitrate_index in (0, 15):
        return None
    is_mpeg1 = version == 3
    bitrate = _MP3_BITRATES[is_mpeg1][bitrate_index] * 1000
    return (144 if is_mpeg1 else 72) * bitrate // _MP3_RATES[version][rate_index] + padding
