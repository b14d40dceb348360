"""Measures the transcription of a long recording, and writes
`docs/results/24-long-recording.json`.

    python docs/measure_long_recording.py --corpus CORPUS --work DIRECTORY --machine '…' \
        --model MODEL --language hin_Deva

Utterances of the corpus are joined to one FLAC file of three hours, and to its first 30 s and first
half hour. Each is transcribed by `speechvq transcribe`, in a process of its own. Memory is that
process's highest less what it has when torch is imported; the process that decodes the audio is
counted beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import create_parser, parse_path, read_memory, run_part, write_result
from numpy.typing import NDArray

COMMAND = (
    "python docs/measure_long_recording.py --corpus corpus --work work --model hindi/model "
    "--language hin_Deva --threads 1 --machine '…'"
)
RATE = 16_000
LENGTHS = {"30 s": 30, "30 min": 30 * 60, "3 h": 3 * 3600}
"""Name in the table: seconds."""
_POLL_SECONDS = 0.1


def read_waveforms(corpus: Path, language: str) -> Iterator[NDArray[np.float32]]:
    """Yield the utterances of a corpus, those of one language first."""
    from speechvq.data.audio import decode_flac
    from speechvq.data.corpus import list_partitions, read_utterances

    others = {part.language for part in list_partitions(corpus)} - {language}
    for name in (language, *sorted(others)):
        for row in read_utterances(corpus, languages=[name], columns=["audio"]):
            yield decode_flac(row.audio)


def write_recordings(corpus: Path, language: str, work: Path) -> dict[str, Path]:
    """Write the recordings; returns them by name."""
    import soundfile

    work.mkdir(parents=True, exist_ok=True)
    paths = {name: work / f"{seconds}s.flac" for name, seconds in LENGTHS.items()}
    files = {
        path: (soundfile.SoundFile(path, "w", RATE, 1, format="FLAC"), LENGTHS[name] * RATE)
        for name, path in paths.items()
    }
    written = 0
    for waveform in read_waveforms(corpus, language):
        for file, length in files.values():
            file.write(waveform[: max(0, length - written)])
        written += len(waveform)
        if written >= max(length for _, length in files.values()):
            break
    else:
        raise SystemExit(f"{corpus} holds {written / RATE / 3600:.1f} h only; 3 h are needed.")
    for file, _ in files.values():
        file.close()
    return paths


def transcribe(options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Transcribe a file in this process; returns what it took."""
    import torch

    from recipes.transcribe import main as run_transcribe

    torch.set_num_threads(options.threads)
    torch.ones(256, 256) @ torch.ones(256, 256)  # the libraries that multiply are loaded late
    before = read_memory("VmHWM")
    decoders = [0]
    threading.Thread(target=_watch_children, args=(decoders,), daemon=True).start()
    sys.argv = [
        "transcribe", str(options.part), "--model", str(options.model), "--device", "cpu",
        "--language", options.language, "--output-dir", str(output), "--output-format", "json,txt",
        "--overwrite",
    ]  # fmt: skip
    begin = time.perf_counter()
    code = run_transcribe()
    seconds = time.perf_counter() - begin
    times = os.times()
    return {
        "code": code,
        "seconds": seconds,
        "cpu_seconds": sum(times[:4]),
        "import_mib": before / 1024,
        "mib": (read_memory("VmHWM") - before) / 1024,
        "decoder_mib": decoders[0] / 1024,
    }


def _watch_children(highest: list[int]) -> None:
    """Keep the highest memory of all child processes together, in KiB."""
    while True:
        total = 0
        for children in Path("/proc/self/task").glob("*/children"):
            try:
                for child in children.read_text(encoding="ascii").split():
                    status = Path(f"/proc/{child}/status").read_text(encoding="ascii")
                    total += int(status.partition("VmHWM:")[2].split()[0])
            except (OSError, IndexError):
                continue  # it has ended
        highest[0] = max(highest[0], total)
        time.sleep(_POLL_SECONDS)


def read_words(output: Path, path: Path) -> list[dict[str, Any]]:
    """Words of a transcript, with times and confidences."""
    document = json.loads((output / f"{path.stem}.json").read_text(encoding="utf-8"))
    return [word for segment in document["segments"] for word in segment["words"]]


def count_equal(alone: list[dict[str, Any]], together: list[dict[str, Any]]) -> int:
    """How many words from the first on are the same, times and confidences included."""
    number = 0
    while number < min(len(alone), len(together)) and alone[number] == together[number]:
        number += 1
    return number


def measure(options: argparse.Namespace) -> None:
    """Do everything and write it down."""
    paths = write_recordings(options.corpus, options.language, options.work)
    output = options.work / "transcripts"
    rows, found, words = [], {}, {}
    for name, path in paths.items():
        found[name] = run_part(
            str(Path(__file__).resolve()), *sys.argv[1:], "--part", str(path),
            environment={"OMP_NUM_THREADS": str(options.threads)},
        )  # fmt: skip
        if found[name]["code"]:
            raise SystemExit(f"`speechvq transcribe` left with {found[name]['code']} at {path}.")
        words[name] = read_words(output, path)
        alone, *_ = words.values()
        one, length = found[name], LENGTHS[name]
        rows.append(
            [
                name, f"{path.stat().st_size / 2**20:.0f}", f"{len(words[name]):,}",
                f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}",
                f"{length / one['seconds']:.0f}", f"{length / one['cpu_seconds']:.0f}",
                f"{one['mib']:.0f}", f"{one['decoder_mib']:.0f}",
                f"{count_equal(alone, words[name])} of {len(alone)}",
            ]
        )  # fmt: skip
    last = list(LENGTHS)[-1]
    equal = count_equal(words["30 s"], words[last])
    write_result(
        "24-long-recording.json",
        title="Transcribing a recording of three hours",
        machine=options.machine,
        command=COMMAND,
        columns=["recording", "file, MiB", "words", "wall s", "CPU s", "x real time (wall)",
                 "x real time (CPU)", "MiB above torch imported", "decoding process, MiB",
                 "first words as in 30 s alone"],
        rows=rows,
        notes=[
            f"`speechvq transcribe`, greedy, threads: {options.threads}, one FLAC file, utterances "
            "joined without pauses, so that the end of the 30 s cuts a word. Wall time is from "
            "loading the model on; CPU time is of both processes, imports included. Equal words "
            "are equal in times and confidences, too; the promise is all but the one at the end.",
            f"An interpreter with torch imported has {found[last]['import_mib']:.0f} MiB. "
            "Memory is the highest (`VmHWM`); the bound is 1 GB above torch.",
        ],
        headline=[
            {
                "what": f"a recording of {last} through `speechvq transcribe`: memory "
                "above an interpreter with torch imported, speed, first words as in the first 30 s "
                "alone",
                "figure": f"{found[last]['mib'] + found[last]['decoder_mib']:.0f} MiB, "
                f"{LENGTHS[last] / found[last]['seconds']:.0f} x real time, {equal} of "
                f"{len(words['30 s'])}",
            }
        ],
    )  # fmt: skip


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "work")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=parse_path, required=True, help="a recogniser")
    parser.add_argument("--language", default="hin_Deva", help="its head (default: hin_Deva)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    parser.add_argument("--part", type=parse_path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is None:
        measure(options)
        return
    output = options.work / "transcripts"
    print(json.dumps(transcribe(options, output)))


if __name__ == "__main__":
    main()
