"""Writes a corpus as Parquet of others: Hugging Face datasets and omnilingual-asr."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.records import Utterance
from speechvq.data.writers import FormatWriter

_ROWS_PER_GROUP = 100
_ROWS_PER_FILE = 10_000
_AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_STRINGS = ("transcription", "language", "speaker", "recording", "source", "licence", "url")
_FEATURES = {
    "audio": {"sampling_rate": 16_000, "_type": "Audio"},
    **{name: {"dtype": "string", "_type": "Value"} for name in _STRINGS},
    "duration": {"dtype": "float64", "_type": "Value"},
}
_HUGGINGFACE_SCHEMA = pa.schema(
    [
        ("audio", _AUDIO),
        *((name, pa.string()) for name in _STRINGS),
        ("duration", pa.float64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
_OMNILINGUAL_SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("audio_bytes", pa.list_(pa.int8())),
        ("audio_size", pa.int64()),
        *((name, pa.string()) for name in ("speaker", "recording", "licence", "url")),
    ]
)


class _ParquetWriter(FormatWriter):
    """Rows to Parquet files of at most so many rows, one series of files per key."""

    schema: pa.Schema
    pattern: str

    def __init__(
        self, root: Path, final: Path, get_text: Callable[[Utterance], str | None]
    ) -> None:
        super().__init__(root, final, get_text)
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._files: dict[str, pq.ParquetWriter] = {}
        self._num_rows: dict[str, int] = {}

    def _add_row(self, key: str, row: dict[str, Any]) -> None:
        rows = self._rows.setdefault(key, [])
        rows.append(row)
        if len(rows) == _ROWS_PER_GROUP:
            self._flush(key)

    def _flush(self, key: str) -> None:
        number, rest = divmod(self._num_rows.get(key, 0), _ROWS_PER_FILE)
        if key not in self._files or rest == 0:
            if key in self._files:
                self._files.pop(key).close()
            path = self.root / self.pattern.format(key=key, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[key] = pq.ParquetWriter(path, self.schema, compression="NONE")
        rows = self._rows[key]
        columns = {name: pa.array([row[name] for row in rows], self.schema.field(name).type)
                   for name in self.schema.names}  # fmt: skip
        self._files[key].write_table(pa.table(columns, schema=self.schema))
        self._num_rows[key] = self._num_rows.get(key, 0) + len(rows)
        self._rows[key] = []

    def close(self) -> None:
        """Completes the files."""
        for key, rows in self._rows.items():
            if rows:
                self._flush(key)
        for file in self._files.values():
            file.close()
        super().close()


class HuggingFaceWriter(_ParquetWriter):
    """`data/<split>-00000.parquet`, which `datasets.load_dataset` reads with its audio."""

    schema = _HUGGINGFACE_SCHEMA
    pattern = "data/{key}-{number:05d}.parquet"

    def _write(self, utterance: Utterance) -> bool:
        row = {
            "audio": {"bytes": utterance.audio, "path": f"{self.num_written:08d}.flac"},
            "transcription": self.get_text(utterance),
            "language": utterance.language,
            "speaker": utterance.speaker,
            "recording": utterance.recording,
            "source": utterance.source,
            "licence": utterance.licence,
            "url": utterance.url,
            "duration": utterance.num_seconds,
        }
        self._add_row(utterance.split, row)
        return True


class OmnilingualWriter(_ParquetWriter):
    """`corpus=<source>/split=<split>/language=<language>/part-00000.parquet`."""

    schema = _OMNILINGUAL_SCHEMA
    pattern = "{key}/part-{number:05d}.parquet"

    def _write(self, utterance: Utterance) -> bool:
        source = quote(utterance.source, safe="") or "none"
        key = f"corpus={source}/split={utterance.split}/language={utterance.language}"
        row = {
            "text": self.get_text(utterance),
            "audio_bytes": np.frombuffer(utterance.audio, dtype=np.int8),
            "audio_size": utterance.num_samples,
            "speaker": utterance.speaker,
            "recording": utterance.recording,
            "licence": utterance.licence,
            "url": utterance.url,
        }
        self._add_row(key, row)
        return True
