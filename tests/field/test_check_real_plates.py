"""What `check` says of published plates, and that it is true."""

from __future__ import annotations

import pandas as pd
import pytest

import semiclip as scl
from semiclip._mudata import make_mudata

pytestmark = pytest.mark.usefixtures("data_dir")


def summarise(table):
    return table[["severity", "check", "modality"]].to_numpy().tolist()


def count_fixed(obs, keys):
    """Return the well of each key that is on several plates and always in one well, and the number of such plates."""
    wells = {}
    for row in obs.itertuples():
        wells.setdefault(tuple(getattr(row, key) for key in keys), []).append((row.batch, row.well))
    several = {key: places for key, places in wells.items() if len({plate for plate, _ in places}) > 1}
    fixed = {key: places[0][1] for key, places in several.items() if len({well for _, well in places}) == 1}
    return fixed, len(several)


@pytest.fixture(scope="module")
def orfs():
    """The wells of L1000 twice, since no images of them are at hand."""
    rna = scl.datasets.u2os_orfs()
    image = rna.copy()
    image.obs_names, image.var_names = "image:" + image.obs_names, "image:" + image.var_names
    image.obsm["X_image"] = image.X
    return make_mudata(rna=rna, image=image)


def test_overexpression_wells_pass_with_three_things_to_know(orfs):
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch", "well_key": "well"}
    table = scl.pp.check(orfs, pair_on="perturbation", **columns)
    expected = [["info", "no counts", "rna"], ["info", "shared batch names", "rna, image"]]
    assert summarise(table) == expected  # genes have several constructs in several wells
    assert (orfs["rna"].X < 0).any()  # z-scores
    assert set(orfs["rna"].obs["batch"]) == set(orfs["image"].obs["batch"])

    table = scl.pp.check(orfs, pair_on=["perturbation", "construct"], **columns)
    assert summarise(table) == [["warning", "fixed wells", "rna, image"], *expected]
    obs = orfs["rna"].obs
    fixed, n = count_fixed(obs[obs["perturbation"] != "control"], ["perturbation", "construct"])
    assert f"for {len(fixed)} of {n} keys in rna" in table["finding"][0]
    assert len(fixed) >= 0.9 * n


def test_lincs_passes_with_a_true_warning_of_wells():
    mdata = scl.datasets.lincs_a549()
    columns = {"perturbation_key": "perturbation", "control": "DMSO", "batch_key": "batch", "well_key": "well"}
    table = scl.pp.check(mdata, pair_on=["perturbation", "dose"], **columns)
    assert summarise(table) == [["warning", "fixed wells", "rna, image"], ["info", "no counts", "rna"]]
    assert table["code"].tolist() == ["", ""]
    both = []
    for adata in mdata.mod.values():
        fixed, n = count_fixed(adata.obs[adata.obs["perturbation"] != "DMSO"], ["perturbation", "dose"])
        both.append((pd.Series(fixed), n))
    (rna, n_rna), (image, n_image) = both
    assert (len(rna), n_rna, len(image), n_image) == (8309, 8321, 9293, 9308)
    assert f"for {len(rna)} of {n_rna} keys in rna and {len(image)} of {n_image} keys in image" in table["finding"][0]
    shared = rna.index.intersection(image.index)
    same = int((rna[shared] == image[shared]).sum())
    assert f"; {same} of {len(shared)} shared keys are in one well in both" in table["finding"][0]
