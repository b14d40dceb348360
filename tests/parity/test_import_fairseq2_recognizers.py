"""Recognisers of fairseq2 (`wav2vec2_asr`, omnilingual-asr's CTC models) with their sentencepiece
tokenizer compute the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from speechvq.decoding.greedy import decode_greedy
from speechvq.errors import ModelError
from speechvq.models.importing_recognizers import LabelOptions, import_recognizer
from speechvq.models.interop_shapes import ImportOptions
from tests.support.parity import Comparison, create_batch, normalize, randomize

pytest.importorskip("fairseq2")
sentencepiece = pytest.importorskip("sentencepiece")

from fairseq2.data.tokenizers.sentencepiece import (  # noqa: E402
    RawSentencePieceTokenizer,
    SentencePieceModel,
)
from fairseq2.models.wav2vec2.asr import (  # noqa: E402
    Wav2Vec2AsrConfig,
    create_wav2vec2_asr_model,
)
from fairseq2.nn import BatchLayout  # noqa: E402

from tests.parity.test_import_fairseq2 import create_encoder_config  # noqa: E402

HEADS = ImportOptions(num_heads=4)


def train_tokenizer(folder: Path, **options: Any) -> Path:
    """A model of characters with fairseq2's control symbols: <s>, <pad>, </s>, <unk>."""
    ids = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3} | options
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["abc de", "edcba", "aab bcd"] * 5),
        model_prefix=str(folder / "characters"),
        model_type="char",
        minloglevel=2,
        **({"vocab_size": 10} | ids),
    )
    return folder / "characters.model"


def save_theirs(folder: Path) -> Any:
    torch.manual_seed(1)
    config = Wav2Vec2AsrConfig(
        encoder_config=create_encoder_config("layer", "pre"), target_vocab_size=10
    )
    theirs = create_wav2vec2_asr_model(config).eval()
    randomize(theirs)
    with torch.no_grad():
        theirs.final_proj.weight.normal_(std=0.3)
        waveform, lengths = create_batch()
        layout = BatchLayout.of(waveform, lengths.tolist())
        logits, _ = theirs(normalize(waveform, lengths), layout)
        theirs.final_proj.bias -= logits.mean((0, 1))  # labels share the frames
        theirs.final_proj.bias[1:4] = -100.0  # no training ever sees <pad>, </s> and <unk>
    torch.save({"model": theirs.state_dict()}, folder / "theirs.pt")
    return theirs


@torch.no_grad()
def test_recogniser_computes_the_same(tmp_path: Path, compare: Comparison) -> None:
    theirs, path = save_theirs(tmp_path), train_tokenizer(tmp_path)
    labels = LabelOptions(language="mul_Zyyy", path=path)
    options = {"labels": labels, "options": HEADS}
    ours = import_recognizer(tmp_path / "theirs.pt", tmp_path / "ours", **options).model
    waveform, lengths = create_batch()
    layout = BatchLayout.of(waveform, lengths.tolist())
    logits, _ = theirs(normalize(waveform, lengths), layout)
    output = ours(waveform, lengths, language="mul_Zyyy")
    valid = torch.arange(logits.size(1)) < output.lengths[:, None]
    compare("logits", output.logits[valid], logits[..., [0, 3, *range(4, 10)]][valid])
    # As omnilingual-asr decodes: repeats merged, and control symbols, the blank too, are no text.
    decode = RawSentencePieceTokenizer(SentencePieceModel(path)).create_decoder()
    texts = []
    for row, length in zip(logits, output.lengths.tolist(), strict=True):
        text = str(decode(row[:length].argmax(-1).unique_consecutive()))
        texts.append(" ".join(text.split()))
    assert decode_greedy(output.logits, output.lengths, ours.vocabularies["mul_Zyyy"]) == texts
    assert all(len(set(text)) > 1 for text in texts)


def test_tokenizer_must_be_given_and_must_fit(tmp_path: Path) -> None:
    save_theirs(tmp_path)
    (tmp_path / "text.model").write_text("no model")
    train_tokenizer(tmp_path, bos_id=-1, eos_id=-1, pad_id=-1, unk_id=0, vocab_size=7)
    for path, message in [
        (None, "`--labels` must be the sentencepiece model"),
        (tmp_path / "nothing.model", "cannot be read"),
        (tmp_path / "text.model", "must be a sentencepiece model, but is none"),
        (tmp_path / "characters.model", "must have 10 pieces, .* but has 7"),
    ]:
        labels = LabelOptions(language="mul_Zyyy", path=path)
        with pytest.raises(ModelError, match=message):
            import_recognizer(tmp_path / "theirs.pt", tmp_path / "x", labels=labels, options=HEADS)
