"""espeak-ng through ctypes, the sentence lists, and folders of synthetic speech."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from speechvq.data.sentence_lists import list_sentence_languages, load_grammar, parse_grammar
from speechvq.data.synthesis import (
    ESPEAK_VOICES,
    SILENCE_PHONE,
    Voice,
    load_synthesizer,
    prepare_text,
)
from speechvq.data.synthetic_corpus import VARIANTS, plan_shards, synthesize_corpus
from speechvq.errors import DataError, MissingDependencyError

INDIC = {"hin_Deva", "ben_Beng", "mar_Deva", "tam_Taml", "tel_Telu", "mal_Mlym", "kan_Knda"}
SMALL = {"train": 3, "dev": 2, "test": 2}


@pytest.fixture(scope="module")
def synthesizer():
    pytest.importorskip("espeakng_loader", reason="needs the extra `demo`")
    return load_synthesizer()


def test_a_process_has_one_synthesizer(synthesizer):
    assert load_synthesizer() is synthesizer


@pytest.mark.parametrize("language", list_sentence_languages())
def test_phones_are_in_order_and_within_the_audio(synthesizer, language):
    for text in load_grammar(language).sample(5, seed=3):
        spoken = synthesizer.speak(text, language=language, voice=Voice(variant="f2"))
        assert spoken.sample_rate == 22050
        assert spoken.waveform.dtype == np.int16
        assert np.abs(spoken.waveform).max() > 1000
        assert spoken.phones[0].start == 0
        assert spoken.phones[-1].end == len(spoken.waveform)
        assert all(phone.start < phone.end for phone in spoken.phones)
        assert all(left.end == right.start for left, right in pairwise(spoken.phones))
        names = [phone.phone for phone in spoken.phones]
        assert not set("".join(names).replace(SILENCE_PHONE, "")) & set("ˈˌ'-")
        # A letter that its rules do not know would be spelt out as a long English phrase.
        assert len([n for n in names if n != SILENCE_PHONE]) < 2 * len(text)


def test_flapped_r_is_named_in_ipa(synthesizer):
    spoken = synthesizer.speak("लड़का", language="hin_Deva", voice=Voice(variant="f2"))
    names = [phone.phone for phone in spoken.phones]
    assert "ɽ" in names
    assert "r." not in names


@pytest.mark.parametrize("language", list_sentence_languages())
def test_every_word_of_every_list_can_be_spoken(synthesizer, language):
    grammar = load_grammar(language)
    for word in [word for words in grammar.words.values() for word in words]:
        spoken = synthesizer.speak(word, language=language, voice=Voice(variant="m3", rate=180))
        assert 0.1 < len(spoken.waveform) / spoken.sample_rate < 3, word


def test_phones_lie_where_the_sound_is(synthesizer):
    spoken = synthesizer.speak("सा", language="hin_Deva", voice=Voice(variant="m3"))
    vowel = next(phone for phone in spoken.phones if phone.phone == "aː")
    fricative = next(phone for phone in spoken.phones if phone.phone == "s")
    # Fricatives change sign far more often than vowels do.
    crossings = [
        np.mean(np.diff(np.signbit(spoken.waveform[phone.start : phone.end])))
        for phone in (vowel, fricative)
    ]
    assert crossings[1] > 2 * crossings[0]


def test_variants_of_the_demo_exist_and_sound_different(synthesizer):
    variants = [variant for stock in VARIANTS.values() for variant in stock]
    assert len(variants) == len(set(variants))
    assert set(variants) <= set(synthesizer.list_variants())
    spoken = {
        synthesizer.speak(
            "the river runs", language="eng_Latn", voice=Voice(variant=variant)
        ).waveform.tobytes()
        for variant in variants
    }
    assert len(spoken) == len(variants)


def test_rate_and_pitch_change_the_voice(synthesizer):
    def speak(rate, pitch):
        voice = Voice(variant="m1", rate=rate, pitch=pitch)
        return synthesizer.speak("one two three", language="eng_Latn", voice=voice).waveform

    assert len(speak(120, 50)) > 1.3 * len(speak(200, 50))
    low, high = speak(150, 20), speak(150, 80)
    assert np.abs(len(low) - len(high)) < 0.1 * len(low)
    assert low[: len(high)].tobytes() != high[: len(low)].tobytes()


@pytest.mark.parametrize("language", sorted(ESPEAK_VOICES))
def test_every_voice_of_the_table_exists(synthesizer, language):
    assert synthesizer.speak("1 2", language=language, voice=Voice(variant="m1")).phones


@pytest.mark.parametrize(
    ("text", "language", "variant", "message"),
    [
        ("hello", "eng_Latn", "nobody", "no voice variant `nobody`"),
        ("hello", "xxx_Latn", "m1", "`xxx_Latn` cannot be spoken"),
        ("  ", "eng_Latn", "m1", "nothing to speak"),
        ("", "eng_Latn", "m1", "nothing to speak"),
    ],
)
def test_what_cannot_be_spoken_is_refused(synthesizer, text, language, variant, message):
    with pytest.raises(DataError, match=message):
        synthesizer.speak(text, language=language, voice=Voice(variant=variant))


def test_assamese_yya_is_precomposed():
    decomposed = unicodedata.normalize("NFC", "নয়")
    assert "\u09df" not in decomposed
    assert prepare_text(decomposed, "asm_Beng") == "ন\u09df"


def test_without_the_wheel_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingDependencyError, match=r"speechvq\[demo\]"):
        load_synthesizer.__wrapped__()


def test_there_are_enough_languages():
    languages = set(list_sentence_languages())
    assert len(languages) >= 9
    assert len(languages & INDIC) >= 5
    assert languages <= set(ESPEAK_VOICES)


@pytest.mark.parametrize("language", list_sentence_languages())
def test_sentences_are_distinct_and_normalised(language):
    grammar = load_grammar(language)
    sentences = grammar.sample(2000, seed=1)
    assert len(set(sentences)) == 2000
    assert sentences == grammar.sample(2000, seed=1) != grammar.sample(2000, seed=2)
    for sentence in sentences[:200]:
        assert sentence == " ".join(sentence.split())
        assert not set(sentence) & set("{}0123456789\t")
    words = [word for words in grammar.words.values() for word in words]
    assert len(words) == len(set(words)) >= 30


def test_all_combinations_are_reached():
    grammar = parse_grammar("x", "slot\ttext\npattern\t{a} {b}\npattern\t{b}\na\t1\na\t2\nb\t3\n")
    assert sorted(grammar.sample(3, seed=1)) == ["1 3", "2 3", "3"]
    with pytest.raises(DataError, match="gives 3 sentences, but 4 are asked for"):
        grammar.sample(4, seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("slot\ttext\na\t1\n", "has no `pattern` line"),
        ("slot\ttext\npattern\t{a} {b}\na\t1\n", r"no words for \['b'\]"),
        ("slot\ttext\npattern\t{a}\na 1\n", "line 3"),
    ],
)
def test_malformed_lists_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        parse_grammar("x", content)


def test_unknown_language_names_the_known():
    with pytest.raises(DataError, match="hin_Deva"):
        load_grammar("xxx_Latn")


def test_splits_share_neither_speaker_nor_sentence():
    shards = plan_shards(
        ["hin_Deva", "tam_Taml"], {"train": 200, "dev": 40, "test": 40}, num_voices=9, seed=5
    )
    for kind in (lambda line: line.voice.variant, lambda line: line.text):
        of_split = {
            split: {kind(line) for s in shards for line in s.lines if line.split == split}
            for split in ("train", "dev", "test")
        }
        assert not of_split["train"] & of_split["dev"]
        assert not of_split["train"] & of_split["test"]
        assert not of_split["dev"] & of_split["test"]
    for split, num_voices in (("train", 9), ("dev", 6), ("test", 6)):
        for shard in shards:
            voices = {line.voice for line in shard.lines if line.split == split}
            assert len(voices) == num_voices


def test_a_folder_is_the_same_whatever_the_number_of_workers(tmp_path):
    pytest.importorskip("espeakng_loader", reason="needs the extra `demo`")
    shards = plan_shards(["hin_Deva", "eng_Latn"], SMALL, num_voices=2, seed=1)
    progress = []
    for name, workers in (("one", 1), ("two", 2)):
        seconds = synthesize_corpus(
            tmp_path / name,
            shards,
            num_workers=workers,
            report=lambda done, total: progress.append((done, total)),
        )
        assert set(seconds) == {"hin_Deva", "eng_Latn"}
    assert _hash_tree(tmp_path / "one") == _hash_tree(tmp_path / "two")
    assert progress[-1] == (14, 14)
    _check_tables(tmp_path / "one")


def test_fresh_processes_speak_the_same():
    pytest.importorskip("espeakng_loader", reason="needs the extra `demo`")
    program = (
        "import hashlib\n"
        "from speechvq.data.synthesis import Voice, load_synthesizer\n"
        "s = load_synthesizer()\n"
        "for text in ('namaste', 'shukriya', 'namaste'):\n"
        "    spoken = s.speak(text, language='hin_Deva', voice=Voice(variant='f2'))\n"
        "    print(hashlib.sha256(spoken.waveform.tobytes()).hexdigest(), spoken.phones)\n"
    )
    # The variant f2 breathes, with noise that espeak-ng by itself seeds with the time.
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1


def _hash_tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _check_tables(folder: Path) -> None:
    import soundfile

    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        manifest = list(csv.DictReader(file, delimiter="\t"))
    with (folder / "phones.tsv").open(encoding="utf-8") as file:
        phones = list(csv.DictReader(file, delimiter="\t"))
    assert len(manifest) == 14
    for row in manifest:
        info = soundfile.info(folder / row["path"])
        assert info.samplerate == 22050
        assert info.subtype == "PCM_16"
        assert float(row["seconds"]) == pytest.approx(info.duration, abs=1e-3)
        track = [phone for phone in phones if phone["path"] == row["path"]]
        assert float(track[-1]["end_seconds"]) == pytest.approx(info.duration, abs=1e-3)
        assert float(track[0]["start_seconds"]) == 0
