"""Recognisers of fairseq compute the same as the Wav2Vec2ForCTC that has their weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from speechvq.decoding.greedy import decode_greedy
from speechvq.errors import ModelError
from speechvq.models.importing import import_model
from speechvq.models.importing_recognizers import LabelOptions, import_recognizer
from tests.parity.test_import_fairseq import create_settings, to_fairseq
from tests.parity.test_import_files import Bomb
from tests.support.huggingface import create_theirs
from tests.support.parity import Comparison, create_batch, normalize, randomize

transformers = pytest.importorskip("transformers")
omegaconf = pytest.importorskip("omegaconf")

DICTIONARY = "| 90\nक 40\nख 30\nि 20 #fairseq:overwrite\n"
HINDI = LabelOptions(language="hin_Deva")


def save_checkpoint(folder: Path, way: str = "new", **weights: Any) -> Any:
    """Writes `checkpoint_best.pt` and `dict.ltr.txt`; returns the same model of transformers."""
    config = create_theirs("layer").config
    config.vocab_size = 8
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2ForCTC(config).eval()
    randomize(theirs)
    torch.nn.init.normal_(theirs.lm_head.weight, std=0.3)
    encoder = {k: v for k, v in theirs.state_dict().items() if not k.startswith("lm_head.")}
    state = {f"w2v_encoder.w2v_model.{k}": v for k, v in to_fairseq(encoder, "layer").items()}
    state["w2v_encoder.proj.weight"] = theirs.lm_head.weight.data
    state["w2v_encoder.proj.bias"] = theirs.lm_head.bias.data
    settings = create_settings("layer")
    if way == "new":
        pretraining = {"model": settings, "task": {"_name": "audio_pretraining"}}
        model = {"_name": "wav2vec_ctc", "w2v_args": pretraining, "final_dropout": 0.25}
        finetuning = {"model": model | {"layerdrop": 0.125}}
        finetuning["task"] = {"_name": "audio_finetuning", "normalize": True, "labels": "ltr"}
        checkpoint = {"args": None, "cfg": omegaconf.OmegaConf.create(finetuning)}
    else:
        inner = argparse.Namespace(**settings)
        outer = {"arch": "wav2vec_ctc", "w2v_args": inner, "normalize": True, "layerdrop": 0.125}
        checkpoint = {"args": argparse.Namespace(**outer, final_dropout=0.25)}
    torch.save(checkpoint | {"model": state | weights}, folder / "checkpoint_best.pt")
    (folder / "dict.ltr.txt").write_text(DICTIONARY)
    return theirs


@pytest.mark.parametrize("way", ["new", "old"])
@torch.no_grad()
def test_recogniser_computes_the_same(tmp_path: Path, compare: Comparison, way: str) -> None:
    theirs = save_checkpoint(tmp_path, way)
    imported = import_recognizer(tmp_path / "checkpoint_best.pt", tmp_path / "ours", labels=HINDI)
    assert imported.assumed == {}
    config = imported.model.config
    assert (config.encoder.layer_drop_prob, config.dropout_final) == (0.125, 0.25)
    vocabulary = imported.model.vocabularies["hin_Deva"]
    assert vocabulary.labels == ("<pad>", "<unk>", "|", "<s>", "</s>", "क", "ख", "ि")
    waveform, lengths = create_batch()
    mask = torch.arange(waveform.size(1)) < lengths[:, None]
    logits = theirs(normalize(waveform, lengths), attention_mask=mask).logits
    output = imported.model(waveform, lengths, language="hin_Deva")
    valid = torch.arange(logits.size(1)) < output.lengths[:, None]
    expected = logits[..., [0, 3, 4, 1, 2, 5, 6, 7]]
    compare("logits", output.logits[valid], expected[valid])
    # fairseq's own order: <s> is the blank, <pad> an ordinary label.
    symbols = ["", "<s>", "</s>", "\u2047", " ", "क", "ख", "ि"]
    texts = []
    for row, length in zip(logits, output.lengths.tolist(), strict=True):
        best = row[:length].argmax(-1).unique_consecutive().tolist()
        texts.append(" ".join("".join(symbols[index] for index in best).split()))
    assert decode_greedy(output.logits, output.lengths, vocabulary) == texts


def test_dictionary_may_lie_elsewhere_and_must_fit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path)
    source, path = tmp_path / "checkpoint_best.pt", tmp_path / "dict.ltr.txt"
    content = path.read_text()
    path.unlink()
    with pytest.raises(ModelError, match=r"dict\.ltr\.txt, with `--labels FILE`"):
        import_recognizer(source, tmp_path / "ours", labels=HINDI)
    path = tmp_path / "letters.txt"
    labels = LabelOptions(language="hin_Deva", path=path)
    for text, message in [
        (content + "x 1\n", "must have 4 lines, as the head has 8 outputs"),
        (content.replace("ख", "क"), "'क' stands twice"),
        (content.replace(" 40", ""), "line 2: must be a label, a space and a count"),
    ]:
        path.write_text(text)
        with pytest.raises(ModelError, match=message):
            import_recognizer(source, tmp_path / "ours", labels=labels)
    path.write_text(content)
    import_recognizer(source, tmp_path / "ours", labels=labels)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"w2v_encoder.proj.weight": torch.zeros(8)}, "must have a head `proj`"),
        ({"w2v_encoder.proj.weight": torch.full((8, 32), float("inf"))}, "must be finite numbers"),
        ({"w2v_encoder.w2v_model.encoder.layers.0.x": torch.zeros(1)}, "no counterpart"),
        ({"w2v_encoder.w2v_model.mask_emb": torch.zeros(3)}, "has the shape"),
    ],
)
def test_weights_that_cannot_be_are_refused(
    tmp_path: Path, weights: dict[str, Any], message: str
) -> None:
    save_checkpoint(tmp_path, **weights)
    with pytest.raises(ModelError, match=message):
        import_recognizer(tmp_path / "checkpoint_best.pt", tmp_path / "ours", labels=HINDI)
    assert not (tmp_path / "ours").exists()


def test_nothing_in_a_recogniser_is_run(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, **{"w2v_encoder.bomb": Bomb(tmp_path / "ran")})
    with pytest.raises(
        ModelError, match=r"must be tensors only, but 'bomb' is none|'w2v_encoder\.bomb' is none"
    ):
        import_recognizer(tmp_path / "checkpoint_best.pt", tmp_path / "ours", labels=HINDI)
    assert not (tmp_path / "ran").exists()


def test_language_says_whether_it_is_a_recogniser(tmp_path: Path) -> None:
    save_checkpoint(tmp_path)
    with pytest.raises(ModelError, match=r"recogniser of fairseq. Give `--language`"):
        import_model(tmp_path / "checkpoint_best.pt", tmp_path / "ours")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no recogniser of fairseq or fairseq2"):
        import_recognizer(tmp_path / "other.pt", tmp_path / "ours", labels=HINDI)
