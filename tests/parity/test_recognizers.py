"""CTC recognisers there and back: the same scores and the same text in transformers and here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes import export, import_model
from speechvq.decoding.greedy import decode_greedy
from speechvq.errors import ModelError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import (
    CTCModelConfig,
    EncoderConfig,
    FeatureNorm,
    Features,
    WaveformConfig,
)
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_ctc_model, save_model
from speechvq.models.exporting import export_model
from speechvq.models.foreign_labels import ABSENT_BIAS
from speechvq.models.importing_recognizers import LabelOptions, import_recognizer
from speechvq.models.vocabulary import (
    CharacterVocabulary,
    GraphemeVocabulary,
    SentencePieceVocabulary,
    Vocabulary,
)
from tests.support.parity import Comparison, create_batch, randomize

transformers = pytest.importorskip("transformers")

HINDI = LabelOptions(language="hin_Deva")
VARIANTS = [(norm, order) for norm in ("group", "layer") for order in ("post", "pre")]
LETTERS = CharacterVocabulary("abcdeकखि")


def save_ours(
    folder: Path,
    norm: str = "layer",
    order: str = "pre",
    vocabularies: dict[str, Vocabulary] | None = None,
    **changes: Any,
) -> CTCModel:
    config = CTCModelConfig(
        waveform=WaveformConfig(
            dims=[16] * 7,
            norm=FeatureNorm(norm),
            bias=norm == "layer",
            normalize=norm == "layer",
            masked_statistics=norm == "layer",
        ),
        encoder=EncoderConfig(
            num_layers=2,
            model_dim=32,
            num_heads=4,
            ffn_dim=48,
            norm_first=order == "pre",
            position_kernel=16,
            position_groups=4,
        ),
    )
    torch.manual_seed(1)
    model = create_ctc_model(replace(config, **changes), vocabularies or {"hin_Deva": LETTERS})
    randomize(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".up." in name:
                parameter.normal_(std=0.1)
        waveform, lengths = create_batch()
        for language, head in model.eval().heads.items():
            logits = model(waveform, lengths, language=language).logits
            head.weight *= 3.0
            head.bias.copy_(-3.0 * (logits - head.bias).mean((0, 1)))  # labels share the frames
    save_model(folder, model)
    return model


def run_theirs(folder: Path, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, list[str]]:
    """Logits and text of a directory in transformers, by its own processor."""
    theirs, loading = transformers.Wav2Vec2ForCTC.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, transformers.Wav2Vec2Processor)
    rows = [row[:length].numpy() for row, length in zip(waveform, lengths.tolist(), strict=True)]
    inputs = processor(rows, sampling_rate=16000, padding=True, return_tensors="pt")
    logits = theirs.eval()(**inputs).logits
    frames = theirs._get_feat_extract_output_lengths(lengths).tolist()
    texts = [
        processor.decode(row[:length].argmax(-1))
        for row, length in zip(logits, frames, strict=True)
    ]
    return logits, [" ".join(text.split()).replace("<unk>", "\u2047") for text in texts]


def compare_outputs(
    ours: CTCModel, folder: Path, compare: Comparison, lengths: list[int] | None, language: str
) -> list[str]:
    waveform, sizes = create_batch(lengths)
    output = ours(waveform, sizes, language=language)
    logits, texts = run_theirs(folder, waveform, sizes)
    valid = torch.arange(logits.size(1)) < output.lengths[:, None]
    compare("logits", output.logits[valid], logits[valid])
    decoded = decode_greedy(output.logits, output.lengths, ours.vocabularies[language])
    assert decoded == texts
    assert all(len(set(text)) > 1 for text in texts), "the texts should hold something"
    return texts


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize(("norm", "order"), VARIANTS)
@torch.no_grad()
def test_export_computes_the_same_and_comes_back(
    tmp_path: Path, compare: Comparison, norm: str, order: str, padded: bool
) -> None:
    ours = save_ours(tmp_path / "ours", norm, order)
    export_model(tmp_path / "ours", tmp_path / "theirs")
    lengths = None if padded else [8000] * 3
    compare_outputs(ours, tmp_path / "theirs", compare, lengths, "hin_Deva")
    import_recognizer(tmp_path / "theirs", tmp_path / "back", labels=HINDI)
    back = load_ctc_model(tmp_path / "back")
    assert back.state_dict().keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert back.vocabularies["hin_Deva"].labels == LETTERS.labels
    assert back.config.encoder == ours.config.encoder
    assert back.config.waveform == replace(ours.config.waveform, masked_statistics=True)


@torch.no_grad()
def test_each_language_has_a_directory_with_its_adapters(
    tmp_path: Path, compare: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabularies = {"eng_Latn": CharacterVocabulary("abc"), "hin_Deva": GraphemeVocabulary(["क्षि"])}
    ours = save_ours(tmp_path / "ours", vocabularies=vocabularies, adapter_dim=5)
    words = [str(tmp_path / "ours"), str(tmp_path / "theirs"), "--to", "huggingface"]
    export.run(export.parse_arguments(words))
    printed = capsys.readouterr().out
    assert "preprocessor_config.json" in printed
    assert "drops the spaces beside" in printed
    for language in vocabularies:
        compare_outputs(ours, tmp_path / "theirs" / language, compare, None, language)
    export.run(
        export.parse_arguments([*words[:1], str(tmp_path / "one"), "--language", "hin_Deva"])
    )
    assert (tmp_path / "one" / "vocab.json").read_text() == (
        tmp_path / "theirs" / "hin_Deva" / "vocab.json"
    ).read_text()
    back = import_recognizer(tmp_path / "one", tmp_path / "back", labels=HINDI).model
    assert isinstance(back.vocabularies["hin_Deva"], GraphemeVocabulary)
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name


@torch.no_grad()
def test_pieces_of_sentencepiece_decode_the_same(tmp_path: Path, compare: Comparison) -> None:
    vocabulary = create_pieces(tmp_path)
    ours = save_ours(tmp_path / "ours", vocabularies={"eng_Latn": vocabulary})
    exported = export_model(tmp_path / "ours", tmp_path / "theirs")
    assert any("does not cut text" in note for note in exported.notes)
    texts = compare_outputs(ours, tmp_path / "theirs", compare, None, "eng_Latn")
    assert any(" " in text for text in texts)


def create_pieces(folder: Path, **options: Any) -> SentencePieceVocabulary:
    sentencepiece = pytest.importorskip("sentencepiece")
    words = ["the cat sat on the mat", "a cat is a cat", "the mat", "no cat at the door"]
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(words * 5),
        model_prefix=str(folder / "pieces"),
        minloglevel=2,
        **({"vocab_size": 24, "hard_vocab_limit": False} | options),
    )
    return SentencePieceVocabulary((folder / "pieces.model").read_bytes())


def save_theirs(
    folder: Path, vocabulary: dict[str, Any], *, norm: str = "layer", **settings: Any
) -> Any:
    """A random Wav2Vec2ForCTC with a vocabulary and settings of its tokenizer."""
    config = transformers.Wav2Vec2Config(
        vocab_size=settings.pop("vocab_size", len(vocabulary)),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        conv_bias=norm == "layer",
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        adapter_attn_dim=settings.pop("adapter_attn_dim", None),
    )
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2ForCTC(config).eval()
    randomize(theirs)
    with torch.no_grad():
        theirs.lm_head.weight.normal_(std=0.3)
        theirs.lm_head.bias.zero_()
        theirs.lm_head.bias.copy_(-theirs(create_batch([8000])[0]).logits.mean((0, 1)))
    theirs.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    document = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(document | settings))
    processor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "processor_class": "Wav2Vec2Processor",
        "do_normalize": True,
        "return_attention_mask": norm == "layer",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return theirs


VOCABULARIES = {
    "published": (["<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "'"], {}),
    "blank last": (
        ["क", "क्षि", "|", "ख", "[UNK]", "[PAD]"],
        {"pad_token": "[PAD]", "unk_token": {"content": "[UNK]", "__type": "AddedToken"}},
    ),
    "no words": (["ɑ", "tʃ", "<pad>", "i", "u"], {}),
    "other space": (["<pad>", "_", "a", "b", "<unk>"], {"word_delimiter_token": "_"}),
    "unknown is the blank": (["<pad>", "|", "a", "b"], {"unk_token": "<pad>"}),
    "lower": (["<pad>", "<unk>", "|", "A", "B", "C"], {"do_lower_case": True}),
}


@pytest.mark.parametrize("kind", VOCABULARIES)
@torch.no_grad()
def test_import_reads_labels_wherever_they_stand(
    tmp_path: Path, compare: Comparison, kind: str
) -> None:
    tokens, settings = VOCABULARIES[kind]
    theirs = save_theirs(tmp_path / "theirs", {t: i for i, t in enumerate(tokens)}, **settings)
    ours = import_recognizer(tmp_path / "theirs", tmp_path / "ours", labels=HINDI).model
    waveform, lengths = create_batch()
    logits, texts = run_theirs(tmp_path / "theirs", waveform, lengths)
    output = ours(waveform, lengths, language="hin_Deva")
    texts = [text.replace("[UNK]", "\u2047") for text in texts]
    assert decode_greedy(output.logits, output.lengths, ours.vocabularies["hin_Deva"]) == texts
    present = output.logits.exp().sum((0, 1)) > 0
    assert int(present.sum()) == theirs.config.vocab_size
    valid = torch.arange(logits.size(1)) < output.lengths[:, None]
    ours_sorted = output.logits[..., present][valid].sort(-1).values
    compare("logits", ours_sorted, logits[valid].sort(-1).values)


@torch.no_grad()
def test_utterance_in_a_batch_gets_what_transformers_computes_for_it_alone(
    tmp_path: Path, compare: Comparison
) -> None:
    """Base models, with group norm, are used without attention mask, one at a time."""
    tokens = ["<pad>", "<unk>", "|", "a", "b"]
    save_theirs(tmp_path / "theirs", {t: i for i, t in enumerate(tokens)}, norm="group")
    ours = import_recognizer(tmp_path / "theirs", tmp_path / "ours", labels=HINDI).model
    waveform, lengths = create_batch()
    output = ours(waveform, lengths, language="hin_Deva")
    for row, length in enumerate(lengths.tolist()):
        alone = waveform[row : row + 1, :length]
        logits, _ = run_theirs(tmp_path / "theirs", alone, lengths[row : row + 1])
        compare("logits", output.logits[row, : output.lengths[row]], logits[0])


@torch.no_grad()
def test_adapter_of_a_language_is_chosen_by_its_name(tmp_path: Path, compare: Comparison) -> None:
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c"]
    vocabularies = {"eng": {t: i for i, t in enumerate(tokens)}, "hin": {}}
    vocabularies["hin"] = {t: i for i, t in enumerate([*tokens[:5], "क", "ख"])}
    theirs = save_theirs(
        tmp_path / "theirs", vocabularies, vocab_size=8, adapter_attn_dim=4, target_lang="hin"
    )
    adapter = {
        name: 0.3 * torch.randn_like(tensor)[:7] if name.startswith("lm_head") else tensor + 0.1
        for name, tensor in theirs.state_dict().items()
        if "adapter_layer" in name or name.startswith("lm_head")
    }
    save_file(adapter, tmp_path / "theirs" / "adapter.hin.safetensors", {"format": "pt"})
    imported = import_recognizer(tmp_path / "theirs", tmp_path / "ours", labels=HINDI).model
    theirs = transformers.Wav2Vec2ForCTC.from_pretrained(
        tmp_path / "theirs", target_lang="hin", ignore_mismatched_sizes=True
    ).eval()
    waveform, lengths = create_batch([8000] * 2)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "theirs")
    inputs = extractor(list(waveform.numpy()), sampling_rate=16000, return_tensors="pt")
    output = imported(waveform, lengths, language="hin_Deva")
    order = [0, 3, 4, 1, 2, 5, 6]
    compare("logits", output.logits, theirs(**inputs).logits[..., order])
    labels = LabelOptions(language="tam_Taml")
    with pytest.raises(ModelError, match=r"must be one of the vocabulary of .* \(eng, hin\)"):
        import_recognizer(tmp_path / "theirs", tmp_path / "x", labels=labels)
    labels = LabelOptions(language="eng_Latn")
    with pytest.raises(ModelError, match=r"adapter\.eng\.safetensors does not exist"):
        import_recognizer(tmp_path / "theirs", tmp_path / "x", labels=labels)
    labels = LabelOptions(language="tam_Taml=hin")
    named = import_recognizer(tmp_path / "theirs", tmp_path / "named", labels=labels)
    assert list(named.model.vocabularies) == ["tam_Taml"]


@torch.no_grad()
def test_pickled_weights_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = ["<pad>", "<unk>", "|", "A", "B"]
    theirs = save_theirs(tmp_path / "theirs", {t: i for i, t in enumerate(tokens)})
    (tmp_path / "theirs" / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "theirs" / "pytorch_model.bin")
    words = [str(tmp_path / "theirs"), str(tmp_path / "ours"), "--language", "eng_Latn"]
    import_model.run(import_model.parse_arguments([*words, "--lowercase"]))
    assert "a recogniser of eng_Latn with 5 labels" in capsys.readouterr().out
    assert load_ctc_model(tmp_path / "ours").vocabularies["eng_Latn"].labels[3:] == ("a", "b")
    with pytest.raises(SystemExit):
        import_model.parse_arguments([*words[:2], "--lowercase"])


def test_label_that_the_file_lacks_is_never_recognised(tmp_path: Path) -> None:
    save_theirs(tmp_path / "theirs", {"<pad>": 0, "a": 1})
    ours = import_recognizer(tmp_path / "theirs", tmp_path / "ours", labels=HINDI).model
    bias = ours.state_dict()["heads.hin_Deva.bias"]
    assert ours.vocabularies["hin_Deva"].labels == ("<pad>", "<unk>", "|", "a")
    assert [float(value) for value in bias[1:3]] == [ABSENT_BIAS] * 2
    assert float(torch.tensor([0.0, ABSENT_BIAS]).softmax(0)[1]) == 0.0


@pytest.mark.parametrize(
    ("vocabulary", "settings", "message"),
    [
        (["<pad>", "a"], {"vocab_size": 3}, "a label for each of the 3 outputs .* has 2 labels"),
        (["<pad>", "a", "b", "c"], {"vocab_size": 3}, "each of the 3 outputs .* has 4 labels"),
        (["a", "b"], {}, "must have the blank, which is '<pad>'"),
        (["<pad>", "<unk>"], {"unk_token": "x"}, "'<unk>' must be the blank, the unknown"),
        (["<pad>", "A", "a"], {"do_lower_case": True}, "cannot be put into lower case"),
        (["<pad>", "a"], {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}, "tokenizer_class"),
        (["<pad>", "a"], {"replace_word_delimiter_char": "-"}, "must be a space"),
        (["<pad>", "a"], {"pad_token": ["x"]}, "pad_token cannot be"),
        (["<pad>", ""], {}, "must not be empty"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    tmp_path: Path, vocabulary: list[str], settings: dict[str, Any], message: str
) -> None:
    save_theirs(tmp_path / "theirs", {t: i for i, t in enumerate(vocabulary)}, **settings)
    with pytest.raises(ModelError, match=message):
        import_recognizer(tmp_path / "theirs", tmp_path / "ours", labels=HINDI)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("nan", "must be finite numbers, but .* has NaN"),
        ("cut", "cannot be read"),
        ("shape", "do not fit the settings"),
        ("no head", "must hold a recogniser"),
        ("flat head", r"must have \(labels, channels\) weights"),
        ("twice", "a number of its own, but 'a' and 'b' have 1"),
        ("list", "from label to number"),
        ("no vocabulary", r"vocab\.json cannot be read"),
        ("language", "must be a name such as hin_Deva"),
        ("module's own", "must be a name such as hin_Deva"),
    ],
)
def test_hostile_directories_are_refused(tmp_path: Path, damage: str, message: str) -> None:
    save_theirs(tmp_path / "theirs", {"<pad>": 0, "a": 1})
    weights, vocabulary = (tmp_path / "theirs" / n for n in ("model.safetensors", "vocab.json"))
    state = load_file(weights)
    changes = {
        "nan": {"lm_head.bias": torch.full((2,), float("nan"))},
        "shape": {"wav2vec2.encoder.layer_norm.bias": torch.zeros(3)},
        "flat head": {"lm_head.weight": torch.zeros(2)},
    }
    if damage in changes:
        save_file(state | changes[damage], weights, {"format": "pt"})
    elif damage == "no head":
        save_file({k: v for k, v in state.items() if k != "lm_head.bias"}, weights)
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "no vocabulary":
        vocabulary.unlink()
    else:
        vocabulary.write_text({"twice": '{"<pad>": 0, "a": 1, "b": 1}'}.get(damage, '{"a": []}'))
    names = {"language": "../x", "module's own": "type"}
    labels = LabelOptions(language=names.get(damage, "hin_Deva"))
    with pytest.raises(ModelError, match=message):
        import_recognizer(tmp_path / "theirs", tmp_path / "ours", labels=labels)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("order", "changes", "language", "message"),
    [
        ("pre", {"features": Features.fbank}, None, "Wav2Vec2 has no filter banks.*--to onnx"),
        ("post", {"adapter_dim": 3}, None, "`adapter_dim` must be 0"),
        ("pre", {}, "tam_Taml", r"`--language` must be one of the model \(hin_Deva\)"),
    ],
)
def test_export_refuses_what_transformers_has_not(
    tmp_path: Path, order: str, changes: dict[str, Any], language: str | None, message: str
) -> None:
    save_ours(tmp_path / "ours", order=order, **changes)
    with pytest.raises(ModelError, match=message):
        export_model(tmp_path / "ours", tmp_path / "theirs", language=language)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
