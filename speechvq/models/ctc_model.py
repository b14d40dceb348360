"""The recogniser: the speech encoder with one CTC head a language (Graves et al. 2006; wav2vec 2.0,
section 3.3), and with one adapter a layer and language where languages share a frozen encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from speechvq.errors import ModelError
from speechvq.models.config import CTCModelConfig
from speechvq.models.encoder import EncoderOutput, SpeechEncoder
from speechvq.models.vocabulary import Vocabulary
from speechvq.nn.adapter import Adapter
from speechvq.nn.gradients import keep_in_graph

_LANGUAGE_PATTERN = re.compile(r"[\w-]{1,100}")


@dataclass
class CTCOutput:
    """Scores of labels.

    Attributes:
        logits: (B, T, N), not normalised; label 0 is the blank.
        lengths: (B,) long, valid frames, on the device of the lengths that came in.
    """

    logits: Tensor
    lengths: Tensor


class CTCModel(nn.Module):
    """Encoder and heads.

    Args:
        encoder: Shared speech encoder.
        vocabularies: By language; each gets a head with an output a label.
        model_dim: D of the encoder.
        dropout_final: Dropout before the head.
        config: What the model was built from, stored with it.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        vocabularies: Mapping[str, Vocabulary],
        *,
        model_dim: int,
        dropout_final: float,
        config: CTCModelConfig,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout_final)
        self.heads = nn.ModuleDict(
            {
                language: nn.Linear(model_dim, len(vocabulary))
                for language, vocabulary in sorted(vocabularies.items())
            }
        )
        if config.adapter_dim:
            self.adapters = nn.ModuleDict(
                {
                    language: nn.ModuleList(
                        Adapter(model_dim, config.adapter_dim) for _ in encoder.transformer.layers
                    )
                    for language in self.heads
                }
            )
        self.vocabularies = dict(sorted(vocabularies.items()))
        self.config = config

    @property
    def frame_samples(self) -> int:
        """Samples from one frame to the next."""
        return self.encoder.front_end.frame_samples

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of `num_samples` samples."""
        return self.encoder.num_frames(num_samples)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        *,
        language: str,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
    ) -> CTCOutput:
        """Scores the labels of one language.

        Args:
            waveform: (B, S) float32, 16 kHz, in [-1, 1].
            lengths: (B,) long, valid samples; best kept on the CPU.
            language: Whose head is used.
            mask: (B, T) bool, frames replaced by the mask embedding (training).
            channel_mask: (B, D) bool, channels set to 0 (training).

        Returns:
            Scores.

        Raises:
            ModelError: The model has no head for the language.
        """
        if language not in self.heads:
            raise ModelError(
                f"`language` must be one the model knows ({', '.join(self.heads)}), "
                f"but is {language!r}."
            )
        encoded: EncoderOutput = self.encoder(
            waveform,
            lengths,
            mask=mask,
            channel_mask=channel_mask,
            adapters=self.get_adapters(language),
        )
        logits: Tensor = self.heads[language](self.dropout(encoded.context))
        unused = [part for name in self.heads if name != language for part in self.get_parts(name)]
        logits = keep_in_graph(logits, (p for part in unused for p in part.parameters()))
        return CTCOutput(logits, encoded.lengths)

    def get_adapters(self, language: str) -> Sequence[nn.Module] | None:
        """The language's adapters, one a layer; None where the model has none."""
        if not self.config.adapter_dim:
            return None
        adapters = self.adapters[language]
        assert isinstance(adapters, nn.ModuleList)
        return list(adapters)

    def get_parts(self, language: str) -> Iterator[nn.Module]:
        """What belongs to one language alone: its head, and its adapters if there are some."""
        yield self.heads[language]
        yield from self.get_adapters(language) or ()


def is_language_name(name: str) -> bool:
    """Whether a head may have this name: letters, digits, `_` and `-`, and nothing that a
    `ModuleDict` has of its own, such as `type`.

    Args:
        name: Of a language, such as hin_Deva.
    """
    return bool(_LANGUAGE_PATTERN.fullmatch(name)) and not hasattr(nn.ModuleDict(), name)
