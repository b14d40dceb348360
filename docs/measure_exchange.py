"""Measures the exchange of recognisers with transformers; writes `docs/results/22-exchange.json`.

    python docs/measure_exchange.py --corpus CORPUS --work DIRECTORY --machine 'what it ran on'

On a few utterances of real speech: recognisers of ours with random weights, of the shape of wav2vec
2.0 base and of one with layer norm, are exported and run by transformers with its own processor,
one utterance at a time and as a padded batch; a Wav2Vec2ForCTC of base size with random weights is
imported. A few minutes on one core; needs transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from measuring import create_parser, write_result
from torch import Tensor

from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.decoding.greedy import decode_greedy
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, FeatureNorm, WaveformConfig
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import save_model
from speechvq.models.exporting import export_model
from speechvq.models.importing_recognizers import LabelOptions, import_recognizer
from speechvq.models.vocabulary import build_character_vocabulary

LANGUAGE = "hin_Deva"
SOURCE = "source=noa_hindi"
MAX_SECONDS, NUM_UTTERANCES = 6.0, 4
COMMAND = "python docs/measure_exchange.py --corpus corpus --work work --machine '…'"
Speech = list[Any]
"""Waveforms, float32 (S,)."""


def read_speech(corpus: Path) -> tuple[Speech, list[str]]:
    """A few short utterances of different length, and their texts."""
    waveforms, texts = [], []
    for row in read_utterances(corpus, splits=["test"], languages=[LANGUAGE], where=SOURCE):
        if row.num_samples <= MAX_SECONDS * 16_000 and row.text:
            waveforms.append(decode_flac(row.audio))
            texts.append(row.text)
        if len(texts) == NUM_UTTERANCES:
            break
    return waveforms, texts


def spread(bias: Tensor, logits: Tensor) -> None:
    """Shift a head so that its labels share the frames: a random one would give all to one."""
    bias -= logits.flatten(0, -2).mean(0)


@torch.no_grad()
def create_recognizer(norm: FeatureNorm, speech: Speech, texts: list[str]) -> CTCModel:
    """Random weights, of the shape of wav2vec 2.0 base; with layer norm pre-norm."""
    is_layer = norm is FeatureNorm.layer
    config = CTCModelConfig(
        waveform=WaveformConfig(norm=norm, bias=is_layer, normalize=is_layer),
        encoder=EncoderConfig(norm_first=is_layer),
    )
    torch.manual_seed(0)
    model = create_ctc_model(config, {LANGUAGE: build_character_vocabulary(texts)}).eval()
    waveform = torch.as_tensor(speech[0])[None]
    logits = model(waveform, torch.tensor([waveform.size(1)]), language=LANGUAGE).logits
    spread(model.heads[LANGUAGE].bias, logits)
    return model


@torch.no_grad()
def create_theirs(directory: Path, speech: Speech, texts: list[str]) -> None:
    """A Wav2Vec2ForCTC of base size with random weights, its blank last among the labels."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})
    labels = ["|", *letters, "[UNK]", "[PAD]"]
    directory.mkdir(parents=True)
    vocabulary = {label: index for index, label in enumerate(labels)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(
        str(directory / "vocab.json"), unk_token="[UNK]", pad_token="[PAD]",
        bos_token=None, eos_token=None,
    )  # fmt: skip
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(directory)
    torch.manual_seed(0)
    theirs = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(labels), pad_token_id=len(labels) - 1))
    inputs = extractor(speech[0], sampling_rate=16_000, return_tensors="pt")
    spread(theirs.lm_head.bias, theirs.eval()(inputs.input_values).logits)
    theirs.save_pretrained(directory)


@torch.no_grad()
def compare(ours: CTCModel, directory: Path, speech: Speech, *, padded: bool) -> list[str]:
    """Run both; returns the largest difference and how many texts are the same."""
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    theirs = Wav2Vec2ForCTC.from_pretrained(directory).eval()
    processor = Wav2Vec2Processor.from_pretrained(directory)
    num_same, largest, texts = 0, 0.0, set()
    for batch in [speech] if padded else [[one] for one in speech]:
        inputs = processor(batch, sampling_rate=16_000, padding=True, return_tensors="pt")
        expected = theirs(**inputs).logits
        lengths = torch.tensor([len(one) for one in batch])
        waveform = torch.zeros(len(batch), int(lengths.max()))
        for row, one in zip(waveform, batch, strict=True):
            row[: len(one)] = torch.as_tensor(one)
        output = ours(waveform, lengths, language=LANGUAGE)
        vocabulary = ours.vocabularies[LANGUAGE]
        decoded = decode_greedy(output.logits, output.lengths, vocabulary)
        tokenizer = processor.tokenizer
        names = {"|": tokenizer.word_delimiter_token, "<pad>": tokenizer.pad_token,
                 "<unk>": tokenizer.unk_token}  # fmt: skip
        rows = tokenizer.convert_tokens_to_ids([names.get(x, x) for x in vocabulary.labels])
        for number, length in enumerate(output.lengths.tolist()):
            scores = expected[number, :length]
            difference = (output.logits[number, :length] - scores[:, rows]).abs().max()
            largest = max(largest, float(difference))
            text = processor.decode(scores.argmax(-1)).replace(tokenizer.unk_token, "\u2047")
            num_same += " ".join(text.split()) == decoded[number]
            texts.add(decoded[number])
    letters = sum(len(text) for text in texts)
    return [f"{largest:.1e}", f"{num_same} of {len(speech)} ({letters} characters)"]


def measure(corpus: Path, work: Path, machine: str) -> None:
    """Measure all and write the JSON."""
    torch.set_num_threads(1)
    speech, texts = read_speech(corpus)
    rows = []
    for norm in FeatureNorm:
        ours = create_recognizer(norm, speech, texts)
        save_model(work / f"ours_{norm.value}", ours)
        if not (work / f"theirs_{norm.value}").exists():
            export_model(work / f"ours_{norm.value}", work / f"theirs_{norm.value}")
        for padded in (False, True):
            found = compare(ours, work / f"theirs_{norm.value}", speech, padded=padded)
            way = "one padded batch" if padded else "one at a time"
            rows.append([f"export, base, {norm.value} norm", way, *found])
            print(rows[-1], flush=True)
    if not (work / "theirs").exists():
        create_theirs(work / "theirs", speech, texts)
    labels = LabelOptions(language=LANGUAGE)
    imported = import_recognizer(work / "theirs", work / "ours", labels=labels).model
    rows.append(["import, base", "one at a time",
                 *compare(imported, work / "theirs", speech, padded=False)])  # fmt: skip
    seconds = sum(len(one) for one in speech) / 16_000
    write_result(
        "22-exchange.json",
        title="Recognisers there and back: the same scores and text in transformers",
        machine=machine,
        command=COMMAND,
        columns=["way", "utterances", "largest difference of logits", "same text"],
        rows=rows,
        notes=[
            f"{len(speech)} utterances of NOA Hindi ({seconds:.1f} s), random weights of 95 M "
            "parameters, heads shifted so that their labels share the frames; fp32, transformers' "
            "own processor and tokenizer, spaces in a row counted as one.",
            "With group norm and the default `waveform.masked_statistics=true` a padded batch "
            "differs, as said in docs/importing.md: transformers counts the padding in the "
            "statistics. One utterance at a time, and with layer norm always, nothing does.",
        ],
    )


def main() -> None:
    """Measure."""
    options = create_parser(__doc__, "corpus", "work").parse_args()
    measure(options.corpus, options.work, options.machine)


if __name__ == "__main__":
    main()
