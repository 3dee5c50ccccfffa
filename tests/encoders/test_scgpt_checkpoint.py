"""What ScGPTEncoder says of folders that are not whole or not what scGPT publishes."""

import json
import pickle
import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from semiclip.encoders._network import build
from semiclip.encoders._scgpt import ScGPTEncoder

WIDTH = 8
SETTINGS = {"embsize": WIDTH, "nheads": 2, "d_hid": 12, "nlayers": 2, "pad_value": -2}
SIZES = {"n_output": WIDTH, "n_heads": 2, "n_hidden": 12, "n_layers": 2}
GENES = [f"GENE{i}" for i in range(20)]
VOCABULARY = {name: row for row, name in enumerate([*GENES, "<pad>", "<cls>", "<eoc>"])}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return build({"kind": "scgpt", "n_input": 22, **SIZES}).state_dict()


@pytest.fixture
def folder(weights, tmp_path):
    folder = tmp_path / "scGPT_tiny"
    folder.mkdir()
    (folder / "args.json").write_text(json.dumps(SETTINGS))
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    torch.save(weights, folder / "best_model.pt")
    return folder


def make():
    values = np.random.default_rng(0).poisson(2, (6, 20)).astype(np.float32)
    return anndata.AnnData(values, var=pd.DataFrame(index=GENES))


def encoder_of(folder):
    return ScGPTEncoder(folder, progress_bar=False)


def refuses(error, message, folder):
    encoder = encoder_of(folder)
    with pytest.raises(error, match=re.escape(message)):
        encoder.fit(make())
    with pytest.raises(RuntimeError, match="this encoder is not fitted"):
        encoder.encode(make())


@pytest.mark.parametrize("name", ["args.json", "vocab.json", "best_model.pt"])
def test_missing_and_broken_files(folder, name):
    path = folder / name
    for content in (b"", b"\xff\xfe", b'{"a": ', path.read_bytes()[: path.stat().st_size // 2]):
        path.write_bytes(content)
        reading = "cannot be read: it is cut short" if name == "best_model.pt" else "is not JSON"
        refuses(ValueError, f"{path} {reading}", folder)
    path.unlink()
    refuses(FileNotFoundError, f"{folder} has no {name}; checkpoint is the folder of a published", folder)
    refuses(FileNotFoundError, "nowhere has no args.json, vocab.json, best_model.pt", folder.parent / "nowhere")


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_cut_short_anywhere(folder, weights, zipped):
    path = folder / "best_model.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    encoder_of(folder).fit(make())
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        refuses(ValueError, f"{path} cannot be read", folder)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "legacy", "pickle"])
def test_code_in_the_weights_does_not_run(folder, weights, tmp_path, writer):
    content = {**weights, "extra": Payload(tmp_path / "ran")}
    path = folder / "best_model.pt"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    refuses(ValueError, "it holds more than weights, which is refused since it could run code", folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embsize": None, "nheads": None}, "args.json lacks embsize, nheads"),
        ({"pad_value": None}, "args.json lacks pad_value"),
        ({"input_emb_style": "category"}, "args.json has input_emb_style='category', which no published model has"),
        ({"input_style": "log1p", "pre_norm": True}, "args.json has input_style='log1p', pre_norm=True"),
        ({"nlayers": 3}, "there are weights of 2 layers, but 3 layers are asked for"),
        ({"nlayers": 10**9}, "there are weights of 2 layers, but 1000000000 layers are asked for"),
        ({"embsize": 16}, "best_model.pt does not fit args.json: encoder.embedding.weight is (21, 8), not (21, 16)"),
        ({"d_hid": 13}, "transformer_encoder.layers.0.linear1.weight is (12, 8), not (13, 8)"),
        ({"nheads": 3}, "n_output=8, the embedding, is not a multiple of n_heads=3"),
        ({"nheads": "2"}, "n_heads='2' is not a whole number of at least 1"),
        ({"dropout": "0.2"}, "dropout='0.2' must be at least 0 and below 1"),
        ({"n_bins": 1}, "n_bins=1 is not a whole number of at least 3"),
    ],
)
def test_settings_that_are_not_of_these_weights(folder, changes, message):
    settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    (folder / "args.json").write_text(json.dumps(settings))
    refuses(ValueError, message, folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("args.json", [1], "args.json holds a list, not an object with names"),
        ("vocab.json", GENES, "vocab.json holds a list, not an object with names"),
        ("vocab.json", {"TP53": "7", "<cls>": -1}, "vocab.json has no row of the embedding for TP53, <cls>"),
        ("vocab.json", dict.fromkeys(GENES, 0), "vocab.json lacks <cls>, <pad>, so it is not"),
        ("vocab.json", {**VOCABULARY, "<cls>": 23}, "vocab.json names row 23, but encoder.embedding.weight in "),
    ],
)
def test_other_content(folder, name, content, message):
    (folder / name).write_text(json.dumps(content))
    refuses(ValueError, message, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: list(w.values()), "best_model.pt holds a list, not weights by name"),
        (lambda w: {"model": w}, "best_model.pt lacks encoder.embedding.weight"),
        (lambda w: w.pop("encoder.embedding.weight"), "best_model.pt lacks encoder.embedding.weight"),
        (lambda w: w.pop("value_encoder.norm.bias"), "there are no value_encoder.norm.bias"),
        (
            lambda w: w.update({f"module.{name}": w[name] for name in ("value_encoder.norm.bias",)}),
            "best_model.pt has weights under two names: module.value_encoder.norm.bias",
        ),
    ],
)
def test_other_weights(folder, weights, change, message):
    weights = dict(weights)
    returned = change(weights)
    torch.save(returned if isinstance(returned, dict | list) else weights, folder / "best_model.pt")
    refuses(ValueError, message, folder)


def test_batch_normalisation_of_tokens_is_left_out_with_a_warning(folder, weights, caplog):
    adata = make()
    expected = encoder_of(folder).fit(adata).encode(adata)
    torch.save({**weights, "dsbn.bns.0.weight": torch.ones(WIDTH)}, folder / "best_model.pt")
    assert np.array_equal(encoder_of(folder).fit(adata).encode(adata), expected)
    assert "normalisation of tokens is left out, as scGPT does for cell embeddings: dsbn.bns.0.weight" in caplog.text


BIAS, TABLE = "value_encoder.norm.bias", "encoder.embedding.weight"
PLAIN = "best_model.pt does not fit args.json: weights must be plain floating-point numbers, but "


@pytest.mark.parametrize(
    ("name", "convert", "message"),
    [
        (BIAS, lambda x: x.to("meta"), f"{PLAIN}{BIAS} is without values (device meta)"),
        (BIAS, lambda x: x.to_sparse(), f"{PLAIN}{BIAS} is of the layout torch.sparse_coo"),
        (BIAS, lambda x: x.to(torch.complex64), f"{PLAIN}{BIAS} is of the type torch.complex64"),
        (BIAS, lambda x: x.int(), f"{PLAIN}{BIAS} is of the type torch.int32"),
        (BIAS, lambda x: x.sum(), f"{BIAS} is (), not (8,)"),
        (BIAS, lambda x: x * torch.nan, f"there are NaN or infinite weights, as float32, in {BIAS}"),
        (BIAS, lambda x: x.double() + 1e300, f"there are NaN or infinite weights, as float32, in {BIAS}"),
        (TABLE, lambda x: x.to("meta"), f"holds no table of tokens: {TABLE} is without values (device meta)"),
        (TABLE, lambda x: x.to_sparse(), f"holds no table of tokens: {TABLE} is of the layout torch.sparse_coo"),
        (TABLE, lambda x: x.to(torch.complex64), f"holds no table of tokens: {TABLE} is of the type torch.complex64"),
        (TABLE, lambda x: x.long(), f"holds no table of tokens: {TABLE} is of the type torch.int64"),
        (TABLE, lambda x: x.sum(), f"holds no table of tokens: {TABLE} is of 0 dimensions"),
        (TABLE, lambda x: x[None], f"holds no table of tokens: {TABLE} is of 3 dimensions"),
        (TABLE, lambda x: x / 0, f"there are NaN or infinite weights, as float32, in {TABLE}"),
    ],
)
def test_tensors_that_are_not_plain_numbers(folder, weights, name, convert, message):
    torch.save({**weights, name: convert(weights[name])}, folder / "best_model.pt")
    refuses(ValueError, message, folder)


def test_tensors_that_are_not_needed_may_be_anything(folder, weights):
    expected = encoder_of(folder).fit(make()).encode(make())
    odd = {"cls.weight": torch.ones(3, device="meta"), "mvc.bias": torch.tensor(torch.nan), "step": torch.tensor(1j)}
    torch.save({**weights, **odd}, folder / "best_model.pt")
    assert np.array_equal(encoder_of(folder).fit(make()).encode(make()), expected)


def test_weights_that_memory_cannot_hold(folder, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    refuses(ValueError, "best_model.pt cannot be read: it is cut short, or it holds more", folder)
