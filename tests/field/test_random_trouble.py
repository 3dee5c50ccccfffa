"""A good study, broken in two of many ways and mended by the code of `check` alone.

Either training runs and recalls what it did before, or `check` says what is left to a person. No row is ever lost.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl

COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
KEYS = {"pair_on": ["perturbation", "dose"], **COLUMNS}
SIDES = ["rna", "image"]
ERROR = 0.1  # of recall between 0 and 1: a change of the rows that pair moves it by less in all seeds that were tried


@pytest.fixture(scope="module")
def study():
    sizes = {"n_compounds": 60, "n_knockouts": 60, "n_pathways": 10, "n_genes": 300, "n_image_features": 40}
    study = scl.datasets.simulate(**sizes, n_batches=3, n_controls=40, rng=0)
    numbers = {f"compound_{i:02}": f"BRD-K{10345678 + 97 * i}" for i in range(60)}
    for adata in study.mdata.mod.values():
        order = pd.Series(np.random.default_rng(1).random(adata.n_obs), adata.obs_names)
        adata.obs["well"] = [f"A{n:03.0f}" for n in order.groupby(adata.obs["batch"], observed=True).rank()]
        adata.obs["batch"] = adata.obs["batch"].astype(str)
        adata.obs["perturbation"] = [numbers.get(label, label) for label in adata.obs["perturbation"].astype(str)]
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=30, rng=0)
    scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    for mdata in (study.mdata, study.knockouts):  # where names change, the record of the encoder says so by itself
        del mdata["rna"].uns["semiclip"]
    return study


def recall(study, mdata):
    """Train in closed form, embed the knockouts, and return the mean recall of known relationships."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scl.errors.SemiclipWarning)
        reps = {"student_rep": "X_pca", "teacher_rep": "X_image"}
        model = scl.tl.distill(mdata, objective="ridge", **reps, **KEYS, rng=0)
        knockouts = study.knockouts["rna"].copy()
        scl.tl.embed(knockouts, model, key_added="X_ridge")
        options = {"use_rep": "X_ridge", "relationships": study.relationships, "n_permutations": 0, "method": "center"}
        table = scl.tl.recall(knockouts, **options, **COLUMNS)
    return float(table.set_index("key").loc["mean", "value"])


@pytest.fixture(scope="module")
def expected(study):
    value = recall(study, study.mdata.copy())
    assert value > 0.5  # 0.55; 0.31 of the expression alone, 0.26 with pairs at random, and 0.1 by chance
    return value


# ---- ways to break a study; each returns the rows whose label it took away, if any


def relabel(adata, key, change, rows=None):
    obs = adata.obs
    rows = np.ones(adata.n_obs, bool) if rows is None else rows
    obs[key] = pd.Series(
        [change(value) if row and value == value else value for value, row in zip(obs[key], rows, strict=True)],
        obs.index,
        dtype=object,
    ).infer_objects()


def some_rows(adata, rng, share=0.2):
    return rng.random(adata.n_obs) < share


def controls(adata):
    return (adata.obs["perturbation"] == "control").to_numpy()


def one_batch(adata, rng):
    return (adata.obs["batch"] == rng.choice(adata.obs["batch"].unique())).to_numpy()


def pick(mdata, rng):
    return mdata[SIDES[rng.integers(2)]]


def change_doses(adata, change):
    """Change doses, unless another way has made text or categories of them."""
    if adata.obs["dose"].dtype.kind == "f":
        adata.obs["dose"] = change(adata.obs["dose"])


def blanks(mdata, rng):
    adata = pick(mdata, rng)
    written = rng.choice(["{} ", " {}", "{}\u00a0", "\t{}", "{}\u200b"])
    relabel(adata, rng.choice(["perturbation", "batch"]), lambda label: written.format(label), some_rows(adata, rng))


def blank_controls(mdata, rng):
    adata = pick(mdata, rng)
    relabel(adata, "perturbation", lambda label: label + " ", controls(adata) & one_batch(adata, rng))


def controls_in_case(mdata, rng):
    adata = pick(mdata, rng)
    relabel(adata, "perturbation", lambda label: "CONTROL", controls(adata) & one_batch(adata, rng))


def other_controls(mdata, rng):
    adata = pick(mdata, rng)
    relabel(adata, "perturbation", lambda label: "DMSO", controls(adata))


def strange_controls(mdata, rng):
    adata = pick(mdata, rng)
    relabel(adata, "perturbation", lambda label: "cntrl", controls(adata) & one_batch(adata, rng))


def spelling(mdata, rng):
    change = rng.choice([str.lower, str.swapcase, lambda label: label.replace("-", "_")])
    adata = pick(mdata, rng)
    relabel(adata, "perturbation", change, ~controls(adata))


def nameless(mdata, rng):
    label, taken = rng.choice(["nan", "NA", "unassigned", "doublet", ""]), []
    for adata in mdata.mod.values():
        rows = some_rows(adata, rng, 0.05) & ~controls(adata)
        relabel(adata, "perturbation", lambda _: label, rows)
        taken += adata.obs_names[rows].tolist()
    return taken


def missing_labels(mdata, rng):
    adata = pick(mdata, rng)
    rows = some_rows(adata, rng, 0.02) & ~controls(adata)
    relabel(adata, "perturbation", lambda _: np.nan, rows)
    return adata.obs_names[rows].tolist()


def combinations(mdata, rng):
    names = [label for label in sorted(mdata["rna"].obs["perturbation"].unique()) if "0" in label][:4]
    for adata, form in zip(mdata.mod.values(), ("{}+x", "x+{}"), strict=True):
        relabel(adata, "perturbation", lambda label, form=form: form.format(label) if label in names else label)


def batch_suffix(mdata, rng):
    adata = pick(mdata, rng)
    relabel(adata, "perturbation", lambda label: f"{label}-001-0{rng.integers(1, 9)}-1", ~controls(adata))


def units(mdata, rng):
    change_doses(pick(mdata, rng), lambda doses: doses * rng.choice([1e3, 1e6]))


def text_doses(mdata, rng):
    def write(dose):
        return f"{dose * 1000:g} nM" if rng.random() < 0.5 else f"{dose:g} uM"

    change_doses(pick(mdata, rng), lambda doses: doses.map(write).astype(object))


def text_numbers(mdata, rng):
    change_doses(pick(mdata, rng), lambda doses: doses.map(str).astype(object))


def categories(mdata, rng):
    for key in ("dose", "perturbation", "batch"):
        adata = pick(mdata, rng)
        adata.obs[key] = adata.obs[key].astype("category")


def rounding(mdata, rng):
    change_doses(pick(mdata, rng), lambda doses: doses * 1.01)


def shifted_doses(mdata, rng):
    change_doses(pick(mdata, rng), lambda doses: doses * 10)


def doses_of_controls(mdata, rng):
    adata = pick(mdata, rng)
    change_doses(adata, lambda doses: doses.where(~controls(adata)))


def sample_names(mdata, rng):
    image, rna = mdata["image"], mdata["rna"]
    image.obs_names = [*rna.obs_names[:50], *image.obs_names[50:]]


def repeated_names(mdata, rng):
    adata = pick(mdata, rng)
    adata.obs_names = [adata.obs_names[0], *adata.obs_names[:-1]]


def batch_names(mdata, rng):
    for adata in mdata.mod.values():
        adata.obs["batch"] = [f"plate {str(label).strip()[-1]}" for label in adata.obs["batch"]]


def plate_names(mdata, rng):
    obs = pick(mdata, rng).obs
    obs["run"] = [str(label).strip()[-1] for label in obs["batch"]]
    obs["batch"] = "plate 1"


def genes(mdata, rng):
    adata = mdata["rna"]
    adata.var["gene_symbols"] = adata.var_names
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]


def normalised(mdata, rng):
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata["rna"].X = np.log1p(mdata["rna"].X)


def no_embedding(mdata, rng):
    mdata["image"].X = sparse.csr_matrix(mdata["image"].obsm.pop("X_image"))


def not_finite(mdata, rng):
    mdata["rna"].obsm["X_pca"][rng.integers(mdata["rna"].n_obs)] = np.nan


def repeated_columns(mdata, rng):
    adata = pick(mdata, rng)
    adata.obs = pd.concat([adata.obs, adata.obs[["dose"]]], axis=1)


WAYS = [
    blanks, blank_controls, controls_in_case, other_controls, strange_controls, spelling, nameless, missing_labels,
    combinations, batch_suffix, units, text_doses, text_numbers, categories, rounding, shifted_doses,
    doses_of_controls, sample_names, repeated_names, batch_names, plate_names, genes, normalised, no_embedding,
    not_finite, repeated_columns,
]  # fmt: skip


LAST = (repeated_names, repeated_columns)  # after which others could not find their way


def follow(mdata):
    """Run all code of `check` until nothing new is found."""
    done = None
    for _ in range(9):
        table = scl.pp.check(mdata, **KEYS, well_key="well")
        if (codes := table["code"].tolist()) == done:
            return table
        for code in codes:
            exec(code, {"mdata": mdata})
        done = codes
    raise AssertionError(f"there is no end to {codes}")


def break_and_mend(study, expected, seed, ways):
    rng = np.random.default_rng(seed)
    mdata = study.mdata.copy()
    rows = {name: adata.obs_names.copy() for name, adata in mdata.mod.items()}
    treated = {name: adata.obs_names[~controls(adata)] for name, adata in mdata.mod.items()}
    for name, adata in mdata.mod.items():
        adata.obs["row"] = rows[name]  # which names repeat and change
    taken = set()
    for way in sorted(ways, key=LAST.__contains__):
        lost = way(mdata, rng) or []
        names = {
            n: row for adata in mdata.mod.values() for n, row in zip(adata.obs_names, adata.obs["row"], strict=True)
        }
        taken |= {names[name] for name in lost}
    table = follow(mdata)
    for name, adata in mdata.mod.items():
        assert adata.obs["row"].tolist() == rows[name].tolist()  # no row is dropped
        labels = adata.obs.set_index("row")["perturbation"]
        sound = labels[[row for row in treated[name] if row not in taken]]
        assert not sound.isin(["control"]).any()
        assert sound.notna().all()
    asked = table[table["code"].eq("") & table["severity"].isin(["error", "warning"])]
    left = table[table["code"].ne("") & table["severity"].isin(["error", "warning"])]
    assert left.empty, left.to_dict("records")  # what code can mend is mended
    if set(asked["check"]) <= {"labels without a name"}:  # of which the rows are left out
        assert recall(study, mdata) == pytest.approx(expected, abs=ERROR), table.to_dict("records")
    return asked["check"].tolist()


TO_A_PERSON = {  # and of the rest nothing is left but what is good to know
    other_controls: "control names",
    strange_controls: "few controls",
    nameless: "labels without a name",
    missing_labels: "missing values",
    shifted_doses: "shifted doses",
    not_finite: "not finite",
}


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_way_alone(study, expected, way):
    asked = break_and_mend(study, expected, 0, [way])
    assert set(asked) == ({TO_A_PERSON[way]} if way in TO_A_PERSON else set())


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@pytest.mark.parametrize("seed", range(10))
def test_pairs_of_ways(study, expected, seed):
    rng = np.random.default_rng(seed)
    break_and_mend(study, expected, seed, [WAYS[i] for i in rng.choice(len(WAYS), 2, replace=False)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@pytest.mark.parametrize("start", range(10, 310, 30))
def test_many_pairs_of_ways(study, expected, start):
    for seed in range(start, start + 30):
        rng = np.random.default_rng(seed)
        break_and_mend(study, expected, seed, [WAYS[i] for i in rng.choice(len(WAYS), 2, replace=False)])
