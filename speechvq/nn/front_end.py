"""The interface of both front ends: waveforms in, frames out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from speechvq.errors import DataError


class FrontEnd(nn.Module, ABC):
    """Base of the front ends.

    Attributes:
        output_dim: C, channels of a frame.
    """

    output_dim: int

    @abstractmethod
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turns waveforms into frames.

        Args:
            waveform: (B, S) float32, 16 kHz, in [-1, 1]; what lies beyond `lengths` is ignored.
            lengths: (B,) long, valid samples.

        Returns:
            Features (B, T, C), and (B,) long, valid frames.
        """

    @property
    @abstractmethod
    def frame_samples(self) -> int:
        """Samples from one frame to the next."""

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Number of frames of an utterance.

        Args:
            num_samples: Its samples.

        Returns:
            Its frames, 0 when it is too short for one.
        """

    def check_samples(self, num_samples: int) -> None:
        """Refuses a batch that gives no frame at all.

        Args:
            num_samples: S, samples of the longest utterance.

        Raises:
            DataError: It is too short.
        """
        if self.num_frames(num_samples) < 1:
            raise DataError(
                f"The longest utterance of a batch has {num_samples} samples, too few for one "
                "frame; leave out utterances of less than 0.1 s."
            )
