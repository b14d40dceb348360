"""Files that pose as models: nothing in them runs, and the refusal is clear and quick."""

import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest
import torch

from speechvq.errors import ModelError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, FbankConfig, Features
from speechvq.models.directory import load_model, save_model
from speechvq.models.vocabulary import build_character_vocabulary


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    torch.manual_seed(1)
    config = CTCModelConfig(
        features=Features.fbank,
        fbank=FbankConfig(num_mels=20),
        encoder=EncoderConfig(
            num_layers=1,
            model_dim=16,
            num_heads=2,
            ffn_dim=16,
            position_kernel=8,
            position_groups=2,
        ),
    )
    vocabularies = {"hin_Deva": build_character_vocabulary(["नमस्ते"])}
    directory = tmp_path_factory.mktemp("models") / "good"
    save_model(directory, create_ctc_model(config, vocabularies))
    return directory


def save_torch(bomb, **kwargs):
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "bomb": bomb}, buffer, **kwargs)
    return buffer.getvalue()


def save_numpy(bomb):
    buffer = io.BytesIO()
    np.save(buffer, np.array([bomb], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zip_of(name, data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def tar_of(name, data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_header(text, length=None):
    data = text.encode()
    return struct.pack("<Q", len(data) if length is None else length) + data


WEIGHTS = {
    **{f"pickle {p}": lambda b, p=p: pickle.dumps(b, protocol=p) for p in range(6)},
    "torch zip": save_torch,
    "torch before zip": lambda b: save_torch(b, _use_new_zipfile_serialization=False),
    "numpy": save_numpy,
    "npz": lambda b: zip_of("a.npy", save_numpy(b)),
    "zip": lambda b: zip_of("../../escape", pickle.dumps(b)),
    "tar": lambda b: tar_of("../../escape", pickle.dumps(b)),
    "pickle behind a safetensors header": lambda b: make_header("{}") + pickle.dumps(b),
    "huge header": lambda b: make_header("{}", 1 << 62),
    "header of nothing": lambda b: make_header(""),
    "deep header": lambda b: make_header("[" * 100_000),
    "tensor beyond the end": lambda b: make_header(
        json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    ),
    "offsets that overflow": lambda b: make_header(
        json.dumps({"x": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 8]}})
    ),
    "program": lambda b: b"#!/bin/sh\nmkdir " + str(b.path).encode(),
    "empty": lambda b: b"",
}


def change_config(directory, change):
    document = json.loads((directory / "config.json").read_text())
    change(document)
    (directory / "config.json").write_text(json.dumps(document))


def set_in(*keys, value):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return lambda directory, bomb: change_config(directory, change)


def write(name, make):
    return lambda directory, bomb: (directory / name).write_bytes(make(bomb))


def replace_by_pipe(name):
    def change(directory, bomb):
        (directory / name).unlink()
        os.mkfifo(directory / name)

    return change


def link(name, target):
    def change(directory, bomb):
        (directory / name).unlink()
        (directory / name).symlink_to(target)

    return change


DIRECTORIES = {
    "pickled config": write("config.json", pickle.dumps),
    "deep config": write("config.json", lambda b: b"[" * 200_000),
    "unknown key": set_in("model", "shell", value="touch evil"),
    "unknown outer key": set_in("auto_map", value={"AutoModel": "evil.Model"}),
    "class path": set_in("model", "features", value="os.system"),
    "layers without end": set_in("model", "encoder", "num_layers", value=10**9),
    "wide": set_in("model", "encoder", "model_dim", value=10**12),
    "wide inside": set_in("model", "encoder", "ffn_dim", value=10**30),
    "many filters": set_in("model", "fbank", "num_mels", value=10**9),
    "adapters of negative width": set_in("model", "adapter_dim", value=-1),
    "corpus that is a list": set_in("corpus", value=["sources"]),
    "not a number": set_in("model", "encoder", "dropout", value=float("nan")),
    "pickled vocabulary": write("vocab.json", pickle.dumps),
    "vocabulary of code": write(
        "vocab.json",
        lambda b: b'{"hin_Deva": {"kind": "sentencepiece", "model": "gASVAAAA", "code": "x"}}',
    ),
    "head named for a path": write(
        "vocab.json",
        lambda b: b'{"../x.y": {"kind": "character", "labels": ["<pad>", "<unk>", "|", "a"]}}',
    ),
    "head named as the module's own": write(
        "vocab.json",
        lambda b: b'{"type": {"kind": "character", "labels": ["<pad>", "<unk>", "|", "a"]}}',
    ),
    "half a character": write(
        "vocab.json",
        lambda b: json.dumps(
            {"hin_Deva": {"kind": "grapheme", "labels": ["<pad>", "<unk>", "|", "\ud915"]}}
        ).encode(),
    ),
    "languages without end": write(
        "vocab.json",
        lambda b: json.dumps(
            {
                f"l{number}": {"kind": "character", "labels": ["<pad>", "<unk>", "|"]}
                for number in range(20_000)
            }
        ).encode(),
    ),
    "weights are a pipe": replace_by_pipe("model.safetensors"),
    "config is a pipe": replace_by_pipe("config.json"),
    "config is a device": link("config.json", "/dev/zero"),
    "vocabulary is a device": link("vocab.json", "/dev/zero"),
    "weights are a device": link("model.safetensors", "/dev/zero"),
    "weights are a folder": link("model.safetensors", "/tmp"),
}


def refuse(directory, bomb):
    begin = time.process_time()
    with pytest.raises(ModelError) as caught:
        load_model(directory)
    assert time.process_time() - begin < 1
    assert not bomb.path.exists()
    assert 20 < len(str(caught.value)) < 1000


def copy(good, directory):
    directory.mkdir()
    for path in good.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none(good, tmp_path, name):
    bomb = Bomb(tmp_path / "ran")
    copy(good, tmp_path / "model")
    data = WEIGHTS[name](bomb)
    (tmp_path / "model" / "model.safetensors").write_bytes(data)
    refuse(tmp_path / "model", bomb)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", DIRECTORIES)
def test_directories_that_are_none(good, tmp_path, name):
    bomb = Bomb(tmp_path / "ran")
    copy(good, tmp_path / "model")
    DIRECTORIES[name](tmp_path / "model", bomb)
    refuse(tmp_path / "model", bomb)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_weights(good, tmp_path, share):
    copy(good, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refuse(tmp_path / "model", Bomb(tmp_path / "ran"))


def test_pickle_beside_a_good_model_is_never_looked_at(good, tmp_path):
    bomb = Bomb(tmp_path / "ran")
    copy(good, tmp_path / "model")
    for name in ("pytorch_model.bin", "model.pt", "vocab.pkl", "training_args.bin"):
        (tmp_path / "model" / name).write_bytes(pickle.dumps(bomb))
    load_model(tmp_path / "model")
    assert not bomb.path.exists()


def test_the_bomb_is_a_bomb(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()
