"""The model of pretraining: a speech encoder that has to find quantised targets at masked frames
(wav2vec 2.0, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechvq.models.config import PretrainModelConfig
from speechvq.models.encoder import SpeechEncoder
from speechvq.nn.contrastive import ContrastiveTask, TaskOutput
from speechvq.nn.gradients import keep_in_graph
from speechvq.nn.lengths import lengths_to_padding_mask
from speechvq.nn.prediction import PredictionTask
from speechvq.nn.quantizer import Quantizer, QuantizerOutput


@dataclass
class PretrainOutput:
    """Losses of a batch, not yet weighted, and what is logged beside them.

    Attributes:
        task: By masked frame.
        loss_sum: () float32, loss of the task summed over valid frames, nats.
        diversity_loss: () float32, see `QuantizerOutput`.
        feature_penalty: () float32, see `EncoderOutput`.
        vq_loss: () float32 or None, see `QuantizerOutput`.
        codes: (B, M, G) long, targets of the masked frames.
        soft_perplexity: (G,) float32, see `QuantizerOutput`.
        num_targets: () long, valid masked frames; the other losses are means, to be multiplied by
            it.
    """

    task: TaskOutput
    loss_sum: Tensor
    diversity_loss: Tensor
    feature_penalty: Tensor
    vq_loss: Tensor | None
    codes: Tensor
    soft_perplexity: Tensor
    num_targets: Tensor


class PretrainModel(nn.Module):
    """Encoder, quantiser, and the task in which they meet.

    Args:
        encoder: Shared speech encoder.
        quantizer: Makes targets of features.
        task: Compares what the encoder says at masked frames with the targets.
        dropout_features: Dropout of the features that are quantised.
        config: What the model was built from, stored with it.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        quantizer: Quantizer,
        task: ContrastiveTask | PredictionTask,
        *,
        dropout_features: float,
        config: PretrainModelConfig,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.task = task
        self.dropout_features = nn.Dropout(dropout_features)
        self.config = config

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of `num_samples` samples: the T of which masks are drawn."""
        return self.encoder.num_frames(num_samples)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        masked_frames: Tensor,
        num_masked: Tensor,
        distractors: Tensor,
        *,
        temperature: float,
    ) -> PretrainOutput:
        """Computes the losses of a batch.

        Args:
            waveform: (B, S) float32, 16 kHz, in [-1, 1].
            lengths: (B,) long, valid samples; best kept on the CPU.
            masked_frames: (B, M) long, indices of masked frames in rising order, padded with 0.
            num_masked: (B,) long, valid entries of `masked_frames`.
            distractors: (B, M, K) long, indices into the utterance's own masked frames.
            temperature: Of the Gumbel softmax, see `gumbel_temperature`.

        Returns:
            The losses.
        """
        num_masked = num_masked.to(waveform.device, non_blocking=True)
        valid = ~lengths_to_padding_mask(num_masked, masked_frames.size(1))  # (B, M)
        # The number of frames is known from the number of samples without asking the device.
        mask = _create_frame_mask(masked_frames, valid, self.num_frames(waveform.size(1)))
        encoded = self.encoder(waveform, lengths, mask=mask)
        context = _gather_frames(encoded.context, masked_frames)
        features = self.dropout_features(_gather_frames(encoded.features, masked_frames))
        quantized: QuantizerOutput = self.quantizer(features, temperature=temperature, valid=valid)
        task: TaskOutput = self.task(context, quantized, distractors, num_masked)
        loss_sum = task.loss_per_frame.sum()
        if isinstance(self.task, PredictionTask):
            loss_sum = keep_in_graph(loss_sum, self.quantizer.parameters())
        return PretrainOutput(
            task=task,
            loss_sum=loss_sum,
            diversity_loss=quantized.diversity_loss,
            feature_penalty=encoded.feature_penalty,
            vq_loss=quantized.vq_loss,
            codes=quantized.codes,
            soft_perplexity=quantized.soft_perplexity,
            num_targets=task.valid.sum(),
        )

    def extract_codes(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of all frames, without noise or mask. The Transformer is not needed for them.

        Args:
            waveform: (B, S) float32.
            lengths: (B,) long, valid samples.

        Returns:
            (B, T, G) long, and (B,) valid frames.
        """
        features, lengths, _ = self.encoder.compute_features(waveform, lengths)
        return self.quantizer.encode(features), lengths


def _create_frame_mask(masked_frames: Tensor, valid: Tensor, num_frames: int) -> Tensor:
    """(B, T) bool from indices (B, M); what is not valid is written to a column that is cut off."""
    index = masked_frames.masked_fill(~valid, num_frames)
    mask = torch.zeros(index.size(0), num_frames + 1, dtype=torch.bool, device=masked_frames.device)
    return mask.scatter_(1, index, True)[:, :num_frames]


def _gather_frames(frames: Tensor, index: Tensor) -> Tensor:
    """Picks frames (B, M, D) of (B, T, D) by indices (B, M)."""
    rows = torch.arange(frames.size(0), device=frames.device)[:, None] * frames.size(1)
    flat = (rows + index).reshape(-1)  # index_select has a much cheaper gradient than gather
    return (
        frames.reshape(-1, frames.size(2)).index_select(0, flat).view(*index.shape, frames.size(2))
    )
