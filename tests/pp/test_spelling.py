import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

import semiclip as scl

KEYS = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "DMSO"}
PAIR = "rna, image"
DOSES = [0.1, 1.0, 10.0]
SPELLING = ("spelling", "numbers as text", "similar labels")


def side(names, doses=DOSES, controls="DMSO"):
    """Every name at every dose, and three controls."""
    frame = pd.DataFrame([(name, dose) for name in names for dose in doses], columns=["perturbation", "dose"])
    frame = pd.concat([frame, pd.DataFrame({"perturbation": [controls] * 3, "dose": doses[0]})], ignore_index=True)
    return AnnData(obs=frame.set_axis(frame.index.astype(str)), obsm={"X_any": np.ones((len(frame), 2))})


@pytest.fixture(scope="session")
def both(make_mdata):
    def make(rna, image):
        for name, adata in (("rna", rna), ("image", image)):
            adata.obs_names = name + adata.obs_names
        return make_mdata(rna=rna, image=image)

    return make


@pytest.fixture
def mdata(both):
    """Eight compounds at three doses in both modalities."""
    names = [f"compound_{i}" for i in range(8)]
    return both(side(names), side(names))


def look(mdata, **change):
    return scl.pp.check(mdata, **KEYS | change)


def kinds(table):
    return list(zip(table["severity"], table["check"], table["modality"], strict=True))


def code_of(table, check):
    (code,) = table.loc[table["check"] == check, "code"]
    return code


def mend(mdata, table, check):
    assert (code := code_of(table, check))
    exec(code, {"mdata": mdata})


# ---- numbers


def test_doses_that_are_text_are_compared_as_numbers(mdata):
    mdata["rna"].obs["dose"] = mdata["rna"].obs["dose"].astype(str)
    mdata["image"].obs["dose"] = mdata["image"].obs["dose"].map("{:g}".format)
    expected = {name: mdata[name].obs["dose"].astype(float) for name in ("rna", "image")}
    table = look(mdata)
    assert kinds(table) == [("warning", "numbers as text", PAIR), ("warning", "few shared keys", PAIR)]
    assert "'1.0' and '1', '10.0' and '10'" in table["finding"][0]
    mend(mdata, table, "numbers as text")
    for name, doses in expected.items():
        pd.testing.assert_series_equal(mdata[name].obs["dose"], doses)
    assert look(mdata).empty


@pytest.mark.parametrize("kind", ["text", "categories", "categories of rna", "categories of image"])
def test_units_of_doses_of_any_kind(mdata, kind):
    rna, image = (mdata[name].obs for name in ("rna", "image"))
    image["dose"] *= 1000
    if kind == "text":
        rna["dose"], image["dose"] = rna["dose"].astype(str), image["dose"].map("{:g}".format).astype("category")
    else:
        for name in ("rna", "image") if kind == "categories" else (kind.split()[-1],):
            mdata[name].obs["dose"] = mdata[name].obs["dose"].astype("category")
    table = look(mdata)
    assert kinds(table)[0] == ("error", "units", PAIR)
    mend(mdata, table, "units")
    assert look(mdata).empty
    np.testing.assert_allclose(np.unique(image["dose"]), DOSES)


def test_categories_may_miss_values_of_controls_and_be_rounded(mdata):
    obs = mdata["image"].obs
    obs["dose"] = obs["dose"].where(obs["perturbation"] != "DMSO").astype("category")
    table = look(mdata)
    assert kinds(table) == [("info", "missing values", "image")]
    mend(mdata, table, "missing values")
    assert look(mdata).empty
    obs["dose"] = (obs["dose"] * 3.33).astype("category")
    mdata["rna"].obs["dose"] = (mdata["rna"].obs["dose"] * 3.3333).astype(str)
    table = look(mdata)
    assert ("warning", "rounding", PAIR) in kinds(table)
    mend(mdata, table, "rounding")
    assert look(mdata).empty


def test_rounding_keeps_apart_what_a_modality_tells_apart(mdata):
    image = mdata["image"]
    image.obs["dose"] = image.obs["dose"].map({0.1: 0.1, 1.0: 1.0, 10.0: 10.1})
    mdata["rna"].obs.loc["rna0", "dose"] = 10.104  # to two or three digits 10.1, to two digits 10
    table = look(mdata)
    assert ("warning", "rounding", PAIR) in kinds(table)
    assert code_of(table, "rounding") == ""


def test_text_beside_numbers_is_made_numbers_only_if_it_is(mdata):
    obs = mdata["image"].obs
    obs["dose"] = obs["dose"].map("{:g}".format).astype("string")
    table = look(mdata)
    assert kinds(table) == [("error", "kind of column", "image")]
    mend(mdata, table, "kind of column")
    assert look(mdata).empty
    obs["dose"] = obs["dose"].map("{:g} µM".format)
    table = look(mdata)
    assert kinds(table) == [("error", "units in text", "image")]
    assert "'0.1 µM', '1 µM', '10 µM'" in table["finding"][0]
    obs["dose"] = obs["dose"].astype(str).replace("0.1 µM", "low")
    table = look(mdata)
    assert kinds(table) == [("error", "units in text", "image")]
    assert table["code"][0] == ""


@pytest.mark.parametrize(
    ("rna", "image"),
    [
        (["1.0", "5"], ["1", "001", "5.5"]),  # two labels of one modality
        (["1.0", "none"], ["1", "none"]),  # not all are numbers
        (["0.12345610", "0.1234562"], ["0.1234561", "1"]),  # pairing would make one of two
    ],
)
def test_numbers_that_are_text_are_left_alone_where_that_is_unsafe(both, rna, image):
    names = [f"compound_{i}" for i in range(20)]
    table = look(both(side(names, rna), side(names, image)))
    (code,) = table.loc[table["check"].isin(SPELLING), "code"]
    assert code == ""


def test_perturbations_that_are_numbers_are_no_doses(mdata):
    """Neither units nor rounding: 7157 is not nearly 7158."""
    for name, names in (("rna", ["7157", "4609", "1"]), ("image", ["7158", "4609.0", "1000"])):
        adata = side(names, [1.0])
        adata.obs_names = name + adata.obs_names
        mdata.mod[name] = adata
    table = look(mdata)
    assert kinds(table)[1:] == [("warning", "numbers as text", PAIR)]
    assert table["code"][1].endswith("names={'4609.0': '4609'}: names.get(label, label))")
    ids = {"7157": 7157, "4609": 4609, "1": 1, "7158": 7158, "4609.0": 4609, "1000": 1000, "DMSO": 0}
    for adata in mdata.mod.values():
        adata.obs["perturbation"] = adata.obs["perturbation"].map(ids)
    assert kinds(look(mdata, control=0)) == [("warning", "few shared keys", PAIR)]


# ---- names


@pytest.fixture(scope="session")
def spell(both):
    """Return the check and the mend for two lists of names."""

    def spell(rna, image, control="DMSO"):
        mdata = both(side(rna, [1.0], control), side(image, [1.0], control))
        table = look(mdata, control=control)
        table = table[table["check"].isin(SPELLING)]
        return mdata, list(zip(table["check"], table["code"], strict=True))

    return spell


ONE = "aspirin|Aspirin, aspirin|ASPIRIN , compound_7|Compound  7, compound_7|COMPOUND-7, CPD-1-11|cpd_1_11, "
ONE += "10 \u00b5M|10 \u03bcM, Café|Cafe\u0301, 7157|7157.0"  # the sign of micro and the letter; e with an accent
TWO = "CPD-1-11|CPD-11-1, CPD-1-11|CPD-11 1, CPD-11|CPD-1-1, x 1.0|x 10, x 1.5|x 1-5, 1.0|10, -5|5, 1e-5 M|1e5 M, "
TWO += "(+)-x|(-)-x, CD4+|CD4-, CD4-|CD4, x -5|x 5.0, TGF-β|TGF-b, 10 µM|10 mM, x²|x2, IL1-2|IL-12, "
TWO += "1e10000000000000000000|1e5"  # beyond all numbers: a name


@pytest.mark.parametrize("pair", ONE.split(", "))
def test_names_that_are_one(spell, pair):
    one, other = pair.split("|")
    mdata, ((_, code),) = spell([one, "x"], [other, "x"])
    exec(code, {"mdata": mdata})
    for adata in mdata.mod.values():
        assert adata.obs["perturbation"].tolist() == [one, "x", *["DMSO"] * 3]


@pytest.mark.parametrize("pair", TWO.split(", "))
def test_names_that_are_two(spell, pair):
    one, other = pair.split("|")
    assert spell([one, "x"], [other, "x"])[1] == []


MAYBE = "TGF-b|TGFb, A1|A-1, NSC 123|NSC123, compound.7|compound 7, 1E5|100000, 007|7"  # 1E5 may be a clone


@pytest.mark.parametrize(
    ("rna", "image", "control"),
    [
        *((*([name] for name in pair.split("|")), "DMSO") for pair in MAYBE.split(", ")),
        (["x-1"], ["x 1", "x_1"], "DMSO"),  # one modality tells them apart
        (["x-1", "x_1"], ["X_1"], "DMSO"),
        (["drug a"], ["DRUG A"], "Drug A"),  # controls are not renamed with names like theirs
    ],
)
def test_names_that_may_be_two_are_reported_and_left(spell, rna, image, control):
    _, ((check, code),) = spell(rna, image, control)
    assert check == "similar labels"
    assert code == ""


def test_case_alone_may_differ_within_a_modality(spell):
    mdata, ((check, code),) = spell(["Aspirin", "aspirin"], ["aspirin", "ASPIRIN"])
    assert check == "spelling"
    exec(code, {"mdata": mdata})
    for adata in mdata.mod.values():
        assert adata.obs["perturbation"].tolist() == ["aspirin"] * 2 + ["DMSO"] * 3


def test_what_is_missing_stays_missing(both):
    mdata = both(side(["aspirin", "x"], [1.0]), side(["Aspirin", None], [1.0]))
    for adata in mdata.mod.values():
        adata.obs["plate"] = pd.Categorical(["a", None, "a", "a", "a"])
    table = look(mdata, batch_key="plate")
    mend(mdata, table, "spelling")
    mend(mdata, table, "shared batch names")
    assert mdata["image"].obs["perturbation"].isna().tolist() == [False, True, False, False, False]
    assert mdata["image"].obs["plate"].isna().tolist() == [False, True, False, False, False]
    assert mdata["image"].obs["plate"].dropna().unique().tolist() == ["image:a"]


LABELS = st.lists(st.text("aAe12-_ .+", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)
IS_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)


@settings(max_examples=40, deadline=None)
@given(LABELS, LABELS)
def test_a_mend_of_names_never_makes_one_of_two(spell, rna, image):
    mdata, findings = spell(rna, image)
    before = {name: adata.obs["perturbation"].tolist() for name, adata in mdata.mod.items()}
    for _, code in findings:
        exec(code, {"mdata": mdata})
    for name, adata in mdata.mod.items():
        after = adata.obs["perturbation"].tolist()
        for new in set(after):
            merged = {a for a, b in zip(before[name], after, strict=True) if b == new}
            assert len({"".join(label.split()).casefold() for label in merged}) == 1
        for old, new in zip(before[name], after, strict=True):
            if old != new and (IS_NUMBER.fullmatch(old) or IS_NUMBER.fullmatch(new)):
                assert float(old) == float(new)
            elif old != new:
                assert re.findall(r"\d+", old) == re.findall(r"\d+", new)  # no digit goes over to another number
                assert re.sub(r"[-_\s]", "", old).casefold() == re.sub(r"[-_\s]", "", new).casefold()
    assert set(rna) & set(image) <= set(mdata["rna"].obs["perturbation"]) & set(mdata["image"].obs["perturbation"])


# ---- controls


def test_each_modality_may_name_its_controls_otherwise(mdata):
    mdata["image"].obs["perturbation"] = mdata["image"].obs["perturbation"].replace("DMSO", "negcon")
    assert look(mdata, control=["DMSO", "negcon"]).empty
    table = look(mdata, control=["DMSO", "negcon", "water"])
    assert kinds(table) == [("error", "control names", PAIR)]
    assert table["finding"][0].endswith("water")
    assert "control=['DMSO', 'negcon']" in table["mend"][0]


def test_a_modality_without_any_of_the_controls(mdata):
    obs = mdata["image"].obs
    obs["perturbation"] = obs["perturbation"].replace("DMSO", "NegCon").astype("category")
    table = look(mdata, control=["DMSO", "negcon"])
    assert kinds(table) == [("error", "control names", "image")]
    assert "NegCon (3 rows)" in table["finding"][0]
    mend(mdata, table, "control names")
    assert obs["perturbation"].tolist()[-3:] == ["negcon"] * 3
    assert look(mdata, control=["DMSO", "negcon"]).empty
    obs["perturbation"] = obs["perturbation"].replace({"negcon": "vehicle", "compound_1": "empty"})
    assert "['empty', 'vehicle']" in look(mdata)["mend"][0]


@pytest.mark.parametrize("key", ["perturbation", None])
def test_controls_that_nobody_named_are_found(mdata, key):
    table = look(mdata, control=None, perturbation_key=key)
    assert kinds(table) == [("warning", "control names", name) for name in ("rna", "image")]
    assert "DMSO (3 rows) in obs['perturbation']" in table["finding"][0]
    assert "perturbation_key='perturbation', control='DMSO'" in table["mend"][0]
    mdata["image"].obs["perturbation"] = mdata["image"].obs["perturbation"].replace("DMSO", "negcon")
    table = look(mdata, control=None, perturbation_key=key)
    assert "control=['DMSO', 'negcon']" in table["mend"][0]
