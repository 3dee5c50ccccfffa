"""Compressed TIFF files, with and without imagecodecs: the pixels that the file holds, or what to install."""

import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import semiclip as scl
from semiclip import errors

tifffile = pytest.importorskip("tifffile")
EXTRA = '".[images]" in a clone of semiclip'


class Camera:
    def encode(self, images):
        self.images = images
        return images.mean((2, 3))


def read(path):
    camera = Camera()
    table = pd.DataFrame({"Metadata_Plate": ["p"], "Metadata_Well": "A01", "FileName_a": [path.name]})
    scl.io.images(table, encoder=camera, folder=path.parent, progress_bar=False)
    return camera.images[0]


@pytest.fixture(params=["with imagecodecs", "without"])
def codecs(request, monkeypatch):
    """Whether tifffile has imagecodecs."""
    if request.param == "with imagecodecs":
        pytest.importorskip("imagecodecs", exc_type=ImportError)
        return True
    module = tifffile.tifffile
    monkeypatch.setattr(module, "imagecodecs", pytest.importorskip("tifffile._imagecodecs"))
    for codecs in (module.TIFF.DECOMPRESSORS, module.TIFF.UNPREDICTORS):
        monkeypatch.setattr(codecs, "_codecs", {1: module.identityfunc})
    return False


def lzw(data):
    """Compress bytes as TIFF's LZW does, without ever using what it learns: a code of 9 bits for each byte."""
    codes = [code for start in range(0, len(data), 200) for code in (256, *data[start : start + 200])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def zstd(data):
    """Return a frame of Zstandard that holds one block as it is."""
    size = struct.pack("<I", len(data))
    return b"\x28\xb5\x2f\xfd\xa0" + size + struct.pack("<I", 1 | len(data) << 3)[:3] + data


def write(path, values, *, bits, packed=None, compress=lzw, compression=5, photometric=1, sampleformat=1):
    """Write a TIFF file with one strip, tag by tag."""
    height, width, samples = values.shape
    data = compress(values.tobytes() if packed is None else packed)
    tags = {256: width, 257: height, 259: compression, 262: photometric, 277: samples, 278: height, 279: len(data)}
    tags |= {273: 8 + len(data) + len(data) % 2 + 2 * 2 * samples}
    tags = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    after = data + b"\0" * (len(data) % 2)
    for tag, value in {258: bits, 339: sampleformat}.items():
        offset = 8 + len(after)
        inline = value if samples == 1 else offset
        tags[tag] = struct.pack("<HHII", tag, 3, samples, inline)
        after += struct.pack("<H", value) * samples
    tags[273] = struct.pack("<HHII", 273, 4, 1, 8)
    directory = struct.pack("<H", len(tags)) + b"".join(tags[tag] for tag in sorted(tags)) + b"\0" * 4
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(after)) + after + directory)
    return path


def pixels(*shape, dtype=np.uint16, most=4000):
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "samples", "photometric"),
    [(np.uint8, 1, 1), (np.uint16, 1, 1), (np.uint8, 3, 2), (np.float32, 1, 1)],
)
def test_plain_files_need_no_more_than_pillow(tmp_path, codecs, dtype, samples, photometric):
    values = pixels(20, 24, samples, dtype=dtype, most=250)
    bits, kind = 8 * values.itemsize, 3 if dtype == np.float32 else 1
    path = write(tmp_path / "a.tif", values, bits=bits, photometric=photometric, sampleformat=kind)
    image = read(path)
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, values.transpose(2, 0, 1))


def twelve(values):
    bits = "".join(f"{value:012b}" for value in values.ravel())
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


RGB, GREY = pixels(20, 24, 3), pixels(20, 24, 1)
LARGE = pixels(20, 24, 1, dtype=np.uint32) + np.uint32(2**31)


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        pytest.param(RGB, {"bits": 12, "packed": twelve(RGB), "photometric": 2}, id="12 bits of colour"),
        pytest.param(GREY, {"bits": 12, "packed": twelve(GREY)}, id="12 bits"),
        pytest.param(RGB, {"bits": 16, "photometric": 2}, id="16 bits of colour"),
        pytest.param(LARGE, {"bits": 32}, id="unsigned 32 bits"),
        pytest.param(GREY.astype(np.int16) - 2000, {"bits": 16, "sampleformat": 2}, id="signed 16 bits"),
        pytest.param(GREY.astype(np.uint8), {"bits": 8, "photometric": 0}, id="white is zero"),
        pytest.param(GREY, {"bits": 16, "photometric": 0}, id="white is zero, 16 bits"),
        pytest.param(GREY, {"bits": 16, "compress": zstd, "compression": 50000}, id="Zstandard"),
    ],
)
def test_what_pillow_would_change_is_read_right_or_refused_by_name(refuses, tmp_path, codecs, values, arguments):
    path = write(tmp_path / "a.tif", values, **arguments)
    try:
        image = read(path)
    except errors.MissingExtra as error:
        assert not codecs
        assert (error.package, error.install) == ("imagecodecs", EXTRA)
        assert str(path) in str(error)
        return
    np.testing.assert_array_equal(image, values.transpose(2, 0, 1))
    assert codecs or arguments.get("compression") == 50000  # which Python itself reads from 3.14


def test_several_pages_without_imagecodecs_are_those_of_the_image(tmp_path, codecs):
    large, small = pixels(2, 20, 24), pixels(8, 8)
    frames = [Image.fromarray(plane) for plane in (small, *large)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), large)


def test_a_picture_with_16_bits_of_colour_is_refused_as_half_would_be_lost(refuses, tmp_path):
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels(4, 5, 3))
    header = struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(errors.DamagedFile, match="its colours have 16 bits, of which 8 would be lost"):
        read(tmp_path / "a.png")
