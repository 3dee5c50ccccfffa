"""Cases in which a hasty mend would do harm: `code` leaves them alone, or keeps what it cannot know."""

from __future__ import annotations

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import semiclip as scl

KEYS = {"pair_on": ["drug", "dose"], "perturbation_key": "drug", "control": "dmso"}
DRUGS = [f"drug {i}" for i in range(5)]


def find(mdata, check, **change):
    table = scl.pp.check(mdata, **{**KEYS, **change})
    return table[table["check"] == check]


def run(mdata, codes):
    for code in codes:
        exec(code, {"mdata": mdata})


# ---- doses


@pytest.mark.parametrize("unknown", ["nan", " ", "<NA>", "\u200bNaN\u00a0"])
def test_a_dose_that_is_not_known_does_not_become_zero(make_screen, unknown):
    mdata = make_screen(DRUGS * 3, DRUGS * 3)
    doses = ["0 uM"] * 4 + ["1 uM"] * 6 + [unknown] * 5 + ["vehicle"] * 2
    mdata["rna"].obs["dose"] = pd.Series(doses, mdata["rna"].obs_names, dtype=object)
    mdata["image"].obs["dose"] = 1.0
    (code,) = find(mdata, "units in text")["code"]
    for _ in range(2):
        run(mdata, [code])
        expected = [0.0] * 4 + [1.0] * 6 + [np.nan] * 5 + [0.0] * 2
        np.testing.assert_array_equal(mdata["rna"].obs["dose"].to_numpy(), expected)
    (row,) = find(mdata, "missing values").itertuples()
    assert (row.severity, row.code) == ("error", "")


def test_a_word_in_a_row_without_a_label_is_left_to_a_person(make_screen):
    mdata = make_screen(["a", "b", "unknown"], ["a", "b", "c"])
    mdata["rna"].obs["dose"] = ["1 uM", "2 uM", "low", "0 uM", "0 uM"]
    mdata["image"].obs["dose"] = 1.0
    assert find(mdata, "units in text")["code"].tolist() == [""]


def test_blanks_that_strip_keeps_are_taken_off_before_a_dose_is_read(make_screen):
    mdata = make_screen(["a", "b"], ["a", "b"])
    for adata in mdata.mod.values():
        adata.obs["dose"] = ["1 uM\u200b", "1000 nM", "0 uM", "0 uM"]
    codes = scl.pp.check(mdata, **KEYS)["code"].tolist()
    run(mdata, codes)
    run(mdata, codes[::-1])
    assert [adata.obs["dose"].tolist() for adata in mdata.mod.values()] == [[1, 1, 0, 0]] * 2


@pytest.mark.parametrize(("written", "n"), [(["24h", "48h"], 0), (["24h", "2 days"], 0), (["24h", "1 day"], 1)])
def test_times_that_both_spell_alike_are_no_mistake(make_screen, written, n):
    mdata = make_screen(DRUGS * 2, DRUGS * 2)
    for adata in mdata.mod.values():
        adata.obs["dose"] = [written[0]] * 5 + [written[1]] * 5 + ["0"] * 2
    assert len(find(mdata, "units in text")) == n  # a day is 24 h
    mdata["image"].obs["dose"] = mdata["image"].obs["dose"].str.replace("24h", "24 h")
    assert len(find(mdata, "units in text")) == 1


def test_perturbations_of_two_kinds_are_told_and_doses_wait(make_screen):
    mdata = make_screen(["1", "2"], [1, 2], dose=[1.0, 2.0, 0.0, 0.0])
    mdata["image"].obs["drug"] = [1, 2, 0, 0]
    table = scl.pp.check(mdata, **{**KEYS, "control": ["dmso", 0]})
    assert table["check"].tolist()[0] == "kind of column"


def test_numbers_that_name_perturbations_are_no_doses():
    from semiclip._mudata import make_mudata

    rng, n = np.random.default_rng(0), 2000
    sides = {}
    for name, factor in (("rna", 1), ("image", 1000)):
        obs = pd.DataFrame({"id": factor * (1 + np.arange(n)), "time": "24h"}, index=[f"{name}{i}" for i in range(n)])
        sides[name] = AnnData(obs=obs, obsm={"X_any": rng.normal(size=(n, 2))})
    checks = scl.pp.check(make_mudata(**sides), pair_on=["time", "id"], control=None)["check"].tolist()
    assert checks == ["few shared keys"]


# ---- positions


def write_plates(mdata, **columns):
    """Two experiments of one plate each, which go by one name; every well is there twice."""
    n = mdata["rna"].n_obs // 2
    obs = mdata["rna"].obs
    obs["plate"], obs["well"] = "p1", [f"A{i:02}" for i in range(n)] * 2
    for key, values in columns.items():
        obs[key] = values
    mdata["image"].obs["plate"], mdata["image"].obs["well"] = "q", [f"B{i:02}" for i in range(mdata["image"].n_obs)]


@pytest.mark.parametrize(
    ("column", "values", "is_code"),
    [
        ("experiment", [1] * 6 + [2] * 6, True),
        ("experiment", ["a"] * 6 + ["b"] * 6, True),
        ("experiment", ["a"] * 6 + ["b"] * 5 + [None], False),
        ("n_cells", np.linspace(10.5, 90, 12), False),
        ("n_cells", np.arange(12), False),
        ("Metadata_Site", [1] * 6 + [2] * 6, False),
        ("FieldID", [1] * 6 + [2] * 6, False),
    ],
)
def test_a_column_tells_plates_apart_if_it_has_a_value_for_each(make_screen, column, values, is_code):
    mdata = make_screen([f"drug {i}" for i in range(10)], DRUGS, dose=1.0)
    write_plates(mdata, **{column: values})
    (code,) = find(mdata, "repeated wells", batch_key="plate", well_key="well")["code"]
    assert bool(code) == is_code
    if is_code:
        assert f"obs['{column}']" in code
        run(mdata, [code])
        assert mdata["rna"].obs["plate"].nunique() == 2
        assert find(mdata, "repeated wells", batch_key="plate", well_key="well").empty


@pytest.mark.parametrize("key", ["plate", "well"])
def test_controls_without_a_plate_or_well_get_no_dose(make_screen, key):
    mdata = make_screen(DRUGS, DRUGS, dose=[1.0] * 5 + [0.0] * 2, plate=1.0, well=[1.0, 2, 3, 4, 5, 6, 7])
    mdata["rna"].obs.loc[["rna5", "rna6"], key] = np.nan
    (row,) = find(mdata, "missing values", batch_key="plate", well_key="well").itertuples()
    assert "all controls" in row.finding
    assert row.code == ""


# ---- controls


def test_the_only_label_like_a_control_need_not_be_the_control(make_screen):
    mdata = make_screen(DRUGS, DRUGS)
    for adata in mdata.mod.values():
        adata.obs["dose"] = 1.0
    mdata["image"].obs["drug"] = ["empty", *DRUGS[1:], "solvent", "solvent"]
    (row,) = find(mdata, "control names").itertuples()
    assert (row.severity, row.code) == ("error", "")
    assert "solvent" in row.finding
    assert "['empty']" in row.mend


@pytest.mark.parametrize("rows", [["SOLVENT", "SOLVENT"], ["SOLVENT", "solvent"]])
def test_controls_of_any_name_are_found_in_another_case(make_screen, rows):
    mdata = make_screen(DRUGS, DRUGS, dose=1.0)
    mdata["rna"].obs["drug"] = [*DRUGS, *rows]
    mdata["image"].obs["drug"] = [*DRUGS, "solvent", "solvent"]
    (row,) = find(mdata, "control names", control="solvent").itertuples()
    assert row.severity == "error"
    assert f"SOLVENT ({rows.count('SOLVENT')} rows)" in row.finding
    run(mdata, [row.code])
    assert mdata["rna"].obs["drug"].tolist()[5:] == ["solvent", "solvent"]


# ---- genes and counts


def test_genes_without_a_symbol_keep_their_identifier(make_screen):
    mdata = make_screen(DRUGS, DRUGS, dose=1.0)
    ids = [f"ENSG{i:011d}" for i in range(5)]
    rna = AnnData(np.ones((7, 5), np.float32), obs=mdata["rna"].obs, var=pd.DataFrame(index=ids))
    rna.var["gene_symbols"] = pd.Series(["TP53", None, np.nan, "", "TP53"], ids, dtype=object)
    mdata.mod["rna"] = rna
    (code,) = find(mdata, "gene identifiers")["code"]
    for _ in range(2):
        run(mdata, [code])
        assert mdata["rna"].var_names.tolist() == ["TP53", *ids[1:4], "TP53-1"]


def test_values_in_x_are_not_overwritten(make_screen):
    mdata = make_screen(DRUGS, DRUGS, dose=1.0)
    rna = AnnData(np.full((7, 5), 0.5, np.float32), obs=mdata["rna"].obs, layers={"counts": np.ones((7, 5))})
    mdata.mod["rna"] = rna
    (row,) = find(mdata, "no counts").itertuples()
    assert row.code == ""
    assert row.mend.endswith("mdata['rna'].X = mdata['rna'].layers['counts'].copy()")


# ---- code


def test_code_is_plain_python_though_labels_are_of_numpy(make_screen):
    mdata = make_screen(DRUGS, DRUGS, dose=1.0)
    for name, label in (("rna", "DMSO "), ("image", "Dmso")):
        labels = np.array([*DRUGS[:4], "Drug 4" if name == "rna" else "drug 4", label, label])
        mdata[name].obs["drug"] = pd.Series(list(labels), mdata[name].obs_names, dtype=object)
    assert isinstance(mdata["rna"].obs["drug"].iloc[0], np.str_)
    table = scl.pp.check(mdata, **{**KEYS, "control": np.array(["DMSO"])})
    assert not any("np." in text for text in table[["finding", "mend", "code"]].to_numpy().ravel())
    run(mdata, table["code"])
    assert scl.pp.check(mdata, **{**KEYS, "control": "DMSO"})["check"].tolist() == ["few shared keys"]


def test_thousands_of_names_in_many_rows_are_replaced(make_screen):
    names = [f"drug {i:04}" for i in range(4000)]
    mdata = make_screen([f"{name} " for name in names * 5], names, dose=1.0)
    (code,) = find(mdata, "blanks")["code"]
    run(mdata, [code])
    assert mdata["rna"].obs["drug"].tolist()[:-2] == names * 5


@pytest.fixture
def named_alike(make_screen):
    """Two samples that both modalities have, one of each alone, and columns of the whole beside those of modalities."""
    modalities = dict(make_screen(["a"], ["a"], dose=1.0).mod)
    modalities["rna"].obs_names, modalities["image"].obs_names = ["s1", "s2", "s3"], ["s4", "s2", "s1"]
    with warnings.catch_warnings(action="ignore"):  # mudata 0.3 announces 0.4
        mdata = mudata.MuData(modalities)
    donor = pd.Series({"s1": "d1", "s2": "d2", "s3": "d3", "s4": "d4"})[mdata.obs_names]
    return mdata, donor


def test_shared_sample_names_keep_the_columns_of_both(named_alike):
    mdata, donor = named_alike
    mdata.obs["donor"], mdata.obs["age"] = donor, donor.str[1:].astype(int)
    mdata.obs["dose"] = donor + "!"  # a column of the modalities too, with other values
    mdata.obs["sex"] = pd.Categorical(np.where(donor == "d1", "f", "m"))
    (code,) = find(mdata, "shared sample names")["code"]
    run(mdata, [code])
    assert mdata["image"].obs_names.tolist() == ["s4", "image:s2", "image:s1"]
    expected = {"s1": 1, "s2": 2, "s3": 3, "s4": 4, "image:s2": 2, "image:s1": 1}
    assert mdata.obs["age"].to_dict() == expected
    assert mdata.obs["donor"].to_dict() == {name: f"d{n}" for name, n in expected.items()}
    assert mdata.obs["sex"].to_dict() == {name: "f" if n == 1 else "m" for name, n in expected.items()}
    assert mdata.obs["dose"].to_dict() == {name: f"d{n}!" for name, n in expected.items()}
    assert mdata["image"].obs["dose"].tolist() == [1.0] * 3
    assert mdata.obs["age"].dtype.kind == "i"
    assert isinstance(mdata.obs["sex"].dtype, pd.CategoricalDtype)
    mdata.obs.loc["image:s1", "donor"] = "another"
    before = mdata.obs.copy()
    run(mdata, [code])  # does nothing where there is nothing to mend
    pd.testing.assert_frame_equal(mdata.obs, before)
    assert not len(find(mdata, "shared sample names"))


def test_shared_sample_names_are_left_where_an_embedding_of_both_would_lose_rows(named_alike):
    mdata, _ = named_alike
    mdata.obsm["X_joint"] = np.ones((4, 2))
    mdata.obsp["near"] = np.eye(4)
    (row,) = find(mdata, "shared sample names").itertuples()
    assert row.code == ""
    told = "mdata.obsm['X_joint'], mdata.obsp['near'] will lose these rows, so copy them to the modality before"
    assert row.mend == f"write 'image:' before these obs_names of image; {told}"


def test_shared_sample_names_without_columns_of_the_whole_are_renamed(named_alike):
    mdata, _ = named_alike
    (row,) = find(mdata, "shared sample names").itertuples()
    assert row.mend == "write 'image:' before these obs_names of image"
    for _ in range(2):
        run(mdata, [row.code])
        assert mdata["image"].obs_names.tolist() == ["s4", "image:s2", "image:s1"]
        assert sorted(mdata.obs_names) == ["image:s1", "image:s2", "s1", "s2", "s3", "s4"]


def test_columns_of_the_whole_may_be_named_like_copies(named_alike):
    mdata, donor = named_alike
    mdata.obs["image:donor"] = donor
    run(mdata, find(mdata, "shared sample names")["code"])
    expected = {"s1": "d1", "s2": "d2", "s3": "d3", "s4": "d4", "image:s2": "d2", "image:s1": "d1"}
    assert mdata.obs["image:donor"].to_dict() == expected


def test_names_that_may_mean_other_rows_are_left_to_a_person(make_screen, named_alike):
    mdata, donor = named_alike
    mdata.obs["donor"] = donor
    mdata["image"].obs_names = ["s2", "s3", "s4"]  # without mdata.update()
    (row,) = find(mdata, "shared sample names").itertuples()
    assert row.code == ""
    assert (
        row.mend == "write 'image:' before these obs_names of image, and copy donor of mdata.obs to the modality before"
    )
    modalities = dict(make_screen(["a"], ["a"], dose=1.0).mod)
    modalities["rna"].obs_names, modalities["image"].obs_names = ["s1", "s2", "s3"], ["s1", "s1", "s4"]
    with warnings.catch_warnings(action="ignore"):
        mdata = mudata.MuData(modalities)
        mdata.obs["donor"] = np.arange(mdata.n_obs)
    (row,) = find(mdata, "shared sample names").itertuples()
    assert row.code == ""
