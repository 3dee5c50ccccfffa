"""TIFF files that hold more than one image: a thumbnail first, several resolutions, several positions."""

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

tifffile = pytest.importorskip("tifffile")
SMALL, LARGE = (
    np.random.default_rng(i).integers(0, 4000, (side, side)).astype(np.uint16) for i, side in ((0, 8), (1, 32))
)


class Camera:
    def encode(self, images):
        self.images = images
        return images.mean((2, 3))


def read(path, page=None):
    camera = Camera()
    table = pd.DataFrame({"Metadata_Plate": ["p"], "Metadata_Well": "A01", "FileName_a": path.name, "Frame_a": page})
    scl.io.images(table, encoder=camera, folder=path.parent, progress_bar=False)
    return camera.images[0]


def write(path, *images, **options):
    with tifffile.TiffWriter(path, **options) as file:
        for image in images:
            file.write(image, photometric="minisblack")
    return path


@pytest.mark.parametrize("images", [(SMALL, LARGE), (LARGE, SMALL), (SMALL, LARGE, SMALL)])
def test_the_largest_image_is_read_wherever_it_stands(tmp_path, images):
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", *images)), LARGE[None])
    np.testing.assert_array_equal(read(write(tmp_path / "a.ome.tif", *images, ome=True)), LARGE[None])


def test_a_thumbnail_in_colour_is_no_image_of_three_channels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb")
        file.write(np.stack([LARGE, LARGE + 1]), photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.stack([LARGE, LARGE + 1]))


def test_a_page_is_read_as_asked(tmp_path):
    path = write(tmp_path / "a.tif", SMALL, LARGE)
    np.testing.assert_array_equal(read(path, 0), SMALL[None])
    np.testing.assert_array_equal(read(path, 1), LARGE[None])


def test_several_images_of_one_size_need_a_choice(refuses, tmp_path):
    path = write(tmp_path / "a.ome.tif", LARGE, LARGE + 1, ome=True)  # two positions
    with pytest.raises(errors.DamagedFile, match="it holds 2 images of one size: choose a page in a column Frame_"):
        read(path)
    np.testing.assert_array_equal(read(path, 1), LARGE[None] + 1)


def test_resolutions_of_a_pyramid_are_one_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(LARGE, subifds=1, photometric="minisblack")
        file.write(LARGE[::2, ::2], subfiletype=1, photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), LARGE[None])
