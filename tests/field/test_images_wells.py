"""Wells and plates that are spelt in two ways in one table, or in another way by another reader."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import semiclip as scl


class Brightness:
    def encode(self, images):
        return images.mean((2, 3))


def run(plates, wells, folder, **keys):
    names = [f"{i}.png" for i in range(len(wells))]
    for i, name in enumerate(names):
        Image.fromarray(np.uint8([[10 * i, 10 * i + 2]])).save(folder / name)
    table = pd.DataFrame({"Metadata_Plate": plates, "Metadata_Well": wells, "FileName_DNA": names})
    return scl.io.images(table, encoder=Brightness(), folder=folder, progress_bar=False, **keys)


@pytest.mark.parametrize("wells", [["A1", "A01"], ["a1", "A001"], [" A1", "A1 "]])
def test_two_spellings_of_a_well_are_one_well(tmp_path, wells):
    adata = run("p1", wells, tmp_path)
    assert adata.obs_names.tolist() == ["p1:A01"]
    assert adata.X.tolist() == [[6.0]]  # the mean of both sites
    assert adata.obs["n_images"].tolist() == [2]
    assert adata.obs["Metadata_Well"].tolist() == ["A01"]


@pytest.mark.parametrize("plates", [41744.0, 41744, "41744", "41744.0"])
def test_a_plate_is_a_whole_number_to_all_readers(tmp_path, plates):
    adata = run(plates, ["A1", "A2"], tmp_path)
    assert adata.obs_names.tolist() == ["41744:A01", "41744:A02"]
    assert adata.obs["Metadata_Plate"].tolist() == ["41744", "41744"]
    features = pd.DataFrame({"Metadata_Plate": plates, "Metadata_Well": ["A1", "A2", "A3"], "Metadata_drug": "DMSO"})
    features = features.assign(Cells_Area=[1.0, 2.0, 3.0])
    keys = {"perturbation_key": "drug", "control": "DMSO"}
    features.to_csv(tmp_path / "p.csv", index=False)
    for table in (features, tmp_path / "p.csv"):
        profiles = scl.io.profiles(table, **keys)
        assert profiles.obs_names.tolist() == ["41744:A01", "41744:A02", "41744:A03"]
    layout = pd.DataFrame({"Plate": [41744], "Well": ["A01"], "drug": "taxol"})
    one = adata[:1].copy()
    scl.io.plate_map(one, layout)
    assert one.obs["drug"].tolist() == ["taxol"]


def test_barcodes_that_are_no_decimals_stay_as_they_are(tmp_path):
    assert run(["007", "1.5"], ["A1", "A1"], tmp_path).obs_names.tolist() == ["007:A01", "1.5:A01"]
    assert run(["1.0", "1.5"], ["A1", "A1"], tmp_path).obs_names.tolist() == ["1.0:A01", "1.5:A01"]


def test_plates_that_look_like_wells_stay_as_they_are(tmp_path):
    assert run(["p1", "P01"], ["A1", "A1"], tmp_path).obs_names.tolist() == ["P01:A01", "p1:A01"]
    assert run(["p1", "p2"], ["A1", "A1"], tmp_path, well_keys="Metadata_Plate").obs_names.tolist() == ["p1", "p2"]
