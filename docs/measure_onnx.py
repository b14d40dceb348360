"""Measures the ONNX form of a recogniser against the model itself, and writes
`docs/results/23-onnx.json`.

    python docs/measure_onnx.py --model MODEL --corpus CORPUS --work DIRECTORY --machine '…'

`--where` chooses rows of the corpus.

Real speech of the splits test and dev through torch, onnxruntime (fp32 and int8) and sherpa-onnx,
each with one thread, and through a model of the shape of `base` with random weights. It needs the
extra `onnx`, and `pip install sherpa-onnx`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import NO_MACHINE, create_parser, parse_path, run_part, write_result

COMMAND = (
    "python docs/measure_onnx.py --model runs/hindi/model --corpus corpus "
    "--where source=noa_hindi --work DIRECTORY --machine '…'"
)
BATCH = 8
NUM_FOR_BASE = 8
_FILE = "waveforms.npz"


def read_speech(corpus: Path, language: str, where: str) -> tuple[list[Any], list[str]]:
    """Waveforms and transcripts of test and dev."""
    from speechvq.data.audio import decode_flac
    from speechvq.data.corpus import read_utterances

    waveforms, texts = [], []
    for row in read_utterances(corpus, splits=["test", "dev"], languages=[language], where=where):
        if row.text:
            waveforms.append(decode_flac(row.audio))
            texts.append(row.text)
    return waveforms, texts


def time_each(recognise: Callable[[Any], Any], waveforms: Sequence[Any]) -> tuple[list[Any], float]:
    """What `recognise` gives for each, and its processor seconds a second of audio."""
    recognise(waveforms[0])
    begin = time.process_time()
    rows = [recognise(waveform) for waveform in waveforms]
    seconds = sum(len(waveform) for waveform in waveforms) / 16_000
    return rows, (time.process_time() - begin) / seconds


def create_session(path: Path) -> Any:
    """A session with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options)


def run_alone(session: Any, waveform: Any) -> Any:
    """Log-probabilities of one waveform, (T, N)."""
    lengths = np.array([len(waveform)])
    log_probs, frames = session.run(None, {"waveform": waveform[None], "lengths": lengths})
    return log_probs[0, : frames[0]]


def run_batches(session: Any, waveforms: Sequence[Any]) -> list[Any]:
    """The same in padded batches."""
    rows = []
    for begin in range(0, len(waveforms), BATCH):
        part = waveforms[begin : begin + BATCH]
        lengths = np.array([len(waveform) for waveform in part])
        batch = np.zeros((len(part), lengths.max()), np.float32)
        for row, waveform in zip(batch, part, strict=True):
            row[: len(waveform)] = waveform
        log_probs, frames = session.run(None, {"waveform": batch, "lengths": lengths})
        rows += [row[:count] for row, count in zip(log_probs, frames, strict=True)]
    return rows


def compare(name: str, model: Path, waveforms: Sequence[Any], texts: Sequence[str] | None,
            work: Path, *, sherpa: bool) -> list[list[str]]:  # fmt: skip
    """The rows of the table for one model."""
    import jiwer
    import torch

    from speechvq.decoding.greedy import decode_best_path
    from speechvq.deploy.onnx_export import INT8_FILE, MODEL_FILE, export_onnx
    from speechvq.deploy.recognizer import Recognizer

    torch.set_num_threads(1)
    output = work / f"{model.parent.name}-onnx"
    shutil.rmtree(output, ignore_errors=True)
    (exported,) = export_onnx(model, output, int8=True)
    recognizer = Recognizer.load(model, device="cpu")
    language = exported.language
    vocabulary = recognizer.model.vocabularies[language]

    def decode(row: Any) -> str:
        return decode_best_path(torch.as_tensor(row), vocabulary)

    def describe(what: str, size: int, said: list[str], own: list[str], rows: list[Any] | None,
                 factor: float | None) -> list[str]:  # fmt: skip
        near = "–"
        if rows is not None:
            pairs = zip(rows, reference, strict=True)
            near = f"{max(float(np.abs(a - b).max()) for a, b in pairs):.1e}"
        same = sum(a == b for a, b in zip(said, own, strict=True))
        errors = "–" if texts is None else f"{100 * jiwer.cer(list(texts), said):.2f}"
        change = "–" if texts is None else f"{100 * jiwer.cer(own, said):.2f}"
        speed = "–" if factor is None else f"{factor:.4f}"
        return [f"{name}, {what}", f"{size / 1e6:.1f}", near, f"{same} of {len(own)}", errors,
                change, speed]  # fmt: skip

    found, factor = time_each(lambda one: recognizer.compute_log_probs([one], language)[0],
                              waveforms)  # fmt: skip
    reference = [row.numpy() for row in found]
    own = [decode(row) for row in found]
    weights = (model / "model.safetensors").stat().st_size
    table = [describe("torch", weights, own, own, None, factor)]
    for label, file in (("onnxruntime fp32", MODEL_FILE), ("onnxruntime int8", INT8_FILE)):
        session = create_session(output / file)
        size = exported.sizes[file]
        rows, factor = time_each(lambda one, session=session: run_alone(session, one), waveforms)
        table.append(describe(label, size, [decode(row) for row in rows], own, rows, factor))
        if file == MODEL_FILE:
            rows = run_batches(session, waveforms)
            said = [decode(row) for row in rows]
            table.append(describe(f"{label}, padded batches of {BATCH}", size, said, own, rows,
                                  None))  # fmt: skip
        if sherpa:
            said = run_part(__file__, "--sherpa", str(output / file), "--work", str(work))
            table.append(describe(label.replace("onnxruntime", "sherpa-onnx"), size, said, own,
                                  None, None))  # fmt: skip
    return table


def run_sherpa(model: Path, work: Path) -> None:
    """Prints, as JSON, what sherpa-onnx recognises with an exported file."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=str(model), tokens=str(model.parent / "tokens.txt"), num_threads=1
    )
    said = []
    with np.load(work / _FILE) as waveforms:
        for name in sorted(waveforms, key=int):
            stream = recognizer.create_stream()
            stream.accept_waveform(16_000, waveforms[name])
            recognizer.decode_stream(stream)
            said.append(" ".join(stream.result.text.replace("<unk>", "\u2047").split()))
    print(json.dumps(said))


def save_base(directory: Path, vocabulary: Any) -> Path:
    """A recogniser of the shape of `base` with random weights."""
    import torch

    from speechvq.models.build import create_ctc_model
    from speechvq.models.config import CTCModelConfig
    from speechvq.models.directory import save_model
    from speechvq.models.presets import create_preset

    torch.manual_seed(1)
    preset = create_preset("base")
    config = CTCModelConfig(
        features=preset.features, waveform=preset.waveform, encoder=preset.encoder
    )
    save_model(directory, create_ctc_model(config, {"hin_Deva": vocabulary}))
    return directory


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "work", needs_machine=False)
    parser.add_argument("--corpus", type=parse_path, help="what `prepare` made")
    parser.add_argument("--model", type=parse_path, help="a recogniser of one language")
    parser.add_argument("--where", default="source=noa_hindi", help="rows of the corpus")
    parser.add_argument("--sherpa", type=parse_path, help="part of the script: an exported file")
    options = parser.parse_args()
    if options.sherpa:
        run_sherpa(options.sherpa, options.work)
        return
    if not options.machine:
        sys.exit(NO_MACHINE)
    from speechvq.models.directory import load_ctc_model

    ((language, vocabulary),) = load_ctc_model(options.model).vocabularies.items()
    waveforms, texts = read_speech(options.corpus, language, options.where)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    np.savez(work / _FILE, **{str(i): waveform for i, waveform in enumerate(waveforms)})
    minutes = sum(map(len, waveforms)) / 960_000
    rows = compare("trained, filter banks", options.model, waveforms, texts, work, sherpa=True)
    base = save_base(work / "base" / "model", vocabulary)
    rows += compare("base, random weights", base, waveforms[:NUM_FOR_BASE], None, work,
                    sherpa=False)  # fmt: skip
    write_result(
        "23-onnx.json",
        title="Recognisers in ONNX",
        machine=options.machine,
        command=COMMAND,
        columns=["model", "file, MB", "largest |Δ log-probability|", "same text as torch",
                 "CER % against the transcripts", "CER % against torch's text",
                 "processor seconds a second of audio"],
        rows=rows,
        notes=[
            f"Greedy decoding of {len(waveforms)} utterances ({minutes:.1f} min) of test and dev; "
            f"{NUM_FOR_BASE} of them for base, whose weights are random.",
            "One utterance at a time and one thread, unless the line says otherwise; the export "
            "computes the rule of silence as well.",
            "int8: weights of matrix products with a scale a column, the front end in fp32 "
            "(onnxruntime's dynamic quantisation).",
            "sherpa-onnx 2.0: `OfflineRecognizer.from_omnilingual_asr_ctc`, which brings every "
            "waveform to zero mean and unit variance.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
