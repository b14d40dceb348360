"""Letters of another script that a language's spelling uses throughout: no slips, but a part of its
alphabet.

Mboshi is written in Latin letters with ε and ω, which Unicode counts as Greek; most transcripts
would be flagged for letters that belong there. A letter is a language's own if it stands amid
letters of the language's script, in one word, in a share of its transcripts that slips do not
reach. Foreign words are written in foreign letters alone, so that they make none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from speechvq.data.records import Flag
from speechvq.data.segment_columns import SegmentColumns
from speechvq.data.segment_table import list_pieces, read_segments
from speechvq.data.transcripts import find_mixed_letters

MIN_SHARE = 0.05
"""Share of a language's transcripts that hold the letter inside a word."""


def find_own_letters(output: Path, segments: SegmentColumns) -> dict[str, str]:
    """Returns the letters of other scripts that belong to each language's spelling.

    All transcripts count, accepted or not, so that a limit changes no flag.

    Args:
        output: The corpus, with its measurements.
        segments: What was measured.
    """
    names = segments.names["language"]
    codes = segments.codes["language"][segments.has_text]
    totals = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for piece in list_pieces(output):
        table = read_segments(output, piece, ["language", "text", "flags"])
        flags = pc.binary_join(table["flags"], ",")
        flagged = table.filter(pc.match_substring(flags, str(Flag.FOREIGN_SCRIPT)))
        for row in flagged.to_pylist():
            counts[row["language"]].update(find_mixed_letters(row["text"], row["language"]))
    return {
        language: "".join(sorted(c for c, n in found.items() if n >= MIN_SHARE * totals[language]))
        for language, found in counts.items()
    }
