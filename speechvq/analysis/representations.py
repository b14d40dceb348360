"""Samples of the continuous representations of chosen layers: never all of them.

    representations/layer_00.npz
        utterances    (U, D) float32, mean over the frames of each utterance
        utterance_ids (U,) texts, the order of `utterances`
        frames        (F, D) float16, a random sample of frames
        frame_rows    (F,) int64, their rows in the code table

Layer 0 is the input of the first layer, layer l the output of the l-th.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from speechvq.errors import DataError

DIRECTORY = "representations"


@dataclass(frozen=True, kw_only=True)
class LayerSample:
    """What is kept of one layer.

    Attributes:
        layer: Its number.
        utterances: (U, D) float32, means.
        utterance_ids: (U,) texts.
        frames: (F, D) float16.
        frame_rows: (F,) int64, rows of the code table.
    """

    layer: int
    utterances: NDArray[np.float32]
    utterance_ids: NDArray[np.str_]
    frames: NDArray[np.float16]
    frame_rows: NDArray[np.int64]


def choose_frames(name: str, num_frames: int, share: float, seed: int) -> NDArray[np.int64]:
    """Chooses frames of an utterance; a function of the arguments alone.

    Args:
        name: The utterance's id.
        num_frames: T.
        share: Chance of each frame.
        seed: Of the run.

    Returns:
        Frames in rising order.
    """
    return np.flatnonzero(seed_by_name(name, seed).random(num_frames) < share).astype(np.int64)


def seed_by_name(name: str, seed: int) -> np.random.Generator:
    """Returns a generator whose draws depend on the utterance and the run's seed alone."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


class RepresentationWriter:
    """Collects samples on the disk and writes one file a layer at the end; a context manager.

    Args:
        directory: Where `representations/` will stand; an older one is replaced.
        layers: Which layers come.
        share: Chance of each frame to be kept.
        seed: Of the choice.
    """

    def __init__(self, directory: Path, layers: Sequence[int], *, share: float, seed: int) -> None:
        self._target = directory / DIRECTORY
        self._work = directory / f".{DIRECTORY}.tmp"
        self._layers = list(layers)
        self._share, self._seed = share, seed
        self._ids: list[str] = []
        self._rows: list[NDArray[np.int64]] = []
        self._dim = 0

    def add(self, name: str, first_row: int, layers: Sequence[NDArray[np.float32]]) -> None:
        """Adds an utterance.

        Args:
            name: Its id.
            first_row: Row of its first frame in the code table.
            layers: (T, D) of each layer.
        """
        num_frames = len(layers[0])
        chosen = choose_frames(name, num_frames, self._share, self._seed)
        self._ids.append(name)
        self._rows.append(first_row + chosen)
        for means, frames, layer in zip(self._means, self._frames, layers, strict=True):
            self._dim = layer.shape[1]
            means.write(layer.mean(axis=0, dtype=np.float64).astype("<f4").tobytes())
            limit = np.finfo(np.float16).max
            frames.write(np.clip(layer[chosen], -limit, limit).astype("<f2").tobytes())

    def __enter__(self) -> Self:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._means: list[BinaryIO] = [self._open(f"means_{i}") for i in self._layers]
        self._frames: list[BinaryIO] = [self._open(f"frames_{i}") for i in self._layers]
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in (*self._means, *self._frames):
            file.close()
        if error is None and self._ids:
            for layer in self._layers:
                self._finish(layer)
            shutil.rmtree(self._target, ignore_errors=True)
            self._work.rename(self._target)
        shutil.rmtree(self._work, ignore_errors=True)

    def _open(self, name: str) -> BinaryIO:
        return (self._work / name).open("wb")

    def _finish(self, layer: int) -> None:
        rows = np.concatenate(self._rows)
        arrays = {
            "utterances": self._map(f"means_{layer}", "<f4", len(self._ids)),
            "frames": self._map(f"frames_{layer}", "<f2", len(rows)),
        }
        np.savez(
            self._work / f"layer_{layer:02d}.npz",
            utterances=arrays["utterances"],
            utterance_ids=np.array(self._ids, dtype=np.str_),
            frames=arrays["frames"],
            frame_rows=rows,
        )
        for name in (f"means_{layer}", f"frames_{layer}"):
            (self._work / name).unlink()

    def _map(self, name: str, kind: str, num_rows: int) -> NDArray[np.floating]:
        if not num_rows:
            return np.zeros((0, self._dim), dtype=kind)
        return np.memmap(self._work / name, dtype=kind, mode="r", shape=(num_rows, self._dim))


def list_layers(directory: Path) -> list[int]:
    """Returns the layers that `directory` (of an analysis) has samples of, in rising order."""
    return sorted(int(path.stem[6:]) for path in (directory / DIRECTORY).glob("layer_*.npz"))


def read_layer(directory: Path, layer: int) -> LayerSample:
    """Reads the sample of a layer.

    Raises:
        DataError: There is none, or the file is damaged.
    """
    path = directory / DIRECTORY / f"layer_{layer:02d}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return LayerSample(
                layer=layer,
                utterances=arrays["utterances"],
                utterance_ids=arrays["utterance_ids"],
                frames=arrays["frames"],
                frame_rows=arrays["frame_rows"],
            )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}. Run `speechvq analyze` again.") from None
