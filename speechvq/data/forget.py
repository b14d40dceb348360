"""Deleting a recording or a speaker from a finished corpus: no row is left behind, in no file.

A deletion that is interrupted goes on when the same command is given again; until it is done the
corpus has no `corpus.json`, so that nobody reads it half deleted. In the first phase part files,
rejects, summary and report are written anew; in the second, the measurements.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.claims import list_deciding_overrides, read_decision
from speechvq.data.config import FORGET_FILE, ForgetConfig
from speechvq.data.corpus import CORPUS_FILE, write_corpus_info, write_text_atomically
from speechvq.data.decide import Decisions, decide
from speechvq.data.parts import ROWS_PER_GROUP, write_part
from speechvq.data.prepare_output import write_bookkeeping
from speechvq.data.publish import list_publications
from speechvq.data.segment_columns import SegmentColumns, load_segments
from speechvq.data.segment_table import (
    audio_file,
    list_pieces,
    open_audio_writer,
    read_segments,
    segments_file,
    temporary_name,
    write_segments,
)
from speechvq.data.text import get_normalizer
from speechvq.data.writing import read_audio
from speechvq.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """What was deleted.

    Attributes:
        num_utterances: Rows of the corpus.
        num_rejected: Rows that had been set aside.
        seconds: Their audio.
        commands: What deletes it where the corpus was published, too.
    """

    num_utterances: int
    num_rejected: int
    seconds: float
    commands: tuple[str, ...] = ()


def forget(config: ForgetConfig) -> Forgotten:
    """Deletes a recording or a speaker, or goes on with a deletion that was interrupted.

    Returns:
        What was deleted.

    Raises:
        ConfigError: If the configuration cannot work, or another deletion was interrupted.
        DataError: If the corpus is not complete, or has nothing of that name.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    output = Path(config.corpus)
    note = _begin(output, config)
    if note["phase"] == 1:
        _write_without(output, note)
        note = {**note, "phase": 2}
        write_text_atomically(output / FORGET_FILE, json.dumps(note))
    for piece in list_pieces(output):
        _filter_piece(output, piece, note)
    normalizer = read_decision(output).normalizer
    write_corpus_info(output, normalizer=get_normalizer(normalizer).identifier)
    (output / FORGET_FILE).unlink()
    return Forgotten(**note["counts"], commands=_list_commands(output))


def _list_commands(output: Path) -> tuple[str, ...]:
    """Returns the commands that publish a corpus again, decided as it is."""
    decision = list_deciding_overrides(output)
    return tuple(
        shlex.join(["speechvq", "prepare", f"output={output}", *decision, f"publish={url}"])
        for url in list_publications(output)
    )


def _begin(output: Path, config: ForgetConfig) -> dict[str, Any]:
    """Returns the note that says what is being deleted, from now on in the corpus."""
    wanted = {"recording": config.recording, "speaker": config.speaker, "source": config.source}
    file = output / FORGET_FILE
    if file.exists():
        note = json.loads(file.read_text(encoding="utf-8"))
        if any(wanted.values()) and wanted != note["wanted"]:
            raise ConfigError(
                [f"Another deletion in {output} was interrupted; finish it with `corpus` alone."]
            )
        return dict(note)
    if not (output / CORPUS_FILE).exists():
        raise DataError(
            f"{output} is no complete corpus: finish preparing it, then delete from it."
        )
    segments = load_segments(output)
    decisions = decide(segments, read_decision(output))
    is_gone = _match_columns(segments, wanted)
    if not is_gone.any():
        name = config.recording or config.speaker
        raise DataError(f"{output} has no {'recording' if config.recording else 'speaker'} {name}.")
    counts = {
        "num_utterances": int((is_gone & decisions.is_accepted).sum()),
        "num_rejected": int((is_gone & ~decisions.is_accepted).sum()),
        "seconds": float(segments.seconds[is_gone].sum()),
    }
    note = {"wanted": wanted, "phase": 1, "counts": counts}
    write_text_atomically(file, json.dumps(note))
    (output / CORPUS_FILE).unlink()
    return note


def _write_without(output: Path, note: dict[str, Any]) -> None:
    """Writes part files and bookkeeping without what is deleted; the measurements are still whole,
    so that this can be repeated.
    """
    for path in sorted(output.glob("split=*/language=*/part-*.parquet")):
        with pq.ParquetFile(path) as file:
            names = file.read(columns=["source", "recording", "path", "speaker"])
            is_gone = _match_table(names, note["wanted"])
            table = file.read() if pc.any(is_gone).as_py() else None
        if table is not None:
            kept = table.filter(pc.invert(is_gone))
            if kept.num_rows:
                write_part(path, kept)
            else:
                path.unlink()
    segments = load_segments(output)
    config = read_decision(output)
    decisions = decide(segments, config)
    kept_rows = np.flatnonzero(~_match_columns(segments, note["wanted"]))
    write_bookkeeping(
        output, config, segments.take(kept_rows), _take_decisions(decisions, kept_rows)
    )


def _filter_piece(output: Path, piece: int, note: dict[str, Any]) -> None:
    """Writes the measurements of a piece of work without what is deleted.

    The new table is written last and renamed last: once it is there, the new audio is, too.
    """
    table_path, audio_path = segments_file(output, piece), audio_file(output, piece)
    new_table, new_audio = _new_name(table_path), _new_name(audio_path)
    if not new_table.exists():
        table = read_segments(output, piece)
        is_gone = _match_table(table, note["wanted"])
        if not pc.any(is_gone).as_py():
            return
        kept = table.filter(pc.invert(is_gone))
        rows = pc.drop_null(kept["audio_row"]).to_numpy()
        if audio_path.exists() and len(rows):
            _write_audio(output, piece, rows, new_audio)
        numbers = np.full(kept.num_rows, -1, np.int64)
        has_audio = kept["audio_row"].is_valid().to_numpy()
        numbers[has_audio] = np.arange(len(rows))
        column = pa.array(numbers, pa.int32(), mask=~has_audio)
        index = kept.schema.get_field_index("audio_row")
        write_segments(new_table, kept.set_column(index, kept.schema.field(index), column))
    if new_audio.exists():
        new_audio.replace(audio_path)
    elif pq.read_metadata(new_table).num_rows == 0 or not _has_audio(new_table):
        audio_path.unlink(missing_ok=True)
    new_table.replace(table_path)


def _write_audio(output: Path, piece: int, rows: np.ndarray, path: Path) -> None:
    with open_audio_writer(temporary_name(path)) as writer:
        for first in range(0, len(rows), ROWS_PER_GROUP):
            clips = read_audio(output, piece, rows[first : first + ROWS_PER_GROUP].tolist())
            table = pa.table({"audio": clips}, schema=writer.schema)
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    temporary_name(path).replace(path)


def _has_audio(path: Path) -> bool:
    with pq.ParquetFile(path) as file:
        column = file.read(columns=["audio_row"])["audio_row"]
    return bool(column.null_count < len(column))


def _new_name(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _match_table(table: pa.Table, wanted: dict[str, str]) -> pa.ChunkedArray:
    """Returns which rows are to go."""
    if wanted["speaker"]:
        matches = pc.equal(table["speaker"], wanted["speaker"])
    else:
        name = wanted["recording"]
        matches = pc.or_kleene(pc.equal(table["recording"], name), pc.equal(table["path"], name))
    matches = pc.fill_null(matches, False)
    if wanted["source"]:
        matches = pc.and_(matches, pc.equal(table["source"], wanted["source"]))
    return matches


def _match_columns(segments: SegmentColumns, wanted: dict[str, str]) -> np.ndarray:
    names = ("source", "recording", "speaker")
    columns = {
        name: pa.array([*segments.names[name], None], pa.string()).take(
            pa.array(segments.codes[name] % (len(segments.names[name]) + 1))
        )
        for name in names
    }
    matches = _match_table(pa.table({**columns, "path": segments.paths}), wanted)
    return np.asarray(matches.to_numpy())


def _take_decisions(decisions: Decisions, rows: np.ndarray) -> Decisions:
    """Returns the decisions about some rows, which keep what was decided about them."""
    place = np.full(len(decisions.reason) + 1, -1, np.int64)
    place[rows] = np.arange(len(rows))
    names = ("reason", "value", "threshold", "split", "is_near_duplicate", "shares_text")
    taken = {name: getattr(decisions, name)[rows] for name in names}
    return replace(decisions, **taken, other=place[decisions.other[rows]])
