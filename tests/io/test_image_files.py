import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import semiclip as scl
from semiclip import errors
from semiclip.io._image_files import map_in_order

tifffile = pytest.importorskip("tifffile")


class Camera:
    """An encoder that keeps the images it is given."""

    def encode(self, images):
        self.images = images
        return images.mean((2, 3))


def read(path, page=None, camera=None):
    camera = camera or Camera()
    table = pd.DataFrame({"Metadata_Plate": ["p"], "Metadata_Well": "A01", "FileName_a": path.name, "Frame_a": page})
    scl.io.images(table, encoder=camera, folder=path.parent, progress_bar=False)
    return camera.images[0]


def pixels(seed, *shape, dtype=np.uint16):
    return np.random.default_rng(seed).integers(0, 250 if dtype == np.uint8 else 4000, shape).astype(dtype)


def tiff(path, values, **arguments):
    tifffile.imwrite(path, values, **arguments)
    return path


def test_pages_and_colours_of_tiff_are_channels(tmp_path):
    values = pixels(0, 3, 20, 24)
    paths = [
        tiff(tmp_path / "pages.tif", values, photometric="minisblack"),
        tiff(tmp_path / "imagej.TIF", values.reshape(1, 1, 3, 20, 24), imagej=True),
        tiff(tmp_path / "axes.ome.tif", values, metadata={"axes": "CYX"}),
        tiff(tmp_path / "colour.tiff", values.transpose(1, 2, 0), photometric="rgb"),
        tiff(tmp_path / "deflate.tif", values, compression="zlib", photometric="minisblack"),
    ]
    frames = [Image.fromarray(plane) for plane in values]
    frames[0].save(tmp_path / "lzw.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    for path in [*paths, tmp_path / "lzw.tif"]:
        np.testing.assert_array_equal(read(path), values)
        for page in (0, 2) if "colour" not in path.name else ():
            np.testing.assert_array_equal(read(path, page), values[[page]])


@pytest.mark.parametrize(
    ("name", "dtype", "n_channels"),
    [("a.png", np.uint8, 1), ("a.png", np.uint16, 1), ("a.PNG", np.uint8, 3), ("a.jpg", np.uint8, 1)],
)
def test_pictures(tmp_path, warned, name, dtype, n_channels):
    values = pixels(0, 20, 24, n_channels, dtype=dtype).squeeze()
    if name == "a.jpg":
        values[:] = 120  # survives its compression
    Image.fromarray(values).save(tmp_path / name)
    image = read(tmp_path / name)
    assert len(warned()) == (name == "a.jpg")  # which is constant
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, values.reshape(20, 24, n_channels).transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "n_channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_transparency_and_palettes_are_undone(tmp_path, mode, n_channels):
    picture = Image.fromarray(np.repeat([[[0, 255]] * 8], 8, axis=0).reshape(8, 16).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "a.png")
    image = read(tmp_path / "a.png").astype(int)
    assert image.shape == (n_channels, 8, 16)
    np.testing.assert_array_equal(image, np.broadcast_to(np.tile([0, image.max()], 8), image.shape))


@pytest.mark.parametrize(
    ("extrasamples", "planarconfig", "kept"),
    [
        (["unassalpha"], "contig", [0, 1, 2]),
        (["assocalpha"], "separate", [0, 1, 2]),
        (["unspecified", "unassalpha"], "contig", [0, 1, 2, 3]),
        (["unassalpha", "unspecified"], "contig", [0, 1, 2, 4]),
    ],
)
def test_samples_that_a_tiff_file_calls_alpha_go(tmp_path, extrasamples, planarconfig, kept):
    values = pixels(0, 3 + len(extrasamples), 20, 24)
    stored = values if planarconfig == "separate" else values.transpose(1, 2, 0)
    path = tiff(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planarconfig, extrasamples=extrasamples)
    for page in (None, 0):
        np.testing.assert_array_equal(read(path, page), values[kept])
    pages = pixels(0, 2, 4, 20, 24, dtype=np.uint8)
    frames = [Image.fromarray(page.transpose(1, 2, 0)) for page in pages]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pages[:, :3].reshape(6, 20, 24))


def test_an_ome_file_stands_for_itself_alone(tmp_path):
    values = pixels(3, 20, 24)
    with tifffile.TiffFile(tiff(tmp_path / "first.ome.tif", values, metadata={"axes": "YX"})) as file:
        xml = file.ome_metadata
    block = '<TiffData FirstC="{0}" IFD="0" PlaneCount="1"><UUID FileName="{1}.ome.tif">urn:uuid:{0}</UUID></TiffData>'
    both = block.format(0, "first") + block.format(1, "second")
    xml = re.sub(r"<TiffData.*?(/>|</TiffData>)", both, xml).replace('SizeC="1"', 'SizeC="2"')
    for name, plane in {"first": values, "second": values + 1}.items():
        path = tiff(tmp_path / f"{name}.ome.tif", plane, description=xml.encode(), metadata=None)
        np.testing.assert_array_equal(read(path), plane[None])


@pytest.mark.parametrize("arguments", [{}, {"compression": "zlib"}, {"imagej": True}])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_tiff_files_are_refused_or_read(tmp_path_factory, arguments, data):
    path = tmp_path_factory.mktemp("damaged") / "a.tif"
    tiff(path, pixels(0, 2, 20, 24), **({"photometric": "minisblack"} | arguments))
    content = bytearray(path.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)):
        content[position] = value
    path.write_bytes(content[:cut])
    try:
        assert read(path).ndim == 3
    except errors.DamagedFile:
        pass


@pytest.mark.parametrize(
    ("n_pages", "arguments"),
    [(1, {}), (1, {"compression": "zlib"}), (1, {"tile": (16, 16)}), (3, {"truncate": True}), (3, {"rowsperstrip": 7})],
)
def test_the_header_tells_that_pixels_are_missing(refuses, tmp_path, arguments, n_pages):
    path = tiff(tmp_path / "a.tif", pixels(0, n_pages, 20, 24), photometric="minisblack", **arguments)
    np.testing.assert_array_equal(read(path), pixels(0, n_pages, 20, 24))
    content, camera = path.read_bytes(), Camera()
    path.write_bytes(content[: len(content) * 2 // 3])
    with refuses(errors.DamagedFile):
        read(path, camera=camera)
    assert not hasattr(camera, "images")


@pytest.mark.parametrize(
    ("values", "arguments", "page"),
    [
        (pixels(0, 4, 20, 24), {"imagej": True, "metadata": {"axes": "ZYX"}}, None),
        (pixels(0, 4, 20, 24), {"photometric": "minisblack"}, 4),
        (pixels(0, 4, 20, 24), {"photometric": "minisblack"}, -1),
        (np.full((20, 24), np.nan, np.float32), {}, None),
        (np.ones((20, 24), np.complex64), {}, None),
    ],
)
def test_refuses_stacks_pages_and_values(refuses, tmp_path, values, arguments, page):
    path = tiff(tmp_path / "a.tif", values, **arguments)
    with refuses(errors.DamagedFile):
        read(path, page)


@pytest.mark.parametrize(("suffix", "library"), [("tif", "tifffile"), ("png", "PIL.Image")])
def test_names_the_library_and_the_extra_that_has_it(refuses, tmp_path, monkeypatch, suffix, library):
    (tmp_path / f"a.{suffix}").touch()
    monkeypatch.setitem(sys.modules, library, None)
    with refuses(errors.MissingExtra, package=library, install='".[images]" in a clone of semiclip'):
        read(tmp_path / f"a.{suffix}")


def test_jobs_are_done_in_order_with_few_ahead():
    begun, results, ahead = [], [], []

    def work(job):
        begun.append(job)
        ahead.append(len(begun) - len(results))
        if job == 50:
            raise LookupError
        return job

    with pytest.raises(LookupError):
        for result in map_in_order(work, range(100), n_threads=4, ahead=5):
            results.append(result)
    assert results == [*range(50)]
    assert max(ahead) <= 5 + 1
    assert len(begun) < 60  # a job that fails ends the rest
