import logging
import re

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip import errors

KEYS = {
    "pair_on": ["perturbation", "dose"],
    "perturbation_key": "perturbation",
    "control": "control",
    "batch_key": "batch",
    "well_key": "well",
}
pytestmark = pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")


@pytest.fixture(scope="module")
def clean():
    """Eight compounds at three doses, two plates of each modality, nothing wrong."""
    sizes = {"n_compounds": 8, "n_knockouts": 20, "n_pathways": 5, "n_genes": 40, "n_image_features": 4, "n_batches": 2}
    mdata = scl.datasets.simulate(**sizes, n_controls=3, rng=0).mdata
    for adata in mdata.mod.values():
        at = pd.Series(np.random.default_rng(0).random(adata.n_obs), adata.obs_names)  # on each plate elsewhere
        numbers = at.groupby(adata.obs["batch"], observed=True).rank().astype(int) - 1
        adata.obs["well"] = [f"{chr(65 + i // 12)}{1 + i % 12:02d}" for i in numbers]
        for key in ("perturbation", "batch"):
            adata.obs[key] = adata.obs[key].astype(str)
    return mdata


@pytest.fixture
def mdata(clean, make_mdata):
    return make_mdata(**{name: adata.copy() for name, adata in clean.mod.items()})


def look(mdata, **change):
    return scl.pp.check(mdata, **KEYS | change)


def mended(mdata, table, **change):
    """Run what the table says, or the line that it leaves to a person, and look again."""
    for mend, code in zip(table["mend"], table["code"], strict=True):
        exec(code or mend.partition(": ")[2], {"mdata": mdata} if code else {"mdata": mdata, "np": np})
    return look(mdata, **change)


def kinds(table):
    return list(zip(table["severity"], table["check"], table["modality"], strict=True))


def test_finds_nothing_where_nothing_is_wrong_and_changes_nothing(mdata, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        table = look(mdata)
    assert table.empty
    assert table.columns.tolist() == ["severity", "check", "modality", "finding", "mend", "code"]
    assert caplog.messages == ["nothing found in 102 samples of rna and 78 samples of image: they can be paired"]
    assert look(mdata, batch_key=None, well_key=None).empty
    assert look(mdata, control=["control"], modalities={"student": "rna"}).empty
    mdata["image"].obs["dose"] *= 1000
    before = {name: adata.copy() for name, adata in mdata.mod.items()}
    assert not look(mdata).empty
    for name, adata in mdata.mod.items():
        pd.testing.assert_frame_equal(adata.obs, before[name].obs)
        np.testing.assert_array_equal(adata.X, before[name].X)


def edit(name, key, change):
    """Plant a mistake in a column of ``obs``."""

    def plant(mdata):
        mdata[name].obs[key] = change(mdata[name].obs[key])

    return plant


def factor(name, by):
    return edit(name, "dose", lambda doses: doses * by)


def rename(name, **names):
    return edit(name, "perturbation", lambda labels: labels.replace(names))


def third_digit(mdata):
    mdata["rna"].obs["dose"] *= 3.333
    mdata["image"].obs["dose"] *= 3.33


def same_names(mdata):
    mdata["image"].obs_names = mdata["rna"].obs_names[: mdata["image"].n_obs]


def one_plate_for_two(mdata):
    obs = mdata["image"].obs
    obs["experiment"] = obs["batch"].str[-1]
    obs["batch"] = "plate1"


def one_control(mdata):
    adata = mdata["image"]
    drop = adata.obs_names[(adata.obs["perturbation"] == "control") & (adata.obs["batch"] == "image_batch_1")][1:]
    mdata.mod["image"] = adata[~adata.obs_names.isin(drop)].copy()


def not_a_number(mdata):
    mdata["image"].obsm["X_image"][[3, 5], 1] = [np.nan, np.inf]


def ensembl(mdata):
    adata = mdata["rna"]
    adata.var["gene_symbols"] = adata.var_names
    adata.var_names = [f"ENSG{i:011d}.{i % 3}" for i in range(adata.n_vars)]


def normalised(mdata):
    adata = mdata["rna"]
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)


def twice(axis):
    def plant(mdata):
        names = getattr(mdata["rna"], axis)
        setattr(mdata["rna"], axis, ["twice", "twice", *names[2:]])

    return plant


SPELT = {"compound_0": "Compound 0", "compound_3": "COMPOUND-3"}
BOTH = "rna, image"
no_dose_of_controls = edit("image", "dose", lambda doses: doses.where(doses > 0))
dose_as_text = edit("image", "dose", lambda doses: doses.astype(str))
same_batches = edit("image", "batch", lambda batches: batches.str.replace("image", "rna"))
MISTAKES = {  # what the finding must tell: numbers, names and rows
    "nM for µM": (factor("image", 1000), ("error", "units", BOTH), "of image is 1,000 .* of rna in 24 of 24"),
    "µM for nM": (factor("rna", 1000), ("error", "units", BOTH), "of rna is 1,000 .* of image in 24 of 24"),
    "M for µM": (factor("rna", 1e-6), ("error", "units", BOTH), "of image is 1,000,000 .* 24 of 24"),
    "rounded otherwise": (third_digit, ("warning", "rounding", BOTH), "24 .* 0.3333 and 0.333, 3.333 and 3.33"),
    "controls of another name": (rename("image", control="DMSO"), ("error", "control names", "image"), "DMSO .6 rows"),
    "no dose of controls": (no_dose_of_controls, ("info", "missing values", "image"), "'dose'.* 6 row"),
    "dose as text": (dose_as_text, ("error", "kind of column", "image"), "'dose'"),
    "spelt otherwise": (rename("image", **SPELT), ("warning", "spelling", BOTH), "2 .* 'compound_0' and 'Compound 0'"),
    "samples of one name": (same_names, ("info", "shared sample names", BOTH), "78"),
    "batches of one name": (same_batches, ("info", "shared batch names", BOTH), "2 .* rna_batch_0"),
    "plates of one name": (one_plate_for_two, ("error", "repeated wells", "image"), "39 .* plate1"),
    "one control": (one_control, ("error", "few controls", "image"), r"1 batch.* image_batch_1 \(1\)"),
    "not a number": (not_a_number, ("error", "not finite", "image"), "'X_image'.* 2 row.*: image_03, image_05"),
    "genes by identifier": (ensembl, ("warning", "gene identifiers", "rna"), "40 of 40 .* ENSG00000000000.0, ENSG0000"),
    "normalised": (normalised, ("info", "no counts", "rna"), "fractions"),
    "names twice": (twice("obs_names"), ("error", "repeated names", "rna"), "1 obs_names .* twice"),
    "genes twice": (twice("var_names"), ("warning", "repeated names", "rna"), "1 var_names .* twice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_finds_one_mistake_alone_and_the_mend_mends_it(mdata, mistake):
    plant, kind, told = MISTAKES[mistake]
    plant(mdata)
    table = look(mdata)
    table = table[table["check"] != "few shared keys"].reset_index()  # which may follow from the mistake
    assert kinds(table) == [kind]
    assert re.search(told, table["finding"][0])
    assert mended(mdata, table).empty


def test_finds_all_mistakes_at_once_errors_first(mdata):
    for plant in (factor("image", 1000), rename("image", control="DMSO"), rename("image", **SPELT), ensembl):
        plant(mdata)
    same_batches(mdata)
    table = look(mdata)
    assert kinds(table) == [
        ("error", "control names", "image"),
        ("error", "units", BOTH),
        ("error", "few shared keys", BOTH),
        ("warning", "gene identifiers", "rna"),
        ("warning", "spelling", BOTH),
        ("info", "shared batch names", BOTH),
    ]
    assert mended(mdata, table[table["check"] != "few shared keys"]).empty


def test_what_it_calls_an_error_is_refused_and_the_rest_is_not(mdata):
    """Pairing, as training does it, agrees with the severity."""
    columns = {key: KEYS[key] for key in ("pair_on", "perturbation_key", "control")}
    for name in ("dose as text", "controls of another name", "names twice"):
        wrong = mdata.copy()
        MISTAKES[name][0](wrong)
        with pytest.raises((errors.WrongDtype, errors.UnknownControl, errors.Repeated)):
            scl.pp.pair(wrong, **columns)
    for name in ("spelt otherwise", "no dose of controls", "batches of one name", "genes by identifier"):
        odd = mdata.copy()
        MISTAKES[name][0](odd)
        assert scl.pp.pair(odd, **columns).attrs["summary"]["shared_keys"] >= 18


@pytest.mark.parametrize(
    ("doses", "expected"),
    [
        ((0.1, 1.0, 10.0), []),
        ((10.0,), []),  # one of three doses is a design, no unit
        ((5.0,), [("error", "no common dose", BOTH)]),
        ((0.1, 1.0, 10000.0), []),  # nor is one dose that is a thousand times another
        ((100.0, 1000.0, 5.0), [("error", "units", BOTH)]),
    ],
)
def test_tells_units_from_designs(mdata, doses, expected):
    image = mdata["image"]
    index = image.obs["dose"].map({0.0: -1, 0.1: 0, 1.0: 1, 10.0: 2}).astype(int)
    image.obs["dose"] = np.where(index < 0, 0.0, np.take(doses, index % len(doses)))
    assert [kind for kind in kinds(look(mdata)) if kind[1] != "few shared keys"] == expected


def test_few_shared_keys(mdata):
    image = mdata["image"]
    image.obs["perturbation"] = image.obs["perturbation"].str.replace("compound", "drug")
    table = look(mdata)
    assert kinds(table) == [("error", "few shared keys", BOTH)]
    assert re.match(r"0 .*24 in rna \(compound_.*\) .*24 in image \(drug_.*\)", table["finding"][0])
    rename("image", drug_1="compound_1")(mdata)
    table = look(mdata)
    assert kinds(table) == [("warning", "few shared keys", BOTH)]
    assert table["finding"][0].startswith("3 ")


def test_missing_columns_are_named_and_the_rest_waits(mdata):
    del mdata["image"].obs["dose"]
    mdata["image"].obsm["X_image"][0] = np.nan
    table = look(mdata, batch_key="Plate")
    assert kinds(table) == [
        ("error", "not finite", "image"),
        ("error", "missing column", "rna"),
        ("error", "missing column", "image"),
    ]
    assert "dose, Plate" in table["finding"][2]


USUAL = "DMSO dmso Control ctrl NEG negcon Neg.Ctrl non-targeting NonTargeting_12 NT NTC vehicle EMPTY empty_vector"
USUAL = [*USUAL.split(), "Untreated", "mock", "scrambled"]
UNUSUAL = "aspirin NTRK1 CTRL1B DMSOX MOCOS NEGR1 controlin NT5E VHL".split()


def test_knows_usual_names_of_controls(make_mdata):
    obs = pd.DataFrame({"perturbation": [*USUAL, *UNUSUAL]}).set_axis([f"s{i}" for i in range(26)])
    other = pd.DataFrame({"perturbation": UNUSUAL}).set_axis([f"t{i}" for i in range(9)])
    mdata = make_mdata(rna=anndata.AnnData(obs=obs), image=anndata.AnnData(obs=other))
    table = scl.pp.check(mdata, pair_on="perturbation", control=None)
    (mend,) = table.loc[table["check"] == "control names", "mend"]
    assert f"control={USUAL!r}" in mend


def test_labels_that_look_like_controls_beside_the_controls(mdata):
    rename("rna", compound_1="non-targeting_3")(mdata)
    table = look(mdata)
    assert kinds(table) == [("warning", "control names", "rna")]
    assert "control=['control', 'non-targeting_3']" in table["mend"][0]
    unknown = look(mdata, control="vehicle")
    assert kinds(unknown)[:2] == [("error", "control names", "rna"), ("error", "control names", "image")]
    assert "non-targeting_3 (12 rows), control (6 rows)" in unknown["finding"][0]
    for name in ("rna", "image"):
        rename(name, **{"control": "cmpd0", "non-targeting_3": "compound_1"})(mdata)
    assert kinds(look(mdata))[:2] == [("error", "control names", "rna"), ("error", "control names", "image")]
    assert look(mdata, control=None).empty  # where there are none, none are missed


@pytest.mark.parametrize("name", ["ENSMUSG00000059552.8", "7157"])
def test_knows_identifiers_of_genes_and_that_negative_values_are_no_counts(mdata, name):
    adata = mdata["rna"]
    adata.var_names = [re.sub(r"\d$", str(i % 10), name) + ("" if i < 10 else str(i)) for i in range(adata.n_vars)]
    adata.X -= 1
    table = look(mdata)
    assert kinds(table) == [("warning", "gene identifiers", "rna"), ("info", "no counts", "rna")]
    assert "negative" in table["finding"][1]
    assert "normalize=False" in table["mend"][1]


@pytest.mark.parametrize("dtype", ["float64", "category", "Float64"])
def test_controls_need_no_dose_and_treated_rows_do(mdata, dtype):
    obs = mdata["rna"].obs
    treated, dose = obs["perturbation"] != "control", obs["dose"].copy()
    obs["dose"] = dose.where(treated).astype(dtype)
    table = look(mdata)
    assert kinds(table) == [("info", "missing values", "rna")]
    assert mended(mdata, table).empty
    assert obs["dose"].tolist() == dose.tolist()
    rows = obs.index[treated][:2].tolist()
    obs["dose"] = dose.where(~obs.index.isin(rows)).astype(dtype)
    if dtype == "float64":
        obs.loc[rows[1], "dose"] = np.inf
    table = look(mdata)
    assert kinds(table) == [("error", "missing values", "rna")]
    assert f"2 row(s): {', '.join(rows)}" in table["finding"][0]


def test_reads_categories_sparse_counts_and_missing_x(mdata, make_mdata):
    rna, image = mdata["rna"], mdata["image"]
    for adata in (rna, image):
        adata.obs["hours"] = 24  # units are compared within the rest of the key
        for key in ("perturbation", "batch", "well"):
            adata.obs[key] = adata.obs[key].astype("category")
    rna.X = sparse.csr_matrix(rna.X)
    image.obs["dose"] *= 1000
    table = look(mdata, pair_on=["perturbation", "dose", "hours"])
    assert kinds(table) == [("error", "units", BOTH), ("error", "few shared keys", BOTH)]
    bare = anndata.AnnData(obs=rna.obs)
    errors_of_bare = kinds(look(make_mdata(rna=bare, image=image)))[:2]
    assert errors_of_bare == [("error", "no values", "rna"), ("error", "units", BOTH)]
    other = make_mdata(expression=rna, cells=image)
    table = look(other, modalities={"student": "expression", "teacher": "cells"})
    assert table["code"][0].startswith("mdata['cells'].obs['dose'] /= 1000 if ")
    assert kinds(table)[0] == ("error", "units", "expression, cells")


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array, pd.DataFrame])
@pytest.mark.parametrize("place", ["X", "obsm"])
def test_not_a_number_is_found_anywhere_and_is_no_fraction(mdata, make, place):
    rna = mdata["rna"]
    values = np.ones((rna.n_obs, rna.n_vars if place == "X" else 6), np.float32)
    values[1, 1], values[4, 0], values[4, 4] = np.nan, np.inf, -np.inf
    names = rna.obs_names.tolist()
    if place == "X":
        rna.X = values if make is pd.DataFrame else make(values)
    else:
        rna.obsm["X_e"] = make(values, names, list("uvwxyz")) if make is pd.DataFrame else make(values)
    table = look(mdata)
    assert kinds(table) == [("error", "not finite", "rna")]
    assert table["finding"][0].endswith(f"2 row(s): {names[1]}, {names[4]}")
    assert mended(mdata, table).empty
    assert mdata["rna"].obs_names.tolist() == np.delete(names, [1, 4]).tolist()


def test_a_column_without_numbers_does_not_cost_all_rows(mdata):
    mdata["rna"].X = mdata["rna"].X.astype(np.float32)
    mdata["rna"].X[:, 1] = np.nan
    mdata["rna"].X[0, 0] = 0.5
    table = look(mdata)
    assert kinds(table) == [("error", "not finite", "rna"), ("info", "no counts", "rna")]
    assert table["mend"][0].startswith("fill mdata['rna'].X")


def test_batches_of_controls(mdata):
    """Batches may be numbers; without them all rows are one; none are dropped where none would stay."""
    for adata in mdata.mod.values():
        adata.obs["batch"] = adata.obs["batch"].str[-1].astype(int) + 10 * ("image" in adata.obs_names[0])
    obs = mdata["image"].obs
    is_control = obs["perturbation"] == "control"
    obs.loc[is_control & (obs["batch"] == 11), "perturbation"] = "compound_1"
    assert "few controls" not in look(mdata, batch_key=None, well_key=None)["check"].tolist()
    table = look(mdata)
    assert kinds(table) == [("error", "few controls", "image")]
    assert table["finding"][0].endswith("11 (0)")
    assert "error" not in mended(mdata.copy(), table)["severity"].tolist()
    obs.loc[obs.index[obs["perturbation"] == "control"][1:], "perturbation"] = "compound_1"
    table = look(mdata)
    (mend,) = table.loc[table["check"] == "few controls", "mend"]
    assert "isin" not in mend


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"pair_on": []}, errors.BadValue, {"name": "pair_on"}),
        ({"modalities": {"teacher": "protein"}}, errors.MissingEntry, {"key": "protein", "there": ["rna", "image"]}),
    ],
)
def test_refuses(mdata, make_mdata, refuses, change, error, data):
    with refuses(error, **data):
        look(mdata, **change)
    with refuses(errors.WrongType, got=anndata.AnnData):
        look(mdata["rna"])
    with refuses(errors.Empty):
        look(make_mdata(rna=mdata["rna"], image=mdata["image"][:0].copy()))
