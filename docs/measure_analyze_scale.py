"""Measures analysing ten hours; writes `docs/results/30-analyze-scale.json`.

    python docs/measure_analyze_scale.py --corpus CORPUS --model MODEL --data DATA \
        --work DIRECTORY --machine '…'

Mboshi's training utterances are written again and again under new names until there are ten hours.
`analyze` runs over them in a process of its own, whose resident memory is read every second beside
what its progress line says. The slope is that of the least squares line through what was read while
the second half of the audio went by.
"""

from __future__ import annotations

import itertools
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from measuring import create_parser, parse_path, write_result

from speechvq.data.corpus import CorpusWriter, read_utterances

COMMAND = (
    "python docs/measure_analyze_scale.py --corpus corpus --model simvq2400/model --data data "
    "--work work --machine '…'"
)
HOURS = 10.0
_PROGRESS = re.compile(r"analyze:\s+(\d+)%")


def repeat_corpus(corpus: Path, output: Path, hours: float) -> None:
    """Write utterances under new names until there are so many hours."""
    if (output / "corpus.json").exists():
        return
    seconds = 0.0
    with CorpusWriter(output, normalizer="basic-1") as writer:
        for turn in itertools.count():
            for row in read_utterances(corpus, splits=["train"], languages=["mdw_Latn"]):
                writer.add(replace(row, id=f"{row.id}~{turn}", split="test"))
                seconds += row.num_seconds
                if seconds >= 3600 * hours:
                    return


def read_memory_of(process_id: int) -> float:
    """Resident memory of a process, MiB; NaN where it has ended."""
    try:
        text = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found.group(1)) / 1024 if found else float("nan")


def watch(command: list[str]) -> list[tuple[float, float]]:
    """Run a command; (share of the audio, MiB) every second while audio goes by."""
    readings: list[tuple[float, float]] = []
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(1)
            log.seek(0)
            text = log.read()
            if "section 1 of" not in text and (found := _PROGRESS.findall(text)):
                readings.append((int(found[-1]) / 100, read_memory_of(process.pid)))
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read())
    return [one for one in readings if np.isfinite(one[1])]


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "work")
    parser.add_argument("--model", type=parse_path, required=True, help="pretrained model")
    parser.add_argument("--data", type=parse_path, required=True, help="directory of the sources")
    options = parser.parse_args()
    corpus, output = options.work / "ten_hours", options.work / "ten_hours_analysis"
    repeat_corpus(options.corpus, corpus, HOURS)
    begin = time.perf_counter()
    readings = np.array(
        watch([
            sys.executable, "-m", "recipes.analyze", f"corpus={corpus}", f"model={options.model}",
            f"output={output}", f"alignments=[{options.data / 'mboshi' / 'phones.tsv'}]",
        ])
    )  # fmt: skip
    elapsed = time.perf_counter() - begin
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_time = usage.ru_utime + usage.ru_stime
    numbers = json.loads((output / "analysis.json").read_text(encoding="utf-8"))
    rows = read_utterances(
        options.corpus, splits=["train"], languages=["mdw_Latn"], columns=["num_samples"]
    )
    once = sum(row.num_seconds for row in rows) / 3600
    share, memory = readings.T
    late = share >= 0.5
    slope = np.polyfit(share[late] * numbers["hours"], memory[late], 1)[0]
    write_result(
        "30-analyze-scale.json",
        title="Analysing ten hours: speed and memory",
        machine=options.machine,
        command=COMMAND,
        columns=["what", "measured"],
        rows=[
            ["audio", f"{numbers['hours']:.2f} h, {numbers['num_frames']:,} frames of 40 ms"],
            ["codes, controls, phones, samples of 7 layers, attention of 200 utterances",
             f"{numbers['frames_per_second']:,.0f} frames a second, "
             f"{numbers['hours_per_minute']:.2f} hours a minute"],
            ["all, with statistics and report",
             f"{elapsed / 60:.1f} min, {processor_time / 60:.1f} min of CPU time"],
            ["resident memory at half of the audio", f"{memory[late][0]:,.0f} MiB"],
            ["at its end", f"{memory[-1]:,.0f} MiB"],
            ["slope in the second half", f"{slope:+.1f} MiB an hour of audio"],
        ],
        notes=[
            f"Every utterance occurs about {HOURS / once:.1f} times under new names. Memory is "
            "read every second while audio goes by; statistics come after it and are not counted.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
