"""The ways in which people keep a corpus, each with how to know it and how to read it.

A reader yields rows as the format spells them (`speechvq.data.formats.rows`);
`speechvq.data.manifest` checks them and finds the files. What each format keeps and loses:
`docs/preparing.md`.
"""

from __future__ import annotations

from speechvq.data.format_names import FORMAT_NAMES
from speechvq.data.formats.common_voice import detect_common_voice, read_common_voice
from speechvq.data.formats.fairseq import detect_fairseq, read_fairseq
from speechvq.data.formats.fleurs import detect_fleurs, read_fleurs
from speechvq.data.formats.lhotse import detect_lhotse, read_lhotse
from speechvq.data.formats.librispeech import (
    detect_librispeech,
    detect_mls,
    read_librispeech,
    read_mls,
)
from speechvq.data.formats.nemo import detect_nemo, read_nemo
from speechvq.data.formats.parquet import (
    detect_huggingface,
    detect_omnilingual,
    read_huggingface,
    read_omnilingual,
)
from speechvq.data.formats.rows import Format
from speechvq.data.formats.tables import detect_manifest, read_manifest
from speechvq.data.formats.transcripts import (
    detect_audio,
    detect_kathbath,
    detect_openslr,
    detect_text_beside_audio,
    detect_transcript_tree,
    read_audio,
    read_kathbath,
    read_openslr,
    read_text_beside_audio,
    read_transcript_tree,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError

FORMATS = (
    Format("manifest", "audio and manifest.tsv, .csv or .jsonl", detect_manifest, read_manifest),
    Format("common_voice", "Mozilla Common Voice", detect_common_voice, read_common_voice),
    Format("fleurs", "FLEURS", detect_fleurs, read_fleurs),
    Format("mls", "Multilingual LibriSpeech", detect_mls, read_mls),
    Format("librispeech", "LibriSpeech", detect_librispeech, read_librispeech),
    Format("kathbath", "Kathbath", detect_kathbath, read_kathbath),
    Format("openslr", "OpenSLR line_index.tsv", detect_openslr, read_openslr),
    Format("fairseq", "fairseq tsv, wrd, ltr", detect_fairseq, read_fairseq),
    Format("transcripts", "transcript.txt trees", detect_transcript_tree, read_transcript_tree),
    Format("lhotse", "Lhotse cuts.jsonl.gz", detect_lhotse, read_lhotse),
    Format("nemo", "NeMo JSON lines", detect_nemo, read_nemo),
    Format("omnilingual", "omnilingual-asr Parquet", detect_omnilingual, read_omnilingual),
    Format("huggingface", "Hugging Face Parquet", detect_huggingface, read_huggingface),
    Format("text_files", "a .txt per clip", detect_text_beside_audio, read_text_beside_audio),
    Format("audio", "audio without a table", detect_audio, read_audio),
)
"""From the surest sign to the weakest: the first that fits is taken."""


def choose_format(tree: FileTree, name: str = "") -> Format:
    """Returns the format of an input.

    Args:
        tree: The input.
        name: One of `FORMAT_NAMES`, or empty to find out.

    Raises:
        DataError: If the name is unknown, or nothing that can be read is found.
    """
    if name:
        chosen = next((one for one in FORMATS if one.name == name), None)
        if chosen is None:
            raise DataError(f"`format` must be one of {', '.join(FORMAT_NAMES)}, but is {name!r}.")
        return chosen
    found = next((one for one in FORMATS if one.detect(tree)), None)
    if found is None:
        raise DataError(
            f"{tree.location} holds no audio and no corpus of a known format. Put a `manifest.tsv`"
            " there with the columns path and language (such as hin_Deva), and if you have them"
            " speaker, split, transcript, recording, licence; or name the format:"
            f" `format=` {', '.join(FORMAT_NAMES)}."
        )
    return found
