"""Attributions against their definition, one gene or one step at a time, and against a simulation that is known."""

import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.stats import false_discovery_control, fisher_exact
from sklearn.metrics import roc_auc_score

import semiclip as scl
from semiclip import errors
from semiclip.correction import fit_correction
from semiclip.metrics._gene_weights import count_exchanged
from semiclip.tl import _gene_attribution as module
from semiclip.tl import gene_attribution

COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
CENTER = {"method": "center", "n_permutations": 0, **COLUMNS}
SCVI = {"enable_progress_bar": False, "log_every_n_steps": 1, "accelerator": "cpu"}


def encode_pca(study, n_components=12):
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=n_components, rng=0, key_added="X_genes")
    scl.pp.encode(study.knockouts["rna"], encoder=encoder, key_added="X_genes")
    return encoder


def encode_scvi(study):
    options = {"n_latent": 6, "batch_key": "batch", "max_epochs": 2, "rng": 0, "train_kwargs": SCVI}
    encoder = scl.pp.encode(study.mdata["rna"], encoder="scvi", key_added="X_genes", **options)
    scl.pp.encode(study.knockouts["rna"], encoder=encoder, key_added="X_genes")
    return encoder


def train(study, recipe, **options):
    options = {"max_epochs": 2, "rng": 0, "enable_progress_bar": False, "accelerator": "cpu", **COLUMNS, **options}
    reps = {"student_rep": "X_genes", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
    model = scl.tl.semiclip(study.mdata, recipe=recipe, **{**reps, **options})
    scl.tl.embed(study.knockouts["rna"], model)
    return model


@pytest.fixture(scope="module")
def make(shared_study):
    """Return the knockouts of a study with an encoder and a model, made once for each recipe."""
    made = {}

    def build(encode=encode_pca, recipe="shared", **options):
        key = (encode, recipe, *options)
        if key not in made:
            study = shared_study._replace(mdata=shared_study.mdata.copy(), knockouts=shared_study.knockouts.copy())
            encoder = encode(study)
            made[key] = study.knockouts["rna"], encoder, train(study, recipe, **options)
        return made[key]

    return build


def map_by_hand(rna, encoder, model):
    """Return functions from expression and batches to the representation, in double precision."""
    control, batch = (rna.obs["perturbation"] == "control").to_numpy(), rna.obs["batch"].cat.codes.to_numpy(int)
    pca = encoder.model_
    seen = np.asarray(rna.obsm["X_genes"], dtype=np.float64)
    student = fit_correction(seen, batch, control, profile="batch", ridge=0.5)
    layers = [(part.weight.detach().double().numpy(), part.bias.detach().double().numpy())
              for part in model.module.adapter if hasattr(part, "weight")]  # fmt: skip

    def embed(expression, batch):
        rows = (expression - pca.mean_) @ pca.components_.T
        rows = student(rows, batch) * model.module.input_scale
        for i, (weight, bias) in enumerate(layers):
            rows = rows @ weight.T + bias
            rows = np.maximum(rows, 0) if i < len(layers) - 1 else rows
        return model.part_scales_[0] * rows

    return embed, control, batch


@pytest.mark.parametrize("method", ["center", "tvn"])
@pytest.mark.parametrize("names", [["gene_03"], ["gene_03", "gene_09"]])
def test_a_linear_way_is_exact_one_gene_at_a_time(make, names, method):
    """Where all is linear, a gene adds what is lost when it alone is set back to the mean of the controls."""
    rna, encoder, model = make()
    embed, control, batch = map_by_hand(rna, encoder, model)
    x = encoder.features(rna).astype(np.float64)
    z = embed(x, batch)
    np.testing.assert_allclose(z, rna.obsm["X_semiclip"], atol=1e-4 * np.abs(z).max())
    corrected = fit_correction(z, batch, control, method=method)
    rows_of = [np.flatnonzero(rna.obs["perturbation"] == name) for name in names]
    means = [corrected(z, batch, rows).mean(axis=0) for rows in rows_of]
    lengths = [np.linalg.norm(mean) for mean in means]
    if len(names) == 1:
        onto, value = [means[0] / lengths[0]], lengths[0]
    else:
        onto = [mean / (2 * lengths[0] * lengths[1]) for mean in means[::-1]]
        value = means[0] @ means[1] / lengths[0] / lengths[1]
    expected, changes = np.zeros(x.shape[1]), []
    for rows, direction in zip(rows_of, onto, strict=True):
        baseline = np.array([x[control & (batch == code)].mean(axis=0) for code in batch[rows]])
        changes.append((x[rows] - baseline).mean(axis=0))
        for gene in range(x.shape[1]):
            without = x[rows].copy()
            without[:, gene] = baseline[:, gene]
            lost = corrected(embed(x[rows], batch[rows]) - embed(without, batch[rows]), batch[rows])
            # of a difference the shift of the correction does not count
            lost = lost - corrected(np.zeros_like(z[rows]), batch[rows])
            expected[gene] += (lost @ direction).mean()
    chosen = {"perturbation": names[0]} if len(names) == 1 else {"pair": names}
    table = gene_attribution(
        rna, use_rep="X_semiclip", encoder=encoder, model=model, **chosen, **{**CENTER, "method": method}
    )
    found = table.set_index("gene")["attribution"].reindex(encoder.genes_)
    # weights of the encoder and the stored embedding are in single precision
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert table.attrs["value"] == pytest.approx(value, rel=1e-5)
    assert table.attrs["baseline"] == pytest.approx(0, abs=1e-5 * value)
    assert table["attribution"].sum() == pytest.approx(table.attrs["value"] - table.attrs["baseline"], rel=1e-9)
    explained = {"use_rep": "X_semiclip", "perturbations": list(names), "reference": "controls"}
    assert explained.items() <= table.attrs.items()
    assert list(table["rank"]) == list(range(1, len(table) + 1))
    assert table["attribution"].abs().is_monotonic_decreasing
    words = [np.select([change > 0, change < 0], ["up", "down"], "none") for change in changes]
    direction = np.where(words[0] == words[-1], words[0], "mixed")
    assert list(table.set_index("gene")["direction"].reindex(encoder.genes_)) == list(direction)


def test_values_are_those_of_aggregate_and_nearest(make):
    rna, encoder, model = make()
    for rep, taught in (("X_semiclip", model), ("X_genes", None)):
        options = {"use_rep": rep, "encoder": encoder, "model": taught, **COLUMNS, "n_permutations": 0}
        genes = scl.tl.aggregate(rna, use_rep=rep, **COLUMNS)
        near = scl.tl.nearest(rna, use_rep=rep, query="gene_00", n_neighbors=1, n_permutations=0,
                              relationships=pd.DataFrame(columns=["gene_a", "gene_b"]), **COLUMNS)  # fmt: skip
        table = gene_attribution(rna, perturbation="gene_00", **options)
        assert table["attribution"].sum() == pytest.approx(genes.obs[f"effect_size_{rep}"]["gene_00"], rel=1e-5)
        neighbour, cosine = near.loc[0, ["neighbour", "cosine"]]
        one, other = (
            gene_attribution(rna, pair=pair, **options) for pair in (("gene_00", neighbour), (neighbour, "gene_00"))
        )
        assert one["attribution"].sum() == pytest.approx(cosine, abs=1e-5)
        pd.testing.assert_frame_equal(one, other)


def integrate_by_hand(rna, encoder, embed, name, n_steps=400):
    """Sum gradients over all genes and many small steps, a row at a time, by torch's own differentiation."""
    control, batch = (rna.obs["perturbation"] == "control").to_numpy(), rna.obs["batch"].cat.codes.to_numpy(int)
    x = torch.as_tensor(encoder.features(rna), dtype=torch.float64)
    rows = np.flatnonzero(rna.obs["perturbation"] == name)
    z = rna.obsm["X_semiclip"].astype(np.float64)
    corrected = fit_correction(z, batch, control, method="center")
    mean = corrected(z, batch, rows).mean(axis=0)
    direction = torch.as_tensor(mean / np.linalg.norm(mean))
    total = np.zeros(x.shape[1])
    for row in rows:
        start = x[control & (batch == batch[row])].mean(dim=0)
        steps = (torch.arange(n_steps, dtype=torch.float64)[:, None] + 0.5) / n_steps
        line = (start + steps * (x[row] - start)).requires_grad_()
        (slope,) = torch.autograd.grad((embed(line, batch[row]) @ direction).sum(), line)
        total += ((x[row] - start) * slope.mean(dim=0)).numpy() / len(rows)
    return total


def networks_by_hand(rna, encoder, model):
    """Return the whole way from expression to the representation in torch, in double precision."""
    from copy import deepcopy

    control, batch = (rna.obs["perturbation"] == "control").to_numpy(), rna.obs["batch"].cat.codes.to_numpy(int)
    spec = model._specs["student"]
    student = fit_correction(rna.obsm[model.representations["student_rep"]].astype(np.float64), batch, control,
                             method=spec.method, profile=spec.profile, ridge=spec.ridge)  # fmt: skip
    adapter = deepcopy(model.module.adapter).double()
    trained = model.module.encoder
    if trained is None:
        trained = scl.encoders.build(encoder.architecture)
        trained.load_state_dict(encoder.weights())
    trained = deepcopy(trained).double().eval()

    def embed(rows, code):
        shift, weight = (None if part is None else torch.as_tensor(part) for part in student.chains[code])
        if model.module.encoder is None:
            rows = trained(rows)
        rows = rows if shift is None else (rows - shift) @ weight
        return adapter(rows if model.module.encoder is None else trained(rows))

    return embed


@pytest.mark.parametrize(
    ("encode", "options"),
    [
        (encode_pca, {}),
        (encode_scvi, {"max_epochs": 5}),
        (encode_pca, {"model_kwargs": {"student_correction": "tvn"}}),
        (encode_pca, {"model_kwargs": {"student_correction": None}, "pea": False}),
    ],
    ids=["pca", "scvi", "trained behind a correction", "trained"],
)
def test_networks_are_integrated(make, shared_study, encode, options):
    pytest.importorskip("captum")
    study = shared_study._replace(mdata=shared_study.mdata.copy(), knockouts=shared_study.knockouts.copy())
    encoder = encode(study)
    if "model_kwargs" in options:
        for adata in (study.mdata["rna"], study.knockouts["rna"]):
            scl.pp.expression(adata, encoder=encoder)
        options = {
            **options,
            "student_rep": "X_expression",
            "model_kwargs": {"encoder": encoder, **options["model_kwargs"]},
        }
    model = train(study, "whole", **options)
    rna = study.knockouts["rna"]
    embed = networks_by_hand(rna, encoder, model)
    expected = integrate_by_hand(rna, encoder, embed, "gene_05")
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_05", **CENTER}
    table = gene_attribution(rna, n_steps=200, **explain)
    found = table.set_index("gene")["attribution"].reindex(encoder.genes_)
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    whole = table.attrs["value"] - table.attrs["baseline"]
    assert table["attribution"].sum() == pytest.approx(whole, rel=5e-3)
    # more steps come nearer
    few = gene_attribution(rna, n_steps=4, **explain)
    for name, told in table.attrs.items():
        assert few.attrs[name] == (pytest.approx(told) if isinstance(told, float) else told)
    assert abs(few["attribution"].sum() - whole) >= abs(table["attribution"].sum() - whole) - 1e-9


def test_the_student_beside_the_distilled_part_and_no_controls(shared_study):
    study = shared_study._replace(mdata=shared_study.mdata.copy(), knockouts=shared_study.knockouts.copy())
    encoder = encode_pca(study)
    treated = {"perturbation_key": "perturbation", "control": None, "batch_key": "batch"}
    model = train(study, "shared", **treated, model_kwargs={"distilled_weight": 0.5})
    rna = study.knockouts["rna"]
    assert rna.obsm["X_semiclip"].shape[1] == model.module.n_output + 12
    genes = scl.tl.aggregate(rna, use_rep="X_semiclip", method="center", **treated)
    table = gene_attribution(rna, use_rep="X_semiclip", encoder=encoder, model=model, perturbation="gene_05",
                             method="center", n_permutations=0, **treated)  # fmt: skip
    assert table.attrs["reference"] == "all rows"
    assert table["attribution"].sum() == pytest.approx(genes.obs["effect_size_X_semiclip"]["gene_05"], rel=1e-4)


def test_p_values_count_exchanges():
    rng = np.random.default_rng(1)
    changes, weights = rng.normal(size=(2, 3, 8))
    weights[0, 3] = 0
    measured = (changes * weights).sum(axis=0)
    generator, counts = np.random.default_rng(4), np.zeros(8)
    for _ in range(50):
        order = generator.permutation(8)
        for gene in range(8):
            size = abs(sum(changes[part, gene] * weights[part, order[gene]] for part in range(3)))
            counts += size >= np.abs(measured) * (1 - 1e-9)
    expected = (1 + counts) / (1 + 50 * 8)
    np.testing.assert_allclose(count_exchanged(changes, weights, 50, 4), expected)
    # those without a change or a weight, whatever the other, are left out of the test and of the exchanges
    still, unread = np.zeros((2, 3, 5)), rng.normal(size=(2, 3, 5))
    padded = [
        np.concatenate(parts, axis=1) for parts in ((still[0], changes, unread[0]), (unread[1], weights, still[1]))
    ]
    found = count_exchanged(*padded, 50, 4)
    np.testing.assert_allclose(found[5:13], expected)
    assert np.isnan(found[[*range(5), *range(13, 18)]]).all()
    assert np.isnan(count_exchanged(still[0], unread[0], 50, 4)).all()


def test_genes_that_nobody_expresses_change_no_p_value(make):
    rna, *_ = make()
    explain = {"use_rep": "X_genes", "perturbation": "gene_02", **CENTER, "n_permutations": 200, "rng": 0}
    tables = []
    for n_silent in (0, 3 * rna.n_vars):
        silent = sparse.csr_matrix((rna.n_obs, n_silent), dtype=np.float32)
        names = [*rna.var_names, *(f"silent{i}" for i in range(n_silent))]
        padded = anndata.AnnData(sparse.hstack([rna.X, silent], format="csr"), rna.obs, pd.DataFrame(index=names))
        encoder = scl.pp.encode(padded, encoder="pca", n_components=8, rng=0, key_added="X_genes")
        tables.append(gene_attribution(padded, encoder=encoder, **explain).set_index("gene"))
    alone, beside = tables
    assert (alone["p_value"].notna() & alone["p_adjusted"].notna()).all()
    assert beside.loc["silent0", ["direction", "attribution"]].tolist() == ["none", 0]
    assert beside[["p_value", "p_adjusted"]].isna().all(axis=1).sum() == n_silent
    pd.testing.assert_frame_equal(beside.loc[alone.index], alone, atol=1e-3)  # a component is found up to rounding


def test_p_values_come_with_the_table(make):
    rna, encoder, model = make()
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, **COLUMNS}
    table = gene_attribution(rna, pair=("gene_00", "gene_06"), n_permutations=200, rng=3, **explain)
    assert list(table) == ["gene", "attribution", "direction", "rank", "p_value", "p_adjusted"]
    np.testing.assert_allclose(table["p_adjusted"], false_discovery_control(table["p_value"]))
    assert table["p_value"].is_monotonic_increasing
    again = gene_attribution(rna, pair=("gene_00", "gene_06"), n_permutations=200, rng=3, **explain)
    pd.testing.assert_frame_equal(table, again)


def test_blocks_storage_and_order_of_genes_change_nothing(make, monkeypatch, tmp_path):
    rna, encoder, model = make()
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_02", **CENTER}
    before, weights = rna.copy(), {name: value.clone() for name, value in model.module.state_dict().items()}
    table = gene_attribution(rna, **explain)
    assert (rna.X == before.X).all()
    assert {*rna.obsm} == {*before.obsm}
    assert {*rna.uns["semiclip"]} == {*before.uns["semiclip"]}
    assert all((value == weights[name]).all() for name, value in model.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.module.adapter.parameters())
    turned = rna[:, ::-1].copy()
    turned.X = sparse.csr_matrix(turned.X)
    rna.write(tmp_path / "rna.h5ad")
    backed = anndata.read_h5ad(tmp_path / "rna.h5ad", backed="r")
    for data in (turned, backed):
        pd.testing.assert_frame_equal(gene_attribution(data, **explain), table)
    monkeypatch.setattr(module, "VALUES", 1)
    pd.testing.assert_frame_equal(gene_attribution(rna, **explain), table)


def test_a_batch_without_controls_borrows_those_of_all(make):
    rna, encoder, model = make()
    lone = rna.obs["batch"].cat.categories[0]
    rna = rna[~((rna.obs["perturbation"] == "control") & (rna.obs["batch"] == lone))].copy()
    scl.tl.embed(rna, model, fallback="pooled")
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_02", **CENTER}
    with pytest.raises(errors.TooFewControls):
        gene_attribution(rna, **explain)
    with pytest.raises(errors.TooFewControls):
        gene_attribution(rna, **{**explain, "method": None, "model": None, "use_rep": "X_genes"})
    table = gene_attribution(rna, fallback="pooled", **explain)
    whole = table.attrs["value"] - table.attrs["baseline"]
    assert table["attribution"].sum() == pytest.approx(whole, rel=1e-9)


def test_short_batches_share_the_mean_of_all_controls(make, monkeypatch):
    """Read once, however many batches borrow them, and worth what each batch on its own gives."""
    rna, encoder, _ = make()
    rna = rna.copy()
    rna.obs["batch"] = (np.arange(rna.n_obs) // 3).astype(str)
    batch, control = rna.obs["batch"].to_numpy(), (rna.obs["perturbation"] == "control").to_numpy()
    read, n_read = encoder.features, []

    def count(self, adata):
        n_read.append(adata.n_obs)
        return read(adata)

    monkeypatch.setattr(type(encoder), "features", count)
    explain = {"use_rep": "X_genes", "encoder": encoder, "perturbation": "gene_02", **CENTER, "fallback": "pooled"}
    table = gene_attribution(rna, **explain)
    rows = np.flatnonzero(rna.obs["perturbation"] == "gene_02")
    own = [control & (batch == name) for name in np.unique(batch[rows])]
    assert sum(n_read) <= control.sum() + len(rows) + sum(which.sum() for which in own if which.sum() > 1)
    x = read(rna).astype(np.float64)
    pools = {name: control & (batch == name) for name in batch[rows]}
    start = [x[pool if pool.sum() > 1 else control].mean(axis=0) for pool in (pools[name] for name in batch[rows])]
    codes = pd.factorize(batch)[0]
    corrected = fit_correction(
        rna.obsm["X_genes"].astype(np.float64), codes, control, method="center", fallback="pooled"
    )
    z = corrected(rna.obsm["X_genes"].astype(np.float64), codes)
    origin = [z[pool if pool.sum() > 1 else control].mean(axis=0) for pool in (pools[name] for name in batch[rows])]
    direction = (z[rows] - origin).mean(axis=0)
    weight = encoder.model_.components_.T @ direction / np.linalg.norm(direction)
    expected = pd.Series((x[rows] - start).mean(axis=0) * weight, index=encoder.genes_)
    found = table.set_index("gene")["attribution"].reindex(encoder.genes_)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_batch_that_is_not_in_use_may_lack_controls(make, name):
    rna, encoder, _ = make()
    explain = {"use_rep": "X_genes", "encoder": encoder, "perturbation": "gene_02", **CENTER}
    table = gene_attribution(rna, **explain)
    lone = rna.copy()
    lone.obs["batch"] = lone.obs["batch"].astype(str)
    lone.obs.loc[lone.obs_names[lone.obs["perturbation"] == "gene_05"][0], "batch"] = name
    pd.testing.assert_frame_equal(gene_attribution(lone, **explain), table)


@pytest.fixture(scope="module", params=[0, 1])
def known(request):
    """A study with clear pathways, its encoder and its model."""
    sizes = {"n_compounds": 120, "n_knockouts": 40, "n_pathways": 8, "n_genes": 160}
    study = scl.datasets.simulate(**sizes, difficulty="easy", rng=request.param)
    encoder = encode_pca(study, 40)
    return study.knockouts["rna"], encoder, train(study, "shared", max_epochs=None)


def test_the_genes_of_the_pathway_stand_out_more_than_in_expression(known):
    """Of all genes of the pathway, and of the half on which the pathway acts most, against all genes outside."""
    rna, encoder, model = known
    auc = {}
    for rep, taught in (("X_semiclip", model), ("X_genes", None)):
        scores = []
        for i in range(16):
            loading = rna.varm["pathways"][f"pathway_{i % 8}"].abs()
            table = gene_attribution(rna, use_rep=rep, encoder=encoder, model=taught, perturbation=f"gene_{i:03}",
                                     **CENTER)  # fmt: skip
            size = table.set_index("gene")["attribution"].abs().reindex(loading.index)
            strong = (loading == 0) | (loading > loading[loading > 0].median())
            scores.append([roc_auc_score(loading > 0, size), roc_auc_score(loading[strong] > 0, size[strong])])
        auc[rep] = np.mean(scores, axis=0)
    assert (auc["X_semiclip"] > [0.8, 0.9]).all(), auc
    assert (auc["X_semiclip"] > auc["X_genes"] + 0.1).all(), auc


def test_top_genes_are_enriched(known):
    rna, encoder, model = known
    table = gene_attribution(rna, use_rep="X_semiclip", encoder=encoder, model=model, pair=("gene_003", "gene_011"),
                             rng=0, **{**CENTER, "n_permutations": 100})  # fmt: skip
    table["top"] = table["rank"] <= 10
    pathways = {name: list(column.index[column != 0]) for name, column in rna.varm["pathways"].items()}
    found = scl.tl.enrich(table, inside="top", gene_sets=pathways)
    assert found["gene_set"].iloc[0] == "pathway_3"
    assert found["p_adjusted"].iloc[0] < 0.01
    top, genes = set(table["gene"][:10]), set(table["gene"])
    for row in found.itertuples():
        members = set(pathways[row.gene_set])
        x = len(members & top)
        counts = [[x, 10 - x], [len(members) - x, len(genes) - 10 - len(members) + x]]
        assert row.p_value == pytest.approx(fisher_exact(counts, alternative="greater").pvalue)
        assert (row.n_overlap, row.n_region, row.n_background) == (x, 10, len(genes))
        assert row.genes == ";".join(sorted(members & top))
    with pytest.raises(errors.MissingColumn):
        scl.tl.enrich(table, inside="best", gene_sets=pathways)


def test_refusals(make, refuses, monkeypatch):
    rna, encoder, model = make()
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_02", **CENTER}
    with refuses(errors.NotGiven, name="perturbation"):
        gene_attribution(rna, **{**explain, "perturbation": None})
    with refuses(errors.Conflict, first="perturbation", second="pair"):
        gene_attribution(rna, pair=("gene_01", "gene_03"), **explain)
    for pair in (("gene_01", "gene_01"), ("gene_01",), "gene_01"):
        with refuses(errors.BadValue, name="pair", value=pair):
            gene_attribution(rna, **{**explain, "perturbation": None, "pair": pair})
    with refuses(errors.BadValue, name="pair", value=5):
        gene_attribution(rna, **{**explain, "perturbation": None, "pair": 5})
    for several in (["gene_00"], ("gene_00", "gene_01"), pd.NaT):
        with refuses(errors.BadValue, name="perturbation", value=several, needed="one label; two as pair="):
            gene_attribution(rna, **{**explain, "perturbation": several})
    with refuses(errors.BadValue, name="pair"):
        gene_attribution(rna, **{**explain, "perturbation": None, "pair": (["gene_00"], ["gene_01"])})
    with refuses(errors.UnknownChoice, name="perturbation", value="gene_2"):
        gene_attribution(rna, **{**explain, "perturbation": "gene_2"})
    with refuses(errors.UnknownChoice, name="pair", value="control"):
        gene_attribution(rna, **{**explain, "perturbation": None, "pair": ("gene_02", "control")})
    with refuses(errors.WrongType, name="encoder", got=str):
        gene_attribution(rna, **{**explain, "encoder": "pca"})
    with refuses(errors.WrongType, name="model", got=str):
        gene_attribution(rna, **{**explain, "model": "semiclip"})
    with refuses(errors.Mismatch, what="the width of 'X_semiclip'"):
        gene_attribution(rna, **{**explain, "model": None})
    other = rna.copy()
    other.obsm["X_semiclip"] = other.obsm["X_semiclip"][::-1].copy()
    with refuses(errors.Mismatch, got="something else"):
        gene_attribution(other, **explain)
    for label in ("control", "gene_02"):  # in one row alone
        other = rna.copy()
        row = rna.obs_names[rna.obs["perturbation"] == label][0]
        other.obsm["X_semiclip"][rna.obs_names == row] += 5
        with refuses(errors.Mismatch, what=f"'X_semiclip' of {row}", got="something else"):
            gene_attribution(other, **explain)
    with refuses(errors.Mismatch, got="something else"):  # embedded with batches, explained without
        gene_attribution(rna, **{**explain, "batch_key": None})
    with refuses(errors.NotFitted):
        gene_attribution(rna, **{**explain, "model": None, "encoder": scl.encoders.MLPEncoder().fit(rna)})
    still = rna.copy()
    still.obsm["X_semiclip"] = np.ones_like(still.obsm["X_semiclip"])
    with refuses(errors.NoVariation):
        gene_attribution(still, **explain)
    monkeypatch.setitem(sys.modules, "captum", None)
    gene_attribution(rna, **explain)  # a linear way needs no captum
    _, encoder, model = make(recipe="whole")
    scl.tl.embed(other, model, key_added="X_whole")
    with refuses(errors.MissingExtra, package="captum"):
        gene_attribution(other, **{**explain, "use_rep": "X_whole", "encoder": encoder, "model": model})


def test_embeddings_of_z_scores_are_refused_before_they_are_compared(make, refuses):
    rna, encoder, model = make()
    rna, counts = rna.copy(), np.log1p(rna.X)
    rna.X = (counts - counts.mean(axis=0)) / counts.std(axis=0).clip(1e-9)
    scl.pp.encode(rna, encoder=encoder, zscores=True, key_added="X_genes")
    scl.tl.embed(rna, model)
    explain = {"encoder": encoder, "perturbation": "gene_02", **CENTER}
    for use_rep, taught in (("X_genes", None), ("X_semiclip", model)):
        with refuses(errors.Refused, problem="obsm['X_genes'] was made of z-scores, of which the encoder tells no map"):
            gene_attribution(rna, use_rep=use_rep, model=taught, **explain)
