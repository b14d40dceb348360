"""Names of the formats of corpora and archives, for configurations; imports nothing."""

from __future__ import annotations

# fmt: off
FORMAT_NAMES = (
    "manifest", "common_voice", "fleurs", "mls", "librispeech", "kathbath", "openslr", "fairseq",
    "transcripts", "lhotse", "nemo", "omnilingual", "huggingface", "text_files", "audio",
)
"""Formats that are read, in the order in which they are tried."""
WRITTEN_FORMAT_NAMES = (
    "manifest", "fairseq", "common_voice", "fleurs", "librispeech", "mls", "transcripts",
    "openslr", "nemo", "lhotse", "huggingface", "omnilingual",
)
"""Formats that are written."""
DIGIT_POLICIES = ("flag", "keep", "expand")
"""What becomes of digits in transcripts."""
ARCHIVE_SUFFIXES = (
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".zip",
)
"""Suffixes of archives that are read."""
# fmt: on
