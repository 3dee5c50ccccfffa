import re
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semiclip._damage import DAMAGE
from semiclip.pp._image_files import Source, in_order, read, shape


def pixels(seed, *shape, dtype=np.uint16):
    return np.random.default_rng(seed).integers(0, 250 if dtype == np.uint8 else 4000, shape).astype(dtype)


def tiff(path, values, **arguments):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, values, **arguments)
    return Source(path)


def test_pages_and_colours_of_tiff_are_channels(tmp_path):
    values = pixels(0, 3, 20, 24)
    stored = [
        tiff(tmp_path / "pages.tif", values, photometric="minisblack"),
        tiff(tmp_path / "imagej.TIF", values.reshape(1, 1, 3, 20, 24), imagej=True),
        tiff(tmp_path / "axes.ome.tif", values, metadata={"axes": "CYX"}),
        tiff(tmp_path / "colour.tiff", values.transpose(1, 2, 0), photometric="rgb"),
        tiff(tmp_path / "deflate.tif", values, compression="zlib", photometric="minisblack"),
    ]
    frames = [Image.fromarray(plane) for plane in values]
    frames[0].save(tmp_path / "lzw.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    for source in [*stored, Source(tmp_path / "lzw.tif")]:
        assert shape(source) == (3, 20, 24)
        np.testing.assert_array_equal(read(source), values)
        for page in (0, 2) if "colour" not in source.path.name else ():
            one = Source(source.path, page)
            assert shape(one) == (1, 20, 24)
            np.testing.assert_array_equal(read(one), values[[page]])


@pytest.mark.parametrize(
    ("name", "dtype", "n_channels"),
    [("a.png", np.uint8, 1), ("a.png", np.uint16, 1), ("a.PNG", np.uint8, 3), ("a.jpg", np.uint8, 1)],
)
def test_pictures(tmp_path, name, dtype, n_channels):
    values = pixels(0, 20, 24, n_channels, dtype=dtype).squeeze()
    if name == "a.jpg":
        values[:] = 120  # survives its compression
    Image.fromarray(values).save(tmp_path / name)
    source = Source(tmp_path / name)
    assert shape(source) == (n_channels, 20, 24)
    out = read(source)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, values.reshape(20, 24, n_channels).transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "n_channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_transparency_and_palettes_are_undone(tmp_path, mode, n_channels):
    picture = Image.fromarray(np.repeat([[[0, 255]] * 8], 8, axis=0).reshape(8, 16).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "a.png")
    source = Source(tmp_path / "a.png")
    assert shape(source) == (n_channels, 8, 16)
    out = read(source).astype(int)
    assert out.shape == (n_channels, 8, 16)
    np.testing.assert_array_equal(out, np.broadcast_to(np.tile([0, out.max()], 8), out.shape))


@pytest.mark.parametrize(
    ("extrasamples", "planarconfig", "kept"),
    [
        (["unassalpha"], "contig", [0, 1, 2]),
        (["assocalpha"], "separate", [0, 1, 2]),
        (["unspecified"], "contig", [0, 1, 2, 3]),
        (["unspecified", "unassalpha"], "contig", [0, 1, 2, 3]),
        (["unassalpha", "unspecified"], "contig", [0, 1, 2, 4]),
    ],
)
def test_samples_that_a_tiff_file_calls_alpha_go(tmp_path, extrasamples, planarconfig, kept):
    values = pixels(0, 3 + len(extrasamples), 20, 24)
    stored = values if planarconfig == "separate" else values.transpose(1, 2, 0)
    arguments = {"photometric": "rgb", "planarconfig": planarconfig, "extrasamples": extrasamples}
    source = tiff(tmp_path / "a.tif", stored, **arguments)
    for one in (source, Source(source.path, 0)):
        assert shape(one) == (len(kept), 20, 24)
        np.testing.assert_array_equal(read(one), values[kept])


def test_pages_with_transparency_give_all_their_colours(tmp_path):
    values = pixels(0, 2, 4, 20, 24, dtype=np.uint8)
    frames = [Image.fromarray(page.transpose(1, 2, 0)) for page in values]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    pytest.importorskip("tifffile")
    assert shape(Source(tmp_path / "a.tif")) == (6, 20, 24)
    np.testing.assert_array_equal(read(Source(tmp_path / "a.tif")), values[:, :3].reshape(6, 20, 24))


def test_an_ome_file_stands_for_itself_alone(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = pixels(3, 20, 24)
    tiff(tmp_path / "first.ome.tif", values, metadata={"axes": "YX"})
    with tifffile.TiffFile(tmp_path / "first.ome.tif") as file:
        xml = file.ome_metadata
    block = '<TiffData FirstC="{0}" IFD="0" PlaneCount="1"><UUID FileName="{1}.ome.tif">urn:uuid:{0}</UUID></TiffData>'
    both = block.format(0, "first") + block.format(1, "second")
    xml = re.sub(r"<TiffData.*?(/>|</TiffData>)", both, xml).replace('SizeC="1"', 'SizeC="2"')
    for name, plane in {"first": values, "second": values + 1}.items():
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=xml.encode(), metadata=None)
        assert shape(Source(tmp_path / f"{name}.ome.tif")) == (1, 20, 24)
        np.testing.assert_array_equal(read(Source(tmp_path / f"{name}.ome.tif")), plane[None])


@pytest.mark.parametrize("arguments", [{}, {"compression": "zlib"}, {"imagej": True}])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_tiff_files_are_refused_or_read(tmp_path_factory, arguments, data):
    path = tmp_path_factory.mktemp("damaged") / "a.tif"
    values = pixels(0, 2, 20, 24)
    tiff(path, values, **({"photometric": "minisblack"} | arguments))
    content = bytearray(path.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    flipped = data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3))
    for position, value in flipped:
        content[position] = value
    path.write_bytes(content[:cut])
    for work in (shape, read):
        try:
            out = work(Source(path))
        except DAMAGE:
            continue
        assert len(out if work is shape else out.shape) == 3


@pytest.mark.parametrize(
    ("n_pages", "arguments"),
    [(1, {}), (1, {"compression": "zlib"}), (1, {"tile": (16, 16)}), (3, {"truncate": True}), (3, {"rowsperstrip": 7})],
)
def test_the_header_tells_that_pixels_are_missing(tmp_path, arguments, n_pages):
    source = tiff(tmp_path / "a.tif", pixels(0, n_pages, 20, 24), photometric="minisblack", **arguments)
    assert shape(source) == (n_pages, 20, 24)
    np.testing.assert_array_equal(read(source), pixels(0, n_pages, 20, 24))
    content = source.path.read_bytes()
    source.path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ValueError, match="it is truncated"):
        shape(source)


def test_jobs_are_done_in_order_with_few_ahead():
    taken, most, lock, begun = 0, 0, threading.Lock(), 0

    def work(job):
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun - taken)
        return job**2

    out = []
    for value in in_order(work, range(50), n_threads=4, ahead=5):
        out.append(value)
        taken += 1
    assert out == [job**2 for job in range(50)]
    assert most <= 5


def test_a_failing_job_ends_the_rest():
    done = []

    def work(job):
        if job == 2:
            raise ValueError("job 2")
        done.append(job)
        return job

    with pytest.raises(ValueError, match="job 2"):
        list(in_order(work, range(100), n_threads=1, ahead=3))
    assert len(done) < 6


@pytest.mark.parametrize(("suffix", "library"), [("tif", "tifffile"), ("png", "PIL.Image")])
def test_a_library_that_is_not_there_is_named_with_the_extra_that_has_it(tmp_path, monkeypatch, suffix, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf'images need {library}.*pip install "\.\[images\]"'):
        shape(Source(tmp_path / f"image.{suffix}"))
