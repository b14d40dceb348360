"""Preparation against IndicWav2Vec's: time by step, hostile files, and workers.

    python -m docs.measure_prepare_chain --audio DIRECTORY --work DIRECTORY --machine '…'

Three measurements, chosen with `--only`, each a file of `docs/results`:

    chain    16-prepare-chain.json    CPU seconds an hour of audio, by step: the reference
             (`docs/reference_chain.py`), ours with WebRTC's detector, ours with Silero; recordings
             are joined from clips of `--audio`, as Ogg/Opus and as FLAC
    hostile  16-prepare-hostile.json  what each chain keeps of the hostile files of the tests
    workers  16-prepare-workers.json  time and digests with one and two processes, and on Dask

Chains take turns, each run in a process of its own that has imported everything before the clock
starts; the clock is CPU time of that process and of those that it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import hashlib
import importlib
import json
import resource
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from docs.measuring import NO_MACHINE, create_parser, run_part, write_result
from speechvq.data.audio import load_audio
from speechvq.data.claims import claim_output
from speechvq.data.clips import measure_part
from speechvq.data.config import PrepareConfig, SegmentConfig
from speechvq.data.corpus import read_utterances
from speechvq.data.decoder import Decoder, end_idle_processes
from speechvq.data.prepare import prepare_corpus
from speechvq.data.prepare_plan import plan_preparation
from speechvq.data.records import SAMPLE_RATE

COMMAND = (
    "python -m docs.measure_prepare_chain --audio ../shared/data/noa_hindi --work work "
    "--machine '…' --only {}"
)
CHAINS = ("reference", "webrtc", "silero")
FORMATS: dict[str, dict[str, str]] = {
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "flac": {"format": "FLAC"},
}
DECODE, VAD, CUT, REST = "decode", "VAD", "cut", "rest"
START, REPORT = "start of the decoder", "summary, report (once a corpus)"
FLAC, PARQUET = "FLAC", "Parquet, journal"
WADA = "WADA (ours: levels, clipping, DC, WADA)"
STEPS = {
    "speechvq.data.decoder.Decoder.decode": "pipe from the decoder",
    "speechvq.data.clips.compute_speech_probabilities": VAD,
    "speechvq.data.clips.compute_webrtc_probabilities": VAD,
    "speechvq.data.clips._choose_spans": CUT,
    "speechvq.data.loading.measure_sound_seconds": "seconds of sound",
    "speechvq.data.measure.measure_loudness": WADA,
    "speechvq.data.measure.estimate_vad_snr": "SNR by VAD",
    "speechvq.data.measure.measure_integrated_loudness": "loudness (LUFS)",
    "speechvq.data.measure.measure_dropouts": "dropouts",
    "speechvq.data.spectrum.compute_power": "spectrum",
    "speechvq.data.spectrum.find_bandwidth": "bandwidth",
    "speechvq.data.spectrum.measure_variation": "variation",
    "speechvq.data.spectrum.measure_tones": "tones",
    "speechvq.data.spectrum.compute_fingerprint": "fingerprint",
    "speechvq.data.measure.digest_samples": "digest",
    "speechvq.data.clips.encode_flac": FLAC,
    "speechvq.data.piece_writer.encode_flac": FLAC,
    "speechvq.data.segment_table.SegmentWriter.add": PARQUET,
    "speechvq.data.segment_table.SegmentWriter.close": PARQUET,
    "speechvq.data.prepare.decide": "splits, limits",
    "speechvq.data.prepare.write_part_file": "part files",
    "speechvq.data.prepare.complete_corpus": REPORT,
}
"""Our functions by the step that they count for; a function inside another counts for its own."""


class Stages:
    """CPU seconds of this process by step; a step inside another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts what runs inside."""
        self._inner.append(0.0)
        begin = time.process_time()
        try:
            yield
        finally:
            elapsed = time.process_time() - begin
            self.seconds[name] += elapsed - self._inner.pop()
            self._inner[-1] += elapsed

    def watch(self, path: str, name: str) -> None:
        """Counts every call of a function, by its dotted name, for a step."""
        *place, last = path.split(".")
        owner: Any = importlib.import_module(".".join(place[:3]))
        for part in place[3:]:
            owner = getattr(owner, part)
        function = getattr(owner, last)

        @functools.wraps(function)
        def counted(*args: Any, **keys: Any) -> Any:
            with self(name):
                return function(*args, **keys)

        setattr(owner, last, counted)


def create_recordings(audio: Path, work: Path, minutes: float) -> float:
    """Joins clips to recordings of five minutes, in each format.

    Args:
        audio: Where clips lie, at any depth.
        work: Gets a directory with a manifest for each format.
        minutes: How much.

    Returns:
        Hours.
    """
    paths = sorted(path for path in audio.rglob("*") if path.suffix in (".ogg", ".flac", ".mp3"))
    rows = ["path\tlanguage"]
    done = 0
    for number in range(-(-int(minutes) // 5)):
        size = int(min(5.0, minutes - 5 * number) * 60 * SAMPLE_RATE)
        clips = []
        while sum(map(len, clips)) < size:
            clips.append(load_audio(paths.pop(0)).waveform)
        samples = np.concatenate(clips)[:size]
        done += size
        rows.append(f"{number:03d}.audio\thin_Deva")
        for name, options in FORMATS.items():
            (work / name).mkdir(parents=True, exist_ok=True)
            soundfile.write(work / name / f"{number:03d}.audio", samples, SAMPLE_RATE, **options)
    for name in FORMATS:
        (work / name / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return done / SAMPLE_RATE / 3600


def count_cpu() -> float:
    """Returns CPU seconds of this process and of those that it has waited for."""
    return time.process_time() + count_others()


def count_others() -> float:
    """Returns CPU seconds of the processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_chain(chain: str, source: Path, output: Path) -> dict[str, float]:
    """Runs one chain in this process.

    Returns:
        CPU seconds by step, `rest` and `total`; wall seconds as `wall`.
    """
    stages = Stages()
    start = 0.0 if chain == "reference" else measure_start(output.parent)
    if chain == "reference":
        from docs.reference_chain import run_reference

        files = sorted(source.glob("*.audio"))
        run: Callable[[], object] = functools.partial(run_reference, files, output, stages)
    else:
        run = prepare_ours(chain, source, output, stages)
    others, begin, wall = count_others(), count_cpu(), time.monotonic()
    run()
    total, others = count_cpu() - begin, count_others() - others
    if chain != "reference":
        stages.seconds[START] = start
        stages.seconds[DECODE] = others - start
    rest = total - sum(stages.seconds.values())
    return {**stages.seconds, REST: rest, "total": total, "wall": time.monotonic() - wall}


def prepare_ours(chain: str, source: Path, output: Path, stages: Stages) -> Callable[[], object]:
    """Returns our whole chain, to be run in this process; imports, models and tables are loaded."""
    import torch

    torch.set_num_threads(1)
    importlib.import_module("speechvq.data.prepare_report")
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    from speechvq.data import loudness, vad, webrtc

    vad.compute_speech_probabilities([noise])
    webrtc.compute_webrtc_probabilities(noise)
    loudness.measure_integrated_loudness(noise)
    pa.array([1])  # imports pandas where it is installed
    for path, name in STEPS.items():
        stages.watch(path, name)
    config = PrepareConfig(
        input=[str(source)], output=str(output), workers=1, segment=SegmentConfig(vad=chain)
    )

    def run() -> None:
        plan = plan_preparation(config)
        claim_output(output, config, plan.rows, plan.rejections)
        for part in plan.parts:
            measure_part(part, config)
        end_idle_processes()  # which counts what they took
        prepare_corpus(config)  # finds everything measured

    return run


def measure_start(directory: Path) -> float:
    """Returns the CPU seconds of a process that decodes nothing worth the name, median of three."""
    directory.mkdir(parents=True, exist_ok=True)
    soundfile.write(directory / "short.flac", np.zeros(160), SAMPLE_RATE)
    found = []
    for _ in range(3):
        begin = count_others()
        with Decoder(directory) as decoder:
            decoder.decode(
                str(directory), "short.flac", num_bytes=99, max_seconds=9
            ).samples.close()
        end_idle_processes()
        found.append(count_others() - begin)
    return statistics.median(found)


def measure_chains(options: argparse.Namespace) -> None:
    """Lets the chains take turns and writes the table of their steps."""
    hours = create_recordings(options.audio, options.work / "recordings", options.minutes)
    runs: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for _ in range(options.repeats):
        for name in FORMATS:
            for chain in CHAINS:
                source = options.work / "recordings" / name
                runs[name, chain].append(run_apart(chain, source, options.work / "run"))
                print(name, chain, json.dumps(runs[name, chain][-1]), flush=True)
    keys = list(runs)
    names = list(dict.fromkeys(name for key in keys for name in runs[key][0]))
    names = [*(name for name in names if name not in (REST, "total", "wall")), REST]
    medians = {
        key: {name: statistics.median(run.get(name, 0) for run in runs[key]) / hours
              for name in (*names, "total", "wall")}
        for key in keys
    }  # fmt: skip
    rows = [
        [name, *(f"{medians[key][name]:.2f}" if medians[key][name] else "–" for key in keys)]
        for name in sorted(names, key=lambda name: (name == REST, not name.startswith("decode")))
    ]
    floors = {key: medians[key][DECODE] + medians[key][VAD] for key in keys if key[1] != CHAINS[0]}
    total = {key: medians[key]["total"] for key in keys}
    once = {key: medians[key][START] + medians[key][REPORT] for key in keys}
    for name, sums in (
        ("all", total),
        ("all but start and report", {key: total[key] - once[key] for key in keys}),
    ):
        times = {key: sums[key[0], CHAINS[0]] / sums[key] for key in keys}
        shares = {key: f"{sums[key] / floors[key]:.2f}" if key in floors else "–" for key in keys}
        rows += [
            [name, *(f"{sums[key]:.2f}" for key in keys)],
            [f"{name}: hours a core-hour", *(f"{3600 / sums[key]:.0f}" for key in keys)],
            [f"{name}: speed, times the reference", *(f"{times[key]:.2f}" for key in keys)],
            [f"{name}: times its decode + VAD", *shares.values()],
        ]
    rows.append(["wall, s an hour", *(f"{medians[key]['wall']:.2f}" for key in keys)])
    write_result(
        "16-prepare-chain.json",
        title="Preparation against IndicWav2Vec's chain: CPU seconds an hour of audio",
        machine=options.machine,
        command=COMMAND.format("chain"),
        columns=["step", *(f"{chain}, {name}" for name, chain in keys)],
        rows=rows,
        notes=[
            f"{60 * hours:.0f} min of {options.audio.name}, joined to recordings of 5 min "
            f"without transcripts; medians of {options.repeats} runs that take turns, one "
            "thread. Start-up of Python and of the models is not counted, that of our decoder "
            "is, once.",
            "The reference is rebuilt from its description (docs/reference_chain.py): FFmpeg "
            "through PyAV, webrtcvad, WADA with Python's sum over the samples as published, "
            "chunks of 20 s, WAV files between steps. It measures one number where ours "
            "measures fourteen.",
        ],
    )


def run_apart(chain: str, source: Path, output: Path) -> dict[str, float]:
    """Runs one chain in a process of its own, on one thread."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found: dict[str, float] = run_part(
        "-m", "docs.measure_prepare_chain", "--run", chain, "--audio", str(source),
        "--work", str(output), environment=threads,
    )  # fmt: skip
    return found


def measure_hostile(options: argparse.Namespace) -> None:
    """Gives the hostile files of the tests to both chains and writes what each keeps."""
    from docs.reference_chain import run_reference
    from tests.unit.data.conftest import write_manifest
    from tests.unit.data.hostile import make_hostile

    root = options.work / "hostile" / "in"
    shutil.rmtree(root.parent, ignore_errors=True)
    clips = make_hostile(root)
    write_manifest(root, [{"path": clip.name, "language": "hin_Deva"} for clip in clips])
    reference = run_reference([root / clip.name for clip in clips], root.parent / "reference")
    kept: dict[str, dict[str, float]] = {"reference": reference}
    reasons: dict[str, dict[str, str]] = {}
    for vad in CHAINS[1:]:
        corpus = prepare_corpus(
            PrepareConfig(
                input=[str(root)],
                output=str(root.parent / vad),
                workers=1,
                segment=SegmentConfig(vad=vad),
            )
        )
        kept[vad] = defaultdict(float)
        for row in read_utterances(corpus, columns=["path", "num_samples"]):
            kept[vad][row.path] += row.num_seconds
        reasons[vad] = read_reasons(corpus / "rejected.tsv")
    rows = []
    for clip in clips:
        expected = " or ".join(clip.reasons) or "kept"
        row = [clip.name, expected, describe(reference[clip.name], "")]
        row += [describe(kept[vad][clip.name], reasons[vad].get(clip.name, "")) for vad in reasons]
        rows.append(row)
    rows += [
        [f"{kind} files kept, of {len(group)}", "",
         *(sum(kept[chain][clip.name] > 0 for clip in group) for chain in kept)]
        for kind, group in (
            ("bad", [clip for clip in clips if clip.reasons != ("",)]),
            ("good", [clip for clip in clips if clip.reasons == ("",)]),
        )
    ]  # fmt: skip
    write_result(
        "16-prepare-hostile.json",
        title="Hostile files: what IndicWav2Vec's chain and ours keep",
        machine=options.machine,
        command=COMMAND.format("hostile"),
        columns=["file", "should be", "reference", "ours, webrtc", "ours, Silero"],
        rows=rows,
        notes=[
            "Seconds kept, or the reason why not; files are those of "
            "tests/unit/data/hostile.py. A voice that is made up has an SNR of its own, so "
            "that the reference's limit of 15 dB may reject what is good."
        ],
    )


def read_reasons(path: Path) -> dict[str, str]:
    """Returns the first reason of every file of `rejected.tsv` with seconds, else its first."""
    found: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        if float(row["seconds"]) > 0 or row["path"] not in found:
            found[row["path"]] = row["reason"]
    return found


def describe(seconds: float, reason: str) -> str:
    """Returns a cell of the table."""
    return f"{seconds:.2f} s" if seconds else reason or "nothing"


def measure_workers(options: argparse.Namespace) -> None:
    """Prepares the same input with one and two processes, and on a cluster of two."""
    from dask.distributed import LocalCluster

    hours = create_recordings(options.audio, options.work / "recordings", options.minutes)
    outputs = options.work / "workers"
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    rows = []
    base: dict[str, Any] = {
        "input": [str(options.work / "recordings" / "opus")],
        "part_minutes": 5.0,
        "segment": SegmentConfig(vad="silero"),
    }
    for name, workers in (("1 local process", 1), ("2 local processes", 2)):
        output = outputs / str(workers)
        begin = time.monotonic()
        prepare_corpus(PrepareConfig(output=str(output), workers=workers, **base))
        rows.append([name, f"{time.monotonic() - begin:.1f}", digest_corpus(output)])
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        output = outputs / "dask"
        begin = time.monotonic()
        prepare_corpus(
            PrepareConfig(output=str(output), dask_scheduler=cluster.scheduler_address, **base)
        )
        seconds = time.monotonic() - begin
        rows.append(["Dask, 2 worker processes", f"{seconds:.1f}", digest_corpus(output)])
    write_result(
        "16-prepare-workers.json",
        title="Preparation with one and two workers, locally and on Dask",
        machine=options.machine,
        command=COMMAND.format("workers"),
        columns=["workers", "wall, s", "digest of tables and part files"],
        rows=rows,
        notes=[
            f"{60 * hours:.0f} min of Ogg/Opus in pieces of work of 5 min, Silero; wall time "
            "from the call to the complete corpus, start of local processes included, that of "
            "the cluster not."
        ],
    )


def digest_corpus(corpus: Path) -> str:
    """Returns a digest of the names and bytes of all Parquet files."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(corpus.rglob("*.parquet")):
        digest.update(str(path.relative_to(corpus)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


MEASUREMENTS = {"chain": measure_chains, "hostile": measure_hostile, "workers": measure_workers}


def main() -> None:
    """Measures what `--only` names, or everything."""
    parser = create_parser(__doc__, "work", needs_machine=False)
    parser.add_argument("--audio", type=Path, help="clips of speech, at any depth")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(MEASUREMENTS), action="append")
    parser.add_argument("--run", choices=CHAINS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_chain(options.run, options.audio, options.work / "out")))
        return
    if not options.machine:
        parser.error(NO_MACHINE)
    for name in options.only or MEASUREMENTS:
        MEASUREMENTS[name](options)


if __name__ == "__main__":
    main()
