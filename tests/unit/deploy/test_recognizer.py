import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

import speechvq
from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.deploy.log_probs import compute_log_probs
from speechvq.deploy.recognizer import Recognizer, choose_device
from speechvq.errors import DataError, ModelError
from speechvq.models.build import create_ctc_model
from tests.support.parity import randomize


@pytest.fixture(scope="module")
def recognizer(recognizer_directory):
    return speechvq.Recognizer.load(recognizer_directory, device="cpu")


@pytest.fixture(scope="module")
def waveforms(corpus):
    rows = read_utterances(corpus, splits=["test"], languages=["hin_Deva"])
    return [decode_flac(row.audio) for row in rows]


def test_a_batch_gives_what_each_gives_alone(recognizer, waveforms):
    together = recognizer.recognize(waveforms, "hin_Deva")
    alone = [recognizer.recognize([waveform], "hin_Deva")[0] for waveform in waveforms]
    assert together == alone
    assert len(set(together)) > 1


def test_adapters_of_each_language_are_its_own(recognizer, waveforms):
    config = replace(recognizer.model.config, adapter_dim=4)
    model = create_ctc_model(config, recognizer.model.vocabularies)
    randomize(model)
    adapted = Recognizer(model, device="cpu")
    rows = compute_log_probs(model, waveforms, adapted.languages)
    for language in adapted.languages:
        alone = adapted.compute_log_probs(waveforms, language)
        assert all(torch.equal(row[language], one) for row, one in zip(rows, alone, strict=True))
    first, second, *_ = (model.get_adapters(language)[0] for language in adapted.languages)
    first.load_state_dict(second.state_dict())
    language = adapted.languages[0]
    changed = adapted.compute_log_probs(waveforms, language)
    assert not any(
        torch.allclose(row[language], one) for row, one in zip(rows, changed, strict=True)
    )


def test_file_array_and_tensor_give_the_same(recognizer, waveforms, tmp_path):
    waveform = waveforms[0]
    soundfile.write(tmp_path / "a.wav", waveform, 16_000, subtype="FLOAT")
    expected = recognizer.recognize([waveform], "hin_Deva")[0]
    assert expected
    stereo = np.stack([waveform, waveform])
    for audio in (
        tmp_path / "a.wav",
        str(tmp_path / "a.wav"),
        waveform,
        torch.from_numpy(waveform.copy()),
        stereo,
        stereo.T,
    ):
        transcript = recognizer.transcribe(audio, "hin_Deva")
        assert transcript.text == expected
        assert transcript.language == "hin_Deva"
        assert transcript.seconds == pytest.approx(len(waveform) / 16_000)


def test_other_rates_are_resampled(recognizer):
    transcript = recognizer.transcribe(np.zeros(8_000, np.float32), "hin_Deva", sample_rate=8_000)
    assert transcript.seconds == pytest.approx(1.0)


def test_empty_and_very_short_and_silent_audio_is_nothing(recognizer):
    rng = np.random.default_rng(1)
    faint = rng.normal(0, 1e-4, 48_000).astype(np.float32)
    for audio in (*(np.zeros(n, np.float32) for n in (0, 1, 399, 16_000)), faint):
        for language in ("hin_Deva", None):
            transcript = recognizer.transcribe(audio, language)
            assert (transcript.text, transcript.words) == ("", ())
        assert recognizer.recognize([audio], "hin_Deva") == [""]
    assert recognizer.transcribe(faint * 1000, "hin_Deva").text


def test_silence_has_no_words(recognizer, waveforms):
    noise = np.random.default_rng(1).normal(size=16_000).astype(np.float32)
    silence = [np.zeros(16_000, np.float32), 1e-4 * noise, np.zeros(0, np.float32)]
    texts = recognizer.recognize([*silence, waveforms[0]], "hin_Deva")
    assert texts[:3] == ["", "", ""]
    assert texts[3]


@pytest.mark.parametrize(
    ("language", "message"), [(None, "must be given"), ("ben_Beng", "hin_Deva, mdw_Latn, tam_Taml")]
)
def test_language_must_be_one_of_the_heads(recognizer, language, message):
    with pytest.raises(ModelError, match=message):
        recognizer.align(np.zeros(16_000, np.float32), "", language)


@pytest.mark.parametrize(
    "audio", [np.zeros(100, np.int16), np.full(100, np.nan, np.float32), np.zeros((2, 2, 2))]
)
def test_impossible_waveforms_are_refused(recognizer, audio):
    with pytest.raises(DataError, match="waveform must be"):
        recognizer.transcribe(audio, "hin_Deva")


def test_encoder_is_refused_with_the_way_out(encoder_directory):
    with pytest.raises(ModelError, match="speechvq finetune"):
        Recognizer.load(encoder_directory)


def test_unknown_device_is_refused():
    with pytest.raises(DataError, match="`device`"):
        choose_device("gpu")
    with pytest.raises(DataError, match="GPUs"):
        choose_device("cuda:63")


def test_recognizing_needs_neither_engine_nor_hydra_and_importing_needs_no_torch():
    code = (
        "import sys\n"
        "for name in ('fairseq2', 'fairseq2n', 'hydra', 'omegaconf', 'torchaudio'):\n"
        "    sys.modules[name] = None\n"
        "import speechvq\n"
        "assert 'torch' not in sys.modules and speechvq.__version__\n"
        "assert {'Recognizer', 'load_model'} <= set(dir(speechvq))\n"
        "import speechvq.decoding.config\n"
        "assert 'torch' not in sys.modules\n"
        "speechvq.Recognizer, speechvq.load_model\n"
        "assert not hasattr(speechvq, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
