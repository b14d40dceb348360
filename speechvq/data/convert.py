"""A corpus in the format of another tool: `convert_corpus`.

One pass over the corpus; the result appears under its name only when it is complete.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from speechvq.data.convert_config import ConvertConfig
from speechvq.data.corpus import read_utterances
from speechvq.data.parquet_writers import HuggingFaceWriter, OmnilingualWriter
from speechvq.data.records import Utterance
from speechvq.data.writers import (
    CommonVoiceWriter,
    FairseqWriter,
    FleursWriter,
    FormatWriter,
    LhotseWriter,
    LibriSpeechWriter,
    ManifestWriter,
    MlsWriter,
    NemoWriter,
    OpenSlrWriter,
    TranscriptsWriter,
)
from speechvq.errors import ConfigError

_WRITERS: dict[str, type[FormatWriter]] = {
    "manifest": ManifestWriter,
    "fairseq": FairseqWriter,
    "common_voice": CommonVoiceWriter,
    "fleurs": FleursWriter,
    "librispeech": LibriSpeechWriter,
    "mls": MlsWriter,
    "transcripts": TranscriptsWriter,
    "openslr": OpenSlrWriter,
    "nemo": NemoWriter,
    "lhotse": LhotseWriter,
    "huggingface": HuggingFaceWriter,
    "omnilingual": OmnilingualWriter,
}
"""By the names of `speechvq.data.format_names.WRITTEN_FORMAT_NAMES`."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion wrote.

    Attributes:
        num_written: Utterances in the result.
        num_left_out: Utterances that the format cannot express.
    """

    num_written: int
    num_left_out: int


def convert_corpus(config: ConvertConfig) -> Conversion:
    """Writes a corpus in another format.

    Args:
        config: Which corpus, which format, where to.

    Returns:
        How much was written and left out.

    Raises:
        ConfigError: If the configuration cannot work, or the output holds something.
        DataError: If the corpus cannot be read.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    output = Path(config.output)
    temporary = output.with_name(output.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        writer = _create_writer(config, temporary, output)
        for utterance in read_utterances(config.corpus, where=config.where or None):
            writer.add(utterance)
        writer.close()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if output.exists():
        output.rmdir()
    temporary.rename(output)
    return Conversion(writer.num_written, writer.num_left_out)


def _create_writer(config: ConvertConfig, root: Path, final: Path) -> FormatWriter:
    def get_text(utterance: Utterance) -> str | None:
        text = utterance.raw_text if config.transcript == "raw_text" else utterance.text
        return " ".join(text.split()) or None if text else None

    return _WRITERS[config.format](root, final, get_text)
