"""The recogniser as one function of tensors, from samples to log-probabilities: what
`speechvq.deploy.onnx_export` traces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.deploy.silence import BLOCK_SAMPLES, CERTAIN_LOGIT, REACH_BLOCKS, SILENCE_DBFS
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import BLANK_ID
from speechvq.nn.lengths import lengths_to_padding_mask


class RecognizerGraph(nn.Module):
    """Front end, encoder, one language's head, and the rule of silence.

    It computes what `speechvq.deploy.recognizer.Recognizer.compute_log_probs` does, for a batch
    and without a step in Python.

    Args:
        model: In evaluation mode.
        language: Whose head is used.
    """

    def __init__(self, model: CTCModel, language: str) -> None:
        super().__init__()
        self.model = model
        self.language = language

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scores the labels.

        Args:
            waveform: (B, S) float32, 16 kHz, in [-1, 1]; what lies beyond `lengths` is ignored.
            lengths: (B,) long, valid samples; more than S count as S.

        Returns:
            Natural log-probabilities (B, T, N), and (B,) long, valid frames.
        """
        lengths = lengths.clamp(max=waveform.size(1))
        padding = lengths_to_padding_mask(lengths, waveform.size(1))
        waveform = waveform.masked_fill(padding, 0.0)
        scores = self.model(waveform, lengths, language=self.language)
        silent = find_silence(waveform, scores.logits.size(1), self.model.frame_samples)
        labels = torch.arange(scores.logits.size(2), device=waveform.device)
        certain = torch.where(labels == BLANK_ID, 0.0, CERTAIN_LOGIT)  # (N,)
        logits = torch.where(silent[..., None], certain, scores.logits)
        return logits.log_softmax(dim=-1), scores.lengths


def find_silence(waveform: Tensor, num_frames: int, frame_samples: int) -> Tensor:
    """The rule of `speechvq.deploy.silence.find_silent_frames` for a batch.

    Args:
        waveform: (B, S) float32, padding set to 0.
        num_frames: T.
        frame_samples: From one frame to the next.

    Returns:
        (B, T) bool, True = silent.
    """
    num_blocks = (waveform.size(1) + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES
    padded = F.pad(waveform, (0, BLOCK_SAMPLES - 1))[:, : num_blocks * BLOCK_SAMPLES]
    blocks = padded.reshape(-1, num_blocks, BLOCK_SAMPLES)
    loud = blocks.square().sum(-1) > BLOCK_SAMPLES * 10 ** (SILENCE_DBFS / 10)  # (B, blocks)
    near = F.max_pool1d(loud.float()[:, None], 2 * REACH_BLOCKS + 1, 1, REACH_BLOCKS)[:, 0]
    frames = torch.arange(num_frames, device=waveform.device)
    middles = (frames * frame_samples + frame_samples // 2) // BLOCK_SAMPLES
    return near[:, middles.clamp(max=num_blocks - 1)] < 0.5
