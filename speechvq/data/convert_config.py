"""The configuration of `convert`; no pyarrow, no Hydra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechvq.data.config import MISSING_VALUE
from speechvq.data.format_names import WRITTEN_FORMAT_NAMES
from speechvq.data.storage import describe_remote_corpus, is_remote


@dataclass(kw_only=True)
class ConvertConfig:
    """A corpus in the format of another tool."""

    corpus: str = MISSING_VALUE
    """A corpus that `prepare` left."""
    output: str = MISSING_VALUE
    """Where to write: a new or empty directory."""
    format: str = MISSING_VALUE
    """The format: nemo, fairseq, lhotse, common_voice, fleurs, librispeech, mls, transcripts,
    openslr, huggingface, omnilingual, manifest."""
    where: str = ""
    """Only these utterances, such as `language=hin_Deva,source=radio`."""
    transcript: str = "text"
    """Which transcript to write: `text` (normalised) or `raw_text` (as it came)."""

    def validate(self) -> list[str]:
        """Returns every problem of this configuration as a sentence."""
        problems = [
            f"`{key}` must be set: `{key}={example}`."
            for key, example in (("corpus", "DIR"), ("output", "DIR"), ("format", "nemo"))
            if getattr(self, key) == MISSING_VALUE
        ]
        if is_remote(self.corpus):
            problems.append(f"`corpus`: {describe_remote_corpus(self.corpus)}")
        elif self.corpus != MISSING_VALUE and not Path(self.corpus).is_dir():
            problems.append(f"`corpus` must be a directory, but {self.corpus!r} is none.")
        if self.format not in (*WRITTEN_FORMAT_NAMES, MISSING_VALUE):
            problems.append(
                f"`format` must be one of {', '.join(WRITTEN_FORMAT_NAMES)}, but is"
                f" {self.format!r}."
            )
        if self.transcript not in ("text", "raw_text"):
            problems.append(f"`transcript` must be text or raw_text, but is {self.transcript!r}.")
        if is_remote(self.output):
            problems.append(
                f"`output` must be a directory of this machine, but is {self.output}; copy it there"
                " with the store's own tools."
            )
        output = Path(self.output)
        is_taken = output.is_file() or (output.is_dir() and any(output.iterdir()))
        if self.output != MISSING_VALUE and is_taken:
            problems.append(
                f"`output` must be a new or empty directory, but {self.output} holds files."
            )
        return problems
