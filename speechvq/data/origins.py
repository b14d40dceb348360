"""Where the audio of a training set came from: hours by language, source and licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.corpus import CORPUS_FILE, read_corpus_info
from speechvq.data.index import CorpusIndex
from speechvq.data.records import SAMPLE_RATE

_KEYS = ("language", "source", "licence")


def describe_origins(index: CorpusIndex) -> dict[str, Any]:
    """Returns what a model card says of the data.

    Args:
        index: The utterances of a run.

    Returns:
        `normalizer`: that of the corpora, several joined by ", ". `sources`: one
        `{"language", "source", "licence", "hours", "utterances"}` for each combination, in order;
        the licence is in the manifest's words, or None.
    """
    normalizers, tables = set(), []
    for number, path in enumerate(index.files):
        chosen = np.flatnonzero(index.file == number)
        if len(chosen) == 0:
            continue
        corpus = next((folder for folder in path.parents if (folder / CORPUS_FILE).is_file()), None)
        if corpus is not None:
            normalizers.add(str(read_corpus_info(corpus).get("normalizer", "unknown")))
        columns = _read_columns(path, index.row_group[chosen], index.row[chosen])
        language = pa.array(index.languages).take(pa.array(index.language[chosen]))
        samples = pa.array(index.num_samples[chosen])
        tables.append(pa.table({"language": language, **columns, "samples": samples}))
    entries = []
    if tables:
        groups = pa.concat_tables(tables).group_by(list(_KEYS))
        counted = groups.aggregate([("samples", "sum"), ("samples", "count")])
        entries = counted.sort_by([(key, "ascending") for key in _KEYS]).to_pylist()
    return {
        "normalizer": ", ".join(sorted(normalizers)) or None,
        "sources": [
            {
                "language": entry["language"],
                "source": entry["source"],
                "licence": entry["licence"] or None,
                "hours": round(entry["samples_sum"] / SAMPLE_RATE / 3600, 4),
                "utterances": entry["samples_count"],
            }
            for entry in entries
        ],
    }


def _read_columns(path: Path, row_group: np.ndarray, row: np.ndarray) -> dict[str, pa.Array]:
    """Source and licence of some rows of a file, "" where there is none."""
    with pq.ParquetFile(path) as parquet:
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        table = parquet.read(columns=["source", "licence"])
    begins = np.concatenate([[0], np.cumsum(sizes)])
    picked = table.take(pa.array(begins[row_group] + row))
    return {
        name: pc.fill_null(pc.cast(picked[name], pa.string()), "") for name in ("source", "licence")
    }
