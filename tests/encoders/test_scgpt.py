import logging

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from semiclip import errors
from semiclip.encoders import ScGPTEncoder, load

WIDTH, HEADS, HIDDEN, LAYERS = 8, 2, 12, 2
SETTINGS = {"embsize": WIDTH, "nheads": HEADS, "d_hid": HIDDEN, "nlayers": LAYERS, "n_bins": 7, "pad_value": -2}
SETTINGS |= {"dropout": 0.2, "input_style": "binned", "input_emb_style": "continuous", "n_layers_cls": 3}
GENES = [f"GENE{i}" for i in range(20)]
VOCABULARY = {**{name: 3 * i % 20 for i, name in enumerate(GENES)}, "<pad>": 20, "<cls>": 21, "<eoc>": 22}


class Published(nn.Module):
    """The parts of scGPT that make cell embeddings, of torch's own layers and with the published names."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"embedding": nn.Embedding(23, WIDTH), "enc_norm": nn.LayerNorm(WIDTH)})
        names = {"linear1": nn.Linear(1, WIDTH), "linear2": nn.Linear(WIDTH, WIDTH), "norm": nn.LayerNorm(WIDTH)}
        self.value_encoder = nn.ModuleDict(names)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, 0.2, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.decoder = nn.Sequential(nn.Linear(WIDTH, 1))  # a head, as those of pretraining

    def embed(self, row, ids, n_bins=7):
        """Embed one sample, without padding; draws of scGPT are one half."""
        expressed = np.flatnonzero(row)
        values = row[expressed].astype(float)
        edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
        left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
        bins = np.ceil(0.5 * (right - left) + left)
        tokens = torch.tensor([VOCABULARY["<cls>"], *ids[expressed]])
        bins = torch.tensor([-2.0, *bins.tolist()])[:, None]
        encoder, value = self.encoder, self.value_encoder
        states = encoder["enc_norm"](encoder["embedding"](tokens))
        states = states + value["norm"](value["linear2"](value["linear1"](bins).relu()))
        cls = self.transformer_encoder(states[None])[0, 0]
        return (cls / cls.norm()).detach().numpy()


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    model = Published().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-2, 2)
    return model


@pytest.fixture
def folder(published, write_scgpt, tmp_path):
    return write_scgpt(tmp_path / "scGPT_tiny", published.state_dict(), VOCABULARY, SETTINGS)


def make(n=6, genes=(*GENES, "NOVEL1"), seed=0, convert=np.asarray):
    rng = np.random.default_rng(seed)
    values = rng.poisson(3, (n, len(genes))) * rng.binomial(1, 0.7, (n, len(genes)))
    return anndata.AnnData(convert(values.astype(np.float32)), var=pd.DataFrame(index=list(genes)))


def encoder_of(folder, **options):
    return ScGPTEncoder(folder, progress_bar=False, **options)


def test_embeds_as_scgpt_does(folder, published):
    adata = make()
    ids = np.array([VOCABULARY[gene] for gene in GENES])
    expected = np.stack([published.embed(row[:20], ids) for row in adata.X])
    assert np.abs(expected - expected[0]).max() > 0.1
    embedding = encoder_of(folder).fit(adata).encode(adata)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def flash(name):
    return name.replace("self_attn.in_proj_", "self_attn.Wqkv.")


def test_reads_all_spellings_and_precisions_of_the_weights(folder, published):
    adata = make()
    expected = encoder_of(folder).fit(adata).encode(adata)
    for rename in (
        flash,
        lambda name: f"module.{name}",
        lambda name: f"module.{flash(name)}",
        lambda name: flash(name).replace("self_attn.", "self_attn._impl."),
    ):
        renamed = {rename(name): value for name, value in published.state_dict().items()}
        torch.save(renamed | {"flag_encoder.weight": torch.zeros(2, WIDTH), "epoch": 3}, folder / "best_model.pt")
        assert np.array_equal(encoder_of(folder).fit(adata).encode(adata), expected)
    torch.save({name: value.half() for name, value in renamed.items()}, folder / "best_model.pt")
    encoder = encoder_of(folder).fit(adata)
    assert all(value.dtype == torch.float32 for value in encoder.weights().values())
    np.testing.assert_allclose(encoder.encode(adata), expected, atol=0.02)


def test_the_genes_of_the_vocabulary_are_read_in_its_order(folder, caplog):
    adata = make()
    with caplog.at_level(logging.INFO, logger="semiclip"):
        encoder = encoder_of(folder).fit(adata)
    assert caplog.records[0].args[0] == 20 and "NOVEL1" in caplog.text
    assert encoder.genes_.tolist() == sorted(GENES, key=VOCABULARY.__getitem__)
    np.testing.assert_array_equal(encoder.features(adata), adata[:, encoder.genes_].X)


@pytest.mark.parametrize("max_length", [1200, 5])
def test_the_order_and_batches_of_the_data_change_nothing(folder, max_length):
    adata = make(n=11)
    expected = encoder_of(folder, max_length=max_length).fit(adata).encode(adata)
    shuffled = adata[:, np.random.default_rng(2).permutation(21)].copy()
    for batch_size in (1, 4, 11, 99):
        other = encoder_of(folder, max_length=max_length, batch_size=batch_size).fit(shuffled)
        np.testing.assert_allclose(other.encode(shuffled), expected, atol=1e-6)
        np.testing.assert_allclose(other.encode(adata), expected, atol=1e-6)


def test_a_layer_and_a_column_of_symbols(folder):
    plain = make()
    expected = encoder_of(folder).fit(plain).encode(plain)
    adata = make(seed=1)
    adata.layers["counts"] = plain.X
    adata.var["symbol"] = pd.Categorical(adata.var_names)
    adata.var_names = [f"ENSG{i:011d}" for i in range(21)]
    encoder = encoder_of(folder, gene_key="symbol", layer="counts").fit(adata)
    assert np.array_equal(encoder.encode(adata), expected)
    assert adata.var_names[0] == "ENSG00000000000"


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of missing genes
def test_genes_that_other_data_lack_are_not_expressed(folder, refuses):
    adata = make()
    encoder = encoder_of(folder).fit(adata)
    some, silent = adata[:, 3:].copy(), adata.copy()
    silent.X[:, :3] = 0
    np.testing.assert_allclose(encoder.encode(some), encoder.encode(silent), atol=1e-6)
    with refuses(errors.TooFew, number=5, needed=10):
        encoder.encode(adata[:, :5].copy())


def test_saves_and_loads(folder, tmp_path, craft):
    adata = make()
    encoder = encoder_of(folder, max_length=9).fit(adata)
    encoder.save(tmp_path / "saved")
    for file in folder.iterdir():
        file.unlink()
    loaded = load(tmp_path / "saved")
    assert np.array_equal(loaded.encode(adata), encoder.encode(adata))
    sizes = {"n_input": 20, "n_hidden": HIDDEN, "n_output": WIDTH, "n_layers": LAYERS, "n_heads": HEADS}
    settings = {"kind": "scgpt", "n_bins": 7, "max_length": 9, "pad_value": -2, "dropout": 0.2}
    assert loaded.architecture == encoder.architecture == sizes | settings
    assert loaded.genes_.equals(encoder.genes_)
    before = (tmp_path / "saved" / "encoder.json").read_text()
    for change in ({"n_layers": 10**9}, {"n_hidden": 5}, {"kind": "mlp"}, {"n_input": 19}):
        (tmp_path / "saved" / "encoder.json").write_text(before)
        craft(tmp_path / "saved", "encoder", lambda index, change=change: index["contents"]["state"].update(change))
        with pytest.raises(errors.DamagedFile):
            load(tmp_path / "saved")


def test_shows_its_progress_where_asked_for_and_worth_while(folder, monkeypatch, capsys):
    options = []

    def bar(items, *_, delay, disable, **__):
        options.append((len(items), delay, disable))
        return items

    ScGPTEncoder(folder, batch_size=2).fit(make()).encode(make())
    assert capsys.readouterr().err == ""  # it took no second
    monkeypatch.setattr("tqdm.auto.tqdm", bar)
    for encoder in (ScGPTEncoder(folder, batch_size=2), ScGPTEncoder(folder), encoder_of(folder, batch_size=2)):
        encoder.fit(make()).encode(make())
    assert options == [(3, 1, False), (1, 1, True), (3, 1, True)]


def test_too_few_genes(folder, refuses):
    for name in ("ENSG{:011d}", "Gene{}"):
        genes = [name.format(i) for i in range(9)]
        with pytest.raises(errors.TooFew) as caught:
            encoder_of(folder).fit(make(genes=genes))
        assert (caught.value.number, caught.value.needed) == (0, 5)
        assert genes[0] in caught.value.way_out and "GENE0" in caught.value.way_out
        some = make(genes=[*genes, *GENES[:2]])
        with refuses(errors.TooFew, number=2, needed=6):
            encoder_of(folder).fit(some)
        assert len(encoder_of(folder, min_overlap=0.1).fit(some).genes_) == 2
    with refuses(errors.TooFew, number=0, needed=1):
        encoder_of(folder).fit(make(genes=[]))


def test_symbols_repeat_only_where_they_are_not_read(folder, refuses):
    adata = make()
    adata.var["symbol"] = [*GENES[:19], GENES[3], "NOVEL1"]
    with refuses(errors.Repeated, items=["GENE3"]):
        encoder_of(folder, gene_key="symbol").fit(adata)
    once = adata[:, ~adata.var["symbol"].duplicated()].copy()
    assert len(encoder_of(folder, gene_key="symbol").fit(once).genes_) == 19
    adata.var["symbol"] = [*GENES[:18], "other", "other", "other"]
    assert len(encoder_of(folder, gene_key="symbol").fit(adata).genes_) == 18


@pytest.mark.parametrize(
    ("options", "value", "error", "data"),
    [
        ({"gene_key": "symbol"}, 1, errors.MissingColumn, {"key": "symbol", "where": "var"}),
        ({}, -1, errors.NotCounts, {"rows": ["1", "4"]}),
        ({}, np.nan, errors.NotCounts, {"rows": ["1", "4"]}),
        ({}, np.inf, errors.NotCounts, {"rows": ["1", "4"]}),
        ({"max_length": 1}, 1, errors.BadValue, {"name": "max_length", "value": 1}),
        ({"batch_size": 0}, 1, errors.BadValue, {"name": "batch_size", "value": 0}),
    ],
)
def test_refuses(folder, options, value, error, data, refuses):
    adata = make()
    adata.X[[1, 4], 2] = value
    with refuses(error, **data):
        encoder_of(folder, **options).fit(adata)
