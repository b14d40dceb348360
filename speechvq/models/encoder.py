"""The speech encoder that pretraining, recognition and analysis share: front end, projection,
masking, positions, Transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from speechvq.nn.front_end import FrontEnd
from speechvq.nn.gradients import keep_in_graph, scale_gradient
from speechvq.nn.lengths import create_padding_mask
from speechvq.nn.positions import ConvPositions
from speechvq.nn.precision import full_precision
from speechvq.nn.transformer import Encoder


@dataclass
class EncoderOutput:
    """What the encoder gives for a batch.

    Attributes:
        context: (B, T, D), output of the Transformer.
        lengths: (B,) long, valid frames, on the device of the lengths that came in.
        features: (B, T, C), normalised front end, before projection and mask: what is quantised.
        feature_penalty: () float32, mean square of the front end before layer norm over valid
            frames; 0 where it has no parameters.
        layers: L + 1 tensors (B, T, D) if asked for, see `speechvq.nn.transformer.Encoder`.
    """

    context: Tensor
    lengths: Tensor
    features: Tensor
    feature_penalty: Tensor
    layers: list[Tensor] = field(default_factory=list)


class SpeechEncoder(nn.Module):
    """Waveforms to context.

    Args:
        front_end: Waveform or log-mel front end.
        positions: Convolutional positions.
        transformer: Transformer layers.
        model_dim: D.
        dropout_input: Dropout of the projected features.
        feature_grad_scale: Factor of the gradient that reaches the front end.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        positions: ConvPositions,
        transformer: Encoder,
        *,
        model_dim: int,
        dropout_input: float,
        feature_grad_scale: float,
    ) -> None:
        super().__init__()
        self.front_end = front_end
        self.learns_features = any(True for _ in front_end.parameters())
        # Log-mel features are normalised over the utterance already. To normalise each frame as
        # well would blow the noise of silent frames up until it looks like speech.
        self.feature_norm = (
            nn.LayerNorm(front_end.output_dim) if self.learns_features else nn.Identity()
        )
        self.projection = nn.Linear(front_end.output_dim, model_dim)
        self.dropout = nn.Dropout(dropout_input)
        self.mask_embedding = nn.Parameter(torch.empty(model_dim).uniform_())
        self.positions = positions
        self.transformer = transformer
        self.feature_grad_scale = feature_grad_scale

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of `num_samples` samples."""
        return self.front_end.num_frames(num_samples)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        *,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        adapters: Sequence[nn.Module] | None = None,
        return_layers: bool = False,
    ) -> EncoderOutput:
        """Encodes a batch.

        Args:
            waveform: (B, S) float32, 16 kHz, in [-1, 1].
            lengths: (B,) long, valid samples; best kept on the CPU (see `speechvq.nn`).
            mask: (B, T) bool, True = replaced by the mask embedding.
            channel_mask: (B, D) bool, True = set to 0 in all frames.
            adapters: L modules after the Transformer's layers; None for none.
            return_layers: Whether to collect every layer.

        Returns:
            Context and features.
        """
        features, lengths, penalty = self.compute_features(waveform, lengths)
        padding = create_padding_mask(lengths, features.size(1), features.device)  # (B, T)
        frames = self.dropout(self.projection(features))  # (B, T, D)
        if mask is None:
            frames = keep_in_graph(frames, [self.mask_embedding])
        else:
            frames = torch.where(mask[..., None], self.mask_embedding.to(frames.dtype), frames)
        if channel_mask is not None:
            frames = frames.masked_fill(channel_mask[:, None], 0.0)
        if padding is not None:
            frames = frames.masked_fill(padding[..., None], 0.0)
        frames = frames + self.positions(frames)
        context, layers = self.transformer(
            frames, padding, adapters=adapters, return_layers=return_layers
        )
        return EncoderOutput(context, lengths, features, penalty, layers)

    def compute_features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the front end and its normalisation.

        Args:
            waveform: (B, S) float32.
            lengths: (B,) long, valid samples.

        Returns:
            Normalised features (B, T, C), (B,) valid frames, and the feature penalty ().
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.feature_grad_scale > 0.0):
            features, lengths = self.front_end(waveform, lengths)
        if self.learns_features:
            features = scale_gradient(features, self.feature_grad_scale)
            penalty = _compute_feature_penalty(features, lengths)
        else:
            penalty = features.new_zeros(())
        normalized: Tensor = self.feature_norm(features)
        return normalized, lengths, penalty


def _compute_feature_penalty(features: Tensor, lengths: Tensor) -> Tensor:
    """Mean square of (B, T, C) over valid frames, () float32 (wav2vec 2.0, appendix B; fairseq
    averages over padding too).
    """
    with full_precision(features):
        squares = features.float().square().mean(-1)  # (B, T)
        padding = create_padding_mask(lengths, features.size(1), features.device)
        if padding is None:
            return squares.mean()
        valid = ~padding
        return squares.masked_fill(padding, 0.0).sum() / valid.sum().clamp(min=1)
