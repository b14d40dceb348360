"""`speechvq transcribe`, called as its `main` is."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from recipes.transcribe import main
from speechvq.data.labels import read_labels
from speechvq.deploy import transcription_run
from speechvq.deploy.log_probs import compute_log_probs, pad_waveforms
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.transcript_files import write_transcript

RATE = 16_000


def make_sound(seconds, seed=1):
    """Noise in syllables, so that the recogniser of random weights says many things."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, 0.1, round(seconds * RATE))
    steps = rng.uniform(0.1, 1.0, len(sound) // 3000 + 1).repeat(3000)[: len(sound)]
    return np.convolve(sound * steps, rng.normal(0, 1, 8), mode="same").astype(np.float32) / 4


@pytest.fixture(scope="module")
def recognizer(recognizer_directory):
    return Recognizer.load(recognizer_directory, device="cpu")


@pytest.fixture
def transcribe(recognizer_directory, monkeypatch):
    def call(*arguments, language="hin_Deva"):
        words = [*arguments, "--model", recognizer_directory, "--device", "cpu"]
        words += ["--language", language] if language else []
        monkeypatch.setattr(sys, "argv", ["transcribe", *map(str, words)])
        return main()

    return call


def read_tree(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "transcribed.jsonl"
    }


def test_the_first_30_seconds_are_those_of_the_30_seconds_alone(recognizer):
    sound = make_sound(95)
    alone = recognizer.transcribe(sound[: 30 * RATE], "mdw_Latn").words
    together = recognizer.transcribe(sound, "mdw_Latn").words
    assert len(alone) > 10
    assert together[: len(alone) - 1] == alone[:-1]
    assert together[-1].end_seconds > 90
    begins = [word.begin_seconds for word in together]
    assert begins == sorted(begins)


def test_a_batch_is_what_each_gives_alone_bit_for_bit(recognizer):
    sounds = [make_sound(seconds, seed) for seed, seconds in enumerate((0.3, 4.0, 1.7, 4.0, 9.1))]
    together = recognizer.recognize_labels(sounds, "hin_Deva")
    assert together == [recognizer.recognize_labels([one], "hin_Deva")[0] for one in sounds]
    assert recognizer.recognize(sounds, "hin_Deva") == [
        recognizer.transcribe(one, "hin_Deva").text for one in sounds
    ]


def test_padding_does_not_leak(recognizer):
    sounds = [make_sound(seconds, seed) for seed, seconds in enumerate((0.3, 4.0, 1.7))]
    batch, lengths = pad_waveforms(sounds)
    with torch.inference_mode():
        quiet = recognizer.model(batch, lengths, language="hin_Deva")
        for row, sound in zip(batch, sounds, strict=True):
            row[len(sound) :] = 0.5
        loud = recognizer.model(batch, lengths, language="hin_Deva")
    for row, one in enumerate(sounds):
        alone = compute_log_probs(recognizer.model, [one], ["hin_Deva"])[0]["hin_Deva"]
        for output in (quiet, loud):
            found = output.logits[row, : output.lengths[row]].log_softmax(-1)
            assert torch.allclose(found, alone, atol=1e-4)


def test_alignment_of_what_was_recognised_is_what_was_recognised(recognizer):
    sound = make_sound(5)
    transcript = recognizer.transcribe(sound, "mdw_Latn")
    aligned = recognizer.align(sound, transcript.text, "mdw_Latn")
    assert [word.text for word in aligned] == [word.text for word in transcript.words]
    for one, other in zip(aligned, transcript.words, strict=True):
        assert one.begin_seconds == pytest.approx(other.begin_seconds, abs=0.05)
        assert 0 <= other.confidence <= 1


def test_every_format_is_written_and_read_back(transcribe, recognizer, tmp_path):
    soundfile.write(tmp_path / "two words.wav", make_sound(41), RATE)
    output = tmp_path / "out"
    assert (
        transcribe(tmp_path / "two words.wav", "--output-dir", output, "--output-format", "all")
        == 0
    )
    words = recognizer.transcribe(tmp_path / "two words.wav", "hin_Deva").words
    document = json.loads((output / "two words.json").read_text())
    assert document["text"] == " ".join(word.text for word in words)
    assert document["seconds"] == 41
    listed = [word for segment in document["segments"] for word in segment["words"]]
    assert [word["text"] for word in listed] == [word.text for word in words]
    for name in ("two words.tsv", "two words.TextGrid", "two words.ctm"):
        labels = read_labels(output / name)
        assert [label.text for label in labels] == [word.text for word in words]
        for label, word in zip(labels, words, strict=True):
            assert label.begin_seconds == pytest.approx(word.begin_seconds, abs=1e-3)
            assert label.end_seconds == pytest.approx(word.end_seconds, abs=1e-3)
    text = (output / "two words.txt").read_text()
    assert text.split() == document["text"].split()
    cues = (output / "two words.srt").read_text().split("\n\n")
    assert cues[0].startswith("1\n00:00:00,")
    assert (output / "two words.vtt").read_text().startswith("WEBVTT\n\n00:00:00.")
    assert len(cues) == len(document["segments"]) == text.count("\n")


def test_a_broken_file_costs_itself_only(transcribe, tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    soundfile.write(folder / "good\nname.wav", make_sound(2), RATE)
    soundfile.write(folder / "below" / "good.flac", make_sound(2), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(3 * RATE), RATE)
    (folder / "zero.wav").write_bytes(b"")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    bad = make_sound(1)
    bad[100] = np.nan
    soundfile.write(folder / "nan.wav", bad, RATE, subtype="FLOAT")
    (folder / "text.mp3").write_bytes(b"this is no sound" * 100)
    whole = (folder / "good\nname.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(folder / "pipe.wav")
    output = tmp_path / "out"
    assert transcribe(folder, tmp_path / "missing.wav", "--output-dir", output) == 5
    assert set(read_tree(output)) == {"good\nname.txt", "below/good.txt", "silent.txt", "none.txt"}
    assert (output / "silent.txt").read_text() == (output / "none.txt").read_text() == ""
    assert (output / "below" / "good.txt").read_text()
    told = capsys.readouterr().err
    for name in ("zero", "nan", "text", "cut", "pipe", "missing"):
        assert sum(f"{name}." in line for line in told.splitlines()) == 1, name
    assert "transcribed 4 files" in told
    assert "failed: 6" in told
    # The good ones are done; a cut one is transcribed on request.
    assert transcribe(folder, "--output-dir", output, "--keep-truncated") == 5
    assert (output / "cut.txt").read_text()
    assert "done before: 4" in capsys.readouterr().err


def test_where_no_file_can_be_read_nothing_is_written(transcribe, tmp_path, capsys):
    (tmp_path / "zero.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_bytes(b"this is no sound" * 100)
    assert transcribe(tmp_path, "--output-dir", tmp_path / "out") == 2
    assert "failed: 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    # Beside one that was transcribed before, it is some that failed.
    soundfile.write(tmp_path / "good.wav", make_sound(1), RATE)
    assert transcribe(tmp_path / "good.wav", "--output-dir", tmp_path / "out") == 0
    assert transcribe(tmp_path, "--output-dir", tmp_path / "out") == 5
    assert transcribe(tmp_path / "zero.wav", "--output-dir", tmp_path / "out") == 2
    assert (tmp_path / "out" / "good.txt").exists()


def test_what_is_done_is_skipped_and_what_changed_is_done_again(transcribe, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", make_sound(2), RATE)
    command = (tmp_path / "a.wav", "--output-dir", tmp_path / "out")
    assert transcribe(*command) == 0
    before = (tmp_path / "out" / "a.txt").stat().st_mtime_ns
    assert transcribe(*command) == 0
    assert (tmp_path / "out" / "a.txt").stat().st_mtime_ns == before
    soundfile.write(tmp_path / "a.wav", make_sound(5, seed=2), RATE)
    assert transcribe(*command) == 0
    assert (tmp_path / "out" / "a.txt").stat().st_mtime_ns > before
    assert transcribe(*command, "--output-format", "srt") == 0
    assert transcribe(*command, "--output-format", "txt,srt") == 0
    assert "done before: 1" in capsys.readouterr().err.splitlines()[-1]
    assert transcribe(*command, language="mdw_Latn") == 2
    assert "another model or language" in capsys.readouterr().err
    assert transcribe(*command, "--overwrite", language="mdw_Latn") == 0


def test_a_kill_between_two_outputs_is_no_obstacle(transcribe, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", make_sound(2), RATE)
    command = (tmp_path / "a.wav", "--output-format", "all", "--output-dir", tmp_path / "out")

    def write_and_die(transcript, path, name):
        if name == "vtt":
            raise KeyboardInterrupt
        write_transcript(transcript, path, name)

    monkeypatch.setattr(transcription_run, "write_transcript", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        transcribe(*command)
    assert (tmp_path / "out" / "a.txt").exists()
    monkeypatch.setattr(transcription_run, "write_transcript", write_transcript)
    assert transcribe(*command) == 0
    assert len(read_tree(tmp_path / "out")) == 7


def test_files_of_somebody_else_are_not_overwritten(transcribe, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", make_sound(2), RATE)
    (tmp_path / "a.txt").write_text("typed by hand")
    assert transcribe(tmp_path, "--output-dir", tmp_path) == 2
    assert "was not written by" in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text() == "typed by hand"
    assert not (tmp_path / "transcribed.jsonl").exists()


def test_names_that_meet_are_told_apart_or_refused(transcribe, tmp_path, capsys):
    for name in ("x/a.wav", "x/a.flac", "y/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, make_sound(1), RATE)
    assert transcribe(tmp_path / "x", "--output-dir", tmp_path / "out") == 0
    assert set(read_tree(tmp_path / "out")) == {"a.wav.txt", "a.flac.txt"}
    both = (tmp_path / "x" / "a.wav", tmp_path / "y" / "a.wav")
    assert transcribe(*both, "--output-dir", tmp_path / "out2") == 2
    assert "both be transcribed as" in capsys.readouterr().err


def test_batches_on_any_order_give_the_same_files(transcribe, tmp_path):
    for number, seconds in enumerate((2, 33, 7, 1, 61)):
        soundfile.write(tmp_path / f"{number}.wav", make_sound(seconds, number), RATE)
    paths = sorted(tmp_path.glob("*.wav"))
    one_by_one, pooled = tmp_path / "one", tmp_path / "pooled"
    assert transcribe(*paths, "--output-dir", one_by_one, "--output-format", "json") == 0
    options = ("--output-dir", pooled, "--output-format", "json", "--batch-seconds", "40")
    assert transcribe(*reversed(paths), *options) == 0
    assert read_tree(one_by_one) == read_tree(pooled)


def test_a_killed_run_goes_on_where_it_was(transcribe, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", make_sound(120), RATE)
    command = (tmp_path / "a.wav", "--output-format", "all", "--output-dir")
    assert transcribe(*command, tmp_path / "whole") == 0
    recognize = Recognizer.recognize_labels
    done = []

    def recognize_and_die(self, waveforms, language):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return recognize(self, waveforms, language)

    monkeypatch.setattr(Recognizer, "recognize_labels", recognize_and_die)
    with pytest.raises(KeyboardInterrupt):
        transcribe(*command, tmp_path / "killed")
    (journal,) = (tmp_path / "killed").glob(".*.windows.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"window": 3, "spans": [[5, 1')  # the line that the kill cut off
    done[:] = [1, 1]
    monkeypatch.setattr(
        Recognizer,
        "recognize_labels",
        lambda *args: done.append(1) or recognize(*args),
    )
    assert transcribe(*command, tmp_path / "killed") == 0
    assert len(done) == 2 + 2  # of five windows, three were kept
    assert read_tree(tmp_path / "killed") == read_tree(tmp_path / "whole")


def test_the_language_is_that_of_the_surest_head(transcribe, recognizer, tmp_path):
    soundfile.write(tmp_path / "a.wav", make_sound(3), RATE)
    options = ("--output-dir", tmp_path / "out", "--output-format", "json")
    assert transcribe(tmp_path / "a.wav", *options, language=None) == 0
    document = json.loads((tmp_path / "out" / "a.json").read_text())
    scores = document["language_scores"]
    assert set(scores) == set(recognizer.languages)
    assert document["language"] == max(scores, key=scores.get)
    transcript = recognizer.transcribe(tmp_path / "a.wav")
    assert (transcript.language, transcript.text) == (document["language"], document["text"])


@pytest.mark.parametrize(
    ("arguments", "language", "message"),
    [
        ((), "xyz_Latn", "hin_Deva, mdw_Latn, tam_Taml"),
        (("--output-format", "doc"), "hin_Deva", "`--output-format` must be among"),
        (("--output-format", "srt"), "hin_Deva", "`--output-dir` must be given"),
        (("--batch-seconds", "-1"), "hin_Deva", "`--batch-seconds`"),
    ],
)
def test_impossible_requests_write_nothing(
    transcribe, tmp_path, capsys, arguments, language, message
):
    soundfile.write(tmp_path / "a.wav", make_sound(1), RATE)
    assert transcribe(tmp_path / "a.wav", *arguments, language=language) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_without_an_output_directory_the_text_is_printed(transcribe, recognizer, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", make_sound(2), RATE)
    assert transcribe(tmp_path / "a.wav") == 0
    assert (
        capsys.readouterr().out == recognizer.transcribe(tmp_path / "a.wav", "hin_Deva").text + "\n"
    )


@pytest.mark.slow
def test_sigterm_says_how_to_go_on_and_a_kill_loses_nothing(
    recognizer_directory, checkout, tmp_path
):
    soundfile.write(tmp_path / "a.wav", make_sound(1500), RATE)
    command = [sys.executable, "-m", "recipes.transcribe", str(tmp_path / "a.wav")]
    command += ["--model", str(recognizer_directory), "--language", "hin_Deva", "--output-dir"]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)):
        output = tmp_path / str(int(number))
        process = subprocess.Popen(
            [*command, str(output)], cwd=checkout, stderr=subprocess.PIPE, text=True
        )
        while not list(output.glob(".*.windows.jsonl")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        told = process.communicate(timeout=60)[1]
        assert process.returncode == code
        assert ("The same command goes on" in told) == (code == 143)
        assert not (output / "a.txt").exists()


def test_importing_takes_little_and_brings_no_engine(checkout):
    code = (
        "import sys, time\n"
        "for name in ('fairseq2', 'hydra', 'omegaconf', 'torchaudio', 'av', 'sentencepiece'):\n"
        "    sys.modules[name] = None\n"
        "begin = time.process_time()\n"
        "import speechvq.deploy\n"
        "assert time.process_time() - begin < 2\n"
        "import recipes.transcribe\n"
        "assert 'torch' not in sys.modules\n"
        "import speechvq.deploy.transcription_run"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=checkout)
