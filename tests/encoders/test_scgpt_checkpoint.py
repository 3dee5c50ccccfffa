"""What ScGPTEncoder says of folders that are not whole or not what scGPT publishes."""

import json
import pickle
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from semiclip import errors
from semiclip.encoders import ScGPTEncoder

GENES = [f"GENE{i}" for i in range(20)]
ARGS, VOCABULARY, WEIGHTS = "args.json", "vocab.json", "best_model.pt"
BIAS, TABLE = "value_encoder.norm.bias", "encoder.embedding.weight"


@pytest.fixture
def folder(tiny_scgpt):
    return tiny_scgpt(GENES)


@pytest.fixture
def weights(folder):
    return torch.load(folder / WEIGHTS)


def make():
    values = np.random.default_rng(0).poisson(2, (6, 20)).astype(np.float32)
    return anndata.AnnData(values, var=pd.DataFrame(index=GENES))


def embed(folder):
    return ScGPTEncoder(folder, progress_bar=False).fit(make()).encode(make())


@pytest.fixture
def check_damage(folder):
    """Fitting names the damaged file and what is wrong in it, and leaves the encoder unfitted."""

    def check(name, *words):
        encoder = ScGPTEncoder(folder, progress_bar=False)
        with pytest.raises(errors.DamagedFile) as caught:
            encoder.fit(make())
        assert caught.value.path == folder / name
        assert all(word in caught.value.reason for word in words), caught.value.reason
        assert not hasattr(encoder, "genes_")

    return check


@pytest.mark.parametrize("name", [ARGS, VOCABULARY, WEIGHTS])
def test_missing_and_broken_files(folder, name, check_damage, refuses):
    path = folder / name
    for content in (b"", b"\xff\xfe", b'{"a": ', path.read_bytes()[: path.stat().st_size // 2]):
        path.write_bytes(content)
        check_damage(name)
    path.unlink()
    with refuses(errors.MissingFile, path=[path]):
        embed(folder)
    nowhere = folder.parent / "nowhere"
    with refuses(errors.MissingFile, path=[nowhere / file for file in (ARGS, VOCABULARY, WEIGHTS)]):
        embed(nowhere)


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_cut_short_anywhere(folder, weights, zipped, check_damage):
    path = folder / WEIGHTS
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    embed(folder)
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        check_damage(WEIGHTS)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "legacy", "pickle"])
def test_code_in_the_weights_does_not_run(folder, weights, tmp_path, writer, check_damage):
    content = {**weights, "extra": Payload(tmp_path / "ran")}
    path = folder / WEIGHTS
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    check_damage(WEIGHTS)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"embsize": None, "nheads": None}, ARGS, ["embsize", "nheads"]),
        ({"pad_value": None}, ARGS, ["pad_value"]),
        ({"input_emb_style": "category"}, ARGS, ["input_emb_style='category'"]),
        ({"input_style": "log1p", "pre_norm": True}, ARGS, ["input_style='log1p'", "pre_norm=True"]),
        ({"nlayers": 3}, WEIGHTS, ["2", "3"]),
        ({"nlayers": 10**9}, WEIGHTS, ["1000000000"]),
        ({"embsize": 16}, WEIGHTS, [TABLE, "(21, 8)", "(21, 16)"]),
        ({"d_hid": 13}, WEIGHTS, ["transformer_encoder.layers.0.linear1.weight", "(12, 8)", "(13, 8)"]),
        ({"nheads": 3}, WEIGHTS, ["n_output=8", "n_heads=3"]),
        ({"nheads": "2"}, WEIGHTS, ["n_heads='2'"]),
        ({"dropout": "0.2"}, WEIGHTS, ["dropout='0.2'"]),
        ({"n_bins": 1}, WEIGHTS, ["n_bins=1"]),
    ],
)
def test_settings_that_are_not_of_these_weights(folder, changes, name, words, check_damage):
    settings = json.loads((folder / ARGS).read_text()) | changes
    (folder / ARGS).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    check_damage(name, *words)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (ARGS, lambda x: [1], ["list"]),
        (VOCABULARY, lambda x: GENES, ["list"]),
        (VOCABULARY, lambda x: {"TP53": "7", "<cls>": -1, "<pad>": 1}, ["TP53", "<cls>"]),
        (VOCABULARY, lambda x: dict.fromkeys(GENES, 0), ["<cls>", "<pad>"]),
        (VOCABULARY, lambda x: {**x, "<cls>": 23}, ["23", TABLE]),
        (WEIGHTS, lambda x: list(x.values()), ["list"]),
        (WEIGHTS, lambda x: {"model": x}, [TABLE]),
        (WEIGHTS, lambda x: {name: value for name, value in x.items() if name != TABLE}, [TABLE]),
        (WEIGHTS, lambda x: {name: value for name, value in x.items() if name != BIAS}, [BIAS]),
        (WEIGHTS, lambda x: {**x, f"module.{BIAS}": x[BIAS]}, [f"module.{BIAS}"]),
    ],
)
def test_other_content(folder, weights, name, change, words, check_damage):
    if name == WEIGHTS:
        torch.save(change(weights), folder / name)
    else:
        (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))
    check_damage(name, *words)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")  # torch 2.14 says that it is slow
@pytest.mark.parametrize(
    ("convert", "of_bias", "of_table"),
    [
        (lambda x: x.to("meta"), "meta", "meta"),
        (lambda x: x.to_sparse(), "torch.sparse_coo", ""),
        (lambda x: x.to(torch.complex64), "torch.complex64", "torch.complex64"),
        (lambda x: x.int(), "torch.int32", "torch.int32"),
        (lambda x: x.sum(), "()", "()"),
        (lambda x: x[None], "(1, 8)", "(1, 23, 8)"),
        (lambda x: x * torch.nan, BIAS, TABLE),
        (lambda x: x.double() + 1e300, BIAS, TABLE),
    ],
)
def test_tensors_that_are_not_plain_numbers(folder, weights, convert, of_bias, of_table, check_damage):
    for name, word in ((BIAS, of_bias), (TABLE, of_table)):
        torch.save({**weights, name: convert(weights[name])}, folder / WEIGHTS)
        rows_are_wrong = name == TABLE and word.startswith("(")
        check_damage(VOCABULARY if rows_are_wrong else WEIGHTS, word)


def test_tensors_that_are_not_needed_may_be_anything(folder, weights, caplog):
    def aside():
        return [record.args for record in caplog.records if len(record.args) == 1]  # others count genes

    expected = embed(folder)
    odd = {"cls.weight": torch.ones(3, device="meta"), "mvc.bias": torch.tensor(torch.nan), "step": torch.tensor(1j)}
    torch.save({**weights, **odd}, folder / WEIGHTS)
    assert np.array_equal(embed(folder), expected)
    assert not aside()
    torch.save({**weights, "dsbn.bns.0.weight": torch.ones(8)}, folder / WEIGHTS)
    assert np.array_equal(embed(folder), expected)
    assert aside() == [("dsbn.bns.0.weight",)]
