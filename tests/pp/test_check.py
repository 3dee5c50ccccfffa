import logging
import re

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.datasets._assemble import modalities

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
    mdata = scl.datasets.simulate(
        n_compounds=8, n_knockouts=20, n_pathways=5, n_genes=40, n_image_features=4, n_batches=2, n_controls=3
    ).mdata
    for adata in mdata.mod.values():
        numbers = adata.obs.groupby("batch", observed=True).cumcount()
        adata.obs["well"] = [f"{chr(65 + i // 12)}{1 + i % 12:02d}" for i in numbers]
        for key in ("perturbation", "batch"):
            adata.obs[key] = adata.obs[key].astype(str)
    return mdata


@pytest.fixture
def mdata(clean):
    return modalities(**{name: adata.copy() for name, adata in clean.mod.items()})


def look(mdata, **change):
    return scl.pp.check(mdata, **KEYS | change)


def mended(mdata, table, **change):
    """Run what the table says and look again."""
    for code in table["mend"]:
        exec(code, {"mdata": mdata, "np": np})
    return look(mdata, **change)


def kinds(table):
    return list(zip(table["severity"], table["check"], table["modality"], strict=True))


def test_finds_nothing_where_nothing_is_wrong(mdata, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        table = look(mdata)
    assert table.empty
    assert table.columns.tolist() == ["severity", "check", "modality", "finding", "mend"]
    assert caplog.messages == ["findings: 0 error, 0 warning, 0 info"]
    assert look(mdata, batch_key=None, well_key=None).empty
    assert look(mdata, control="control", modalities={"student": "rna"}).empty


def test_changes_nothing(mdata):
    mdata["image"].obs["dose"] *= 1000
    before = {name: adata.copy() for name, adata in mdata.mod.items()}
    look(mdata)
    for name, adata in mdata.mod.items():
        pd.testing.assert_frame_equal(adata.obs, before[name].obs)
        np.testing.assert_array_equal(adata.X, before[name].X)


def factor(name, by):
    def plant(mdata):
        mdata[name].obs["dose"] *= by

    return plant


def rename(name, **names):
    def plant(mdata):
        mdata[name].obs["perturbation"] = mdata[name].obs["perturbation"].replace(names)

    return plant


def third_digit(mdata):
    mdata["rna"].obs["dose"] *= 3.333
    mdata["image"].obs["dose"] *= 3.33


def no_dose_of_controls(mdata):
    obs = mdata["image"].obs
    obs["dose"] = obs["dose"].where(obs["perturbation"] != "control")


def dose_as_text(mdata):
    mdata["image"].obs["dose"] = mdata["image"].obs["dose"].astype(str)


def same_names(mdata):
    mdata["image"].obs_names = mdata["rna"].obs_names[: mdata["image"].n_obs]


def same_batches(mdata):
    mdata["image"].obs["batch"] = mdata["image"].obs["batch"].str.replace("image", "rna")


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
MISTAKES = {
    "nM for µM": (
        factor("image", 1000),
        ("error", "units", BOTH),
        "obs['dose'] of image is 1,000 times that of rna in 24 of 24 shared keys",
    ),
    "µM for nM": (
        factor("rna", 1000),
        ("error", "units", BOTH),
        "obs['dose'] of rna is 1,000 times that of image in 24 of 24 shared keys",
    ),
    "M for µM": (factor("rna", 1e-6), ("error", "units", BOTH), "of image is 1,000,000 times that of rna in 24 of 24"),
    "rounded otherwise": (
        third_digit,
        ("warning", "rounding", BOTH),
        "obs['dose'] differs by less than 5 % in 24 shared keys, as 0.3333 and 0.333, 3.333 and 3.33, 33.33 and 33.3",
    ),
    "controls of another name": (
        rename("image", control="DMSO"),
        ("error", "control names", "image"),
        "no row is labelled control, but DMSO (6 rows)",
    ),
    "no dose of controls": (
        no_dose_of_controls,
        ("info", "missing values", "image"),
        "obs['dose'] has no value in 6 row(s): image_",
    ),
    "dose as text": (dose_as_text, ("error", "kind of column", "image"), "obs['dose'] is text, and numeric in the"),
    "spelt otherwise": (
        rename("image", **SPELT),
        ("warning", "spelling", BOTH),
        "2 name(s) in obs['perturbation'] would match but for case, blanks or hyphens: 'compound_0' and 'Compound 0'",
    ),
    "samples of one name": (same_names, ("info", "shared sample names", BOTH), "78 obs_names are in both"),
    "batches of one name": (same_batches, ("info", "shared batch names", BOTH), "2 batch(es) go by one name in both"),
    "plates of one name": (
        one_plate_for_two,
        ("error", "repeated wells", "image"),
        "39 well(s) are there again on plate(s) plate1",
    ),
    "one control": (
        one_control,
        ("error", "few controls", "image"),
        "1 batch(es) have fewer than 2 controls: image_batch_1 (1)",
    ),
    "not a number": (
        not_a_number,
        ("error", "not finite", "image"),
        "obsm['X_image'] is NaN or infinite in 2 row(s): image_03, image_05",
    ),
    "genes by identifier": (
        ensembl,
        ("warning", "gene identifiers", "rna"),
        "40 of 40 var_names are identifiers, such as ENSG00000000000.0, ENSG00000000001.1",
    ),
    "normalised": (normalised, ("info", "no counts", "rna"), "X holds fractions, no raw counts"),
    "names twice": (twice("obs_names"), ("error", "repeated names", "rna"), "1 obs_names repeat: twice"),
    "genes twice": (twice("var_names"), ("warning", "repeated names", "rna"), "1 var_names repeat: twice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_finds_one_mistake_alone_and_the_mend_mends_it(mdata, mistake):
    plant, kind, finding = MISTAKES[mistake]
    plant(mdata)
    table = look(mdata)
    table = table[table["check"] != "few shared keys"].reset_index()  # which may follow from the mistake
    assert kinds(table) == [kind]
    assert finding in table["finding"][0]
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
    first = table[table["check"] != "few shared keys"]
    assert "mend the other findings first" in table.loc[2, "mend"]
    assert mended(mdata, first).empty


def test_what_it_calls_an_error_is_refused_and_the_rest_is_not(mdata):
    """Pairing, as training does it, agrees with the severity."""
    how = {key: KEYS[key] for key in ("pair_on", "perturbation_key", "control")}
    for name in ("dose as text", "controls of another name", "names twice"):
        wrong = mdata.copy()
        MISTAKES[name][0](wrong)
        with pytest.raises((ValueError, TypeError)):
            scl.pp.pair(wrong, **how)
    for name in ("spelt otherwise", "no dose of controls", "batches of one name", "genes by identifier"):
        odd = mdata.copy()
        MISTAKES[name][0](odd)
        assert scl.pp.pair(odd, **how).attrs["summary"]["shared_keys"] >= 18


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
    found = [kind for kind in kinds(look(mdata)) if kind[1] != "few shared keys"]
    assert found == expected


def test_units_are_compared_within_the_rest_of_the_key(mdata):
    for adata in mdata.mod.values():
        adata.obs["hours"] = 24
    mdata["image"].obs["dose"] *= 1000
    table = look(mdata, pair_on=["perturbation", "dose", "hours"])
    assert kinds(table) == [("error", "units", BOTH), ("error", "few shared keys", BOTH)]
    assert mended(mdata, table[:1], pair_on=["perturbation", "dose", "hours"]).empty


def test_few_shared_keys(mdata):
    image = mdata["image"]
    image.obs["perturbation"] = image.obs["perturbation"].str.replace("compound", "drug")
    table = look(mdata)
    assert kinds(table) == [("error", "few shared keys", BOTH)]
    assert re.fullmatch(
        r"0 keys are shared, of 24 in rna \(compound_.*\) and 24 in image \(drug_.*\)", table["finding"][0]
    )
    rename("image", drug_1="compound_1")(mdata)
    assert kinds(look(mdata)) == [("warning", "few shared keys", BOTH)]
    assert look(mdata)["finding"][0].startswith("3 keys are shared, of 24 in rna")


def test_missing_columns_are_named_and_the_rest_waits(mdata):
    del mdata["image"].obs["dose"]
    mdata["image"].obsm["X_image"][0] = np.nan
    table = look(mdata, batch_key="Plate")
    assert kinds(table) == [
        ("error", "not finite", "image"),
        ("error", "missing column", "rna"),
        ("error", "missing column", "image"),
    ]
    assert table["finding"][1] == "obs has no column Plate, only perturbation, dose, batch, well"
    assert table["finding"][2] == "obs has no column dose, Plate, only perturbation, batch, well"


def test_labels_that_look_like_controls_beside_the_controls(mdata):
    rename("rna", compound_1="non-targeting_3")(mdata)
    table = look(mdata)
    assert kinds(table) == [("warning", "control names", "rna")]
    assert table["finding"][0] == "non-targeting_3 count as perturbations, but are named like controls"
    unknown = look(mdata, control="vehicle")
    assert kinds(unknown)[:2] == [("error", "control names", "rna"), ("error", "control names", "image")]
    assert "no row is labelled vehicle, but non-targeting_3 (12 rows), control (6 rows)" in unknown["finding"][0]


def test_a_control_that_nothing_resembles(mdata):
    rename("image", control="cmpd0")(mdata)
    table = look(mdata)
    assert kinds(table) == [("error", "control names", "image")]
    assert "no row is labelled control; the most frequent labels are" in table["finding"][0]
    assert table["mend"][0] == "pass the label of the controls as control="


def test_without_controls_none_are_missed(mdata):
    rename("image", control="cmpd0")(mdata)
    rename("rna", control="cmpd0")(mdata)
    assert look(mdata, control=None).empty


@pytest.mark.parametrize("name", ["ENSG00000141510", "ENSMUSG00000059552.8", "7157"])
def test_knows_identifiers_of_genes(mdata, name):
    adata = mdata["rna"]
    adata.var_names = [re.sub(r"\d$", str(i % 10), name) + ("" if i < 10 else str(i)) for i in range(adata.n_vars)]
    table = look(mdata)
    assert kinds(table) == [("warning", "gene identifiers", "rna")]
    assert table["mend"][0].startswith("mdata['rna'].var_names = symbols of these genes;")


def test_negative_values_are_no_counts(mdata):
    mdata["rna"].X -= 1
    table = look(mdata)
    assert kinds(table) == [("info", "no counts", "rna")]
    assert "X holds negative values" in table["finding"][0] and "normalize=False" in table["mend"][0]


def test_missing_values_of_treated_rows_are_not_filled(mdata):
    mdata["rna"].obs.loc[["rna_000", "rna_003"], "dose"] = [np.nan, np.inf]
    table = look(mdata)
    assert kinds(table) == [("error", "missing values", "rna")]
    assert table["finding"][0] == "obs['dose'] has no value in 2 row(s): rna_000, rna_003"
    assert table["mend"][0] == "fill these rows of mdata['rna'].obs['dose'], or drop them"


def test_reads_categories_sparse_counts_and_missing_x(mdata):
    from scipy import sparse

    rna, image = mdata["rna"], mdata["image"]
    for adata in (rna, image):
        for key in ("perturbation", "batch", "well"):
            adata.obs[key] = adata.obs[key].astype("category")
    rna.X = sparse.csr_matrix(rna.X)
    image.obs["dose"] *= 1000
    assert kinds(look(mdata)) == [("error", "units", BOTH), ("error", "few shared keys", BOTH)]
    bare = anndata.AnnData(obs=rna.obs)
    assert kinds(look(modalities(rna=bare, image=image)))[0] == ("error", "units", BOTH)


def test_other_names_of_modalities(mdata):
    other = modalities(expression=mdata["rna"], cells=mdata["image"])
    mdata["image"].obs["dose"] *= 1000
    table = look(other, modalities={"student": "expression", "teacher": "cells"})
    assert table["mend"][0] == "mdata['cells'].obs['dose'] /= 1000"
    assert kinds(table)[0] == ("error", "units", "expression, cells")


def test_refuses_what_it_cannot_look_at(mdata):
    with pytest.raises(TypeError, match="a MuData with the modality 'rna' is needed, not AnnData"):
        look(mdata["rna"])
    with pytest.raises(KeyError, match="the MuData has no modality 'image', only rna"):
        look(mudata.MuData({"rna": mdata["rna"]}))
    with pytest.raises(ValueError, match="modality 'image' has no observations"):
        look(modalities(rna=mdata["rna"], image=mdata["image"][:0].copy()))
    with pytest.raises(ValueError, match="modalities names pupil"):
        look(mdata, modalities={"pupil": "rna"})
    with pytest.raises(ValueError, match="pair_on names no column"):
        look(mdata, pair_on=[])
    with pytest.raises(ValueError, match="control='control' needs perturbation_key="):
        look(mdata, perturbation_key=None)


def test_batches_may_be_numbers(mdata):
    for adata in mdata.mod.values():
        adata.obs["batch"] = adata.obs["batch"].str[-1].astype(int) + 10 * ("image" in adata.obs_names[0])
    adata = mdata["image"]
    adata.obs.loc[(adata.obs["perturbation"] == "control") & (adata.obs["batch"] == 11), "perturbation"] = "compound_1"
    table = look(mdata)
    assert kinds(table) == [("error", "few controls", "image")]
    assert "1 batch(es) have fewer than 2 controls: 11 (0)" in table["finding"][0]
    assert [kind for kind in kinds(mended(mdata, table)) if kind[0] == "error"] == []
