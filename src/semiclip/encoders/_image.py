"""A pretrained vision model as an encoder: images in, embeddings out."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows, some
from semiclip._device import usable_device
from semiclip._seed import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    Statistics = tuple[float | tuple[float, ...], float | tuple[float, ...]]

SIZE = 224


class ImageEncoder:
    """Embeddings of microscopy images from a vision model that stays frozen.

    An image goes through four steps: each channel is rescaled to [0, 1]; an image with a side below ``size`` is
    enlarged, keeping its proportions, until that side is ``size``; as few square tiles as cover it are cut at even
    distances, so that they overlap rather than leave a rim; and the model embeds the tiles, whose mean is returned.

    Parameters
    ----------
    model
        Name of a model of timm (``"timm/vit_small_patch16_224.dino"``, or without the prefix), which needs ``pip
        install timm``; name or folder of a model of transformers (``"facebook/dinov2-small"``), which the extra
        ``images`` installs; or a module or function that maps float32 of shape (b, channels, size, size) to (b, d), to
        tokens (b, t, d), to a feature map (b, d, h, w) or to an output of transformers. No code that comes with a model
        is run: load such a model yourself, as in the example. A module is moved to ``device``.
    channels
        ``"separate"`` embeds each channel alone, repeated where the model wants several, and concatenates the
        embeddings: d per channel, for any number of channels. ``"joint"`` gives the model all of them at once.
    size
        Side of a tile in pixels; by default what a named model was made for, otherwise 224.
    rescale
        Two percentiles that become 0 and 1 in each channel of each image; values beyond are clipped. Where the two
        agree, as in an empty channel with a speck, the smallest and largest value take their place, and a constant
        channel becomes 0. ``"dtype"`` divides integers by the largest of their type, which keeps brightness
        comparable between images; ``None`` leaves values as they are.
    normalize
        Mean to subtract and standard deviation to divide by afterwards, each one number or one per channel that the
        model takes. ``"model"`` takes those that a named model was published with, and none for a module.
    pool
        How one vector is made of tokens: ``"mean"`` of all of them, the first one (``"cls"``), or the
        ``pooler_output`` of transformers (``"pooler"``). Vectors are left alone.
    in_channels
        Channels that the model takes; only needed where neither its configuration nor its first convolution says.
    batch_size
        Tiles, or channels of tiles, that the model is given at a time.
    device
        Name of the device; ``"auto"`` is a CUDA GPU if there is one, else the CPU. A function has to be
        there already, and is given values on the CPU by ``"auto"``.
    progress_bar
        Whether to show progress after some seconds.

    Raises
    ------
    ValueError
        If an argument has no meaning, or a named model lacks weights or statistics that are asked for.
    TypeError
        If ``model`` is neither a name nor can be called.

    Examples
    --------
    >>> import numpy as np
    >>> import semiclip as scl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> encoder = scl.encoders.ImageEncoder(model, size=16, device="cpu")
    >>> images = np.random.default_rng(0).integers(0, 4000, (6, 5, 40, 32)).astype(np.uint16)
    >>> encoder.encode(images).shape
    (6, 40)

    OpenPhenom takes all channels of a Cell Painting image at once, and values up to 255. It comes with code of its
    own, which you decide to run:

    >>> from transformers import AutoModel  # doctest: +SKIP
    >>> phenom = AutoModel.from_pretrained("recursionpharma/OpenPhenom", trust_remote_code=True)  # doctest: +SKIP
    >>> encoder = scl.encoders.ImageEncoder(
    ...     lambda x: phenom.predict(255 * x), channels="joint", size=256, device="cpu"
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | Callable[[torch.Tensor], Any],
        *,
        channels: Literal["separate", "joint"] = "separate",
        size: int | None = None,
        rescale: tuple[float, float] | Literal["dtype"] | None = (0.1, 99.9),
        normalize: Statistics | Literal["model"] | None = "model",
        pool: Literal["mean", "cls", "pooler"] = "mean",
        in_channels: int | None = None,
        batch_size: int = 64,
        device: str = "auto",
        progress_bar: bool = True,
    ) -> None:
        choices = {"channels": (channels, ("separate", "joint")), "pool": (pool, ("mean", "cls", "pooler"))}
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                msg = f"{name}={value!r} is not one of {some(allowed)}"
                raise ValueError(msg)
        for name, count in {"size": size, "in_channels": in_channels, "batch_size": batch_size}.items():
            if count is not None and count < 1:
                msg = f"{name}={count} must be at least 1"
                raise ValueError(msg)
        two = isinstance(rescale, tuple | list) and len(rescale) == 2 and 0 <= rescale[0] < rescale[1] <= 100
        if rescale not in (None, "dtype") and not two:
            msg = f"rescale={rescale!r} is not 'dtype', None or two percentiles, 0 <= low < high <= 100"
            raise ValueError(msg)
        if not isinstance(model, str | Path) and not callable(model):
            msg = f"model is a {type(model).__name__}; a name, a folder, a module or a function is needed"
            raise TypeError(msg)
        loaded = load(model, pool) if isinstance(model, str | Path) else Loaded(model, None, None)
        self.model, self.name = loaded.model, str(model) if isinstance(model, str | Path) else type(model).__name__
        self.channels, self.rescale, self.pool = channels, rescale, pool
        self.size = size or loaded.size or SIZE
        self.in_channels = in_channels or channels_of(self.model)
        self.batch_size, self.device, self.progress_bar = batch_size, device, progress_bar
        if normalize == "model" and isinstance(model, str | Path) and loaded.statistics is None:
            msg = f"model={str(model)!r} names no mean and std; pass normalize=(mean, std), or None for none"
            raise ValueError(msg)
        self.normalize = self._checked(loaded.statistics if normalize == "model" else normalize)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Embed images of any real type, of shape (n, channels, height, width).

        Returns
        -------
        float32 of shape (n, d), or (n, channels * d) for separate channels, whose embeddings then follow each other.

        Raises
        ------
        TypeError
            If ``images`` is no array of numbers, or the model returns what is no embedding.
        ValueError
            If images have another shape, NaN or infinite values, or a number of channels that the model cannot take.
        """
        import torch
        from tqdm.auto import tqdm

        self._check(images)
        n, n_channels, height, width = images.shape
        tiles = math.prod(len(starts(length, self.size)) for length in enlarged(height, width, self.size))
        step = max(1, self.batch_size // (tiles * (n_channels if self.channels == "separate" else 1)))
        device = self._device()
        parts = []
        # some models draw at random even here: masked autoencoders shuffle their patches
        with evaluating(self.model, device), seeded(0), torch.inference_mode():
            shown = tqdm(range(0, n, step), "images", delay=5, leave=False, disable=not self.progress_bar)
            for start in shown:
                values = rescaled(images[start : start + step], self.rescale)
                parts.append(self._embed(torch.from_numpy(values).to(device)).cpu().numpy())
        embedding = np.concatenate(parts)
        finite_rows(embedding, pd.RangeIndex(n), "the embedding of the images")
        return embedding

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean embedding of the tiles of each image."""
        import torch
        from torch.nn.functional import interpolate

        height, width = images.shape[2:]
        if (height, width) != (sides := enlarged(height, width, self.size)):
            images = interpolate(images, sides, mode="bilinear", align_corners=False)
        size = self.size
        corners = [(top, left) for top in starts(sides[0], size) for left in starts(sides[1], size)]
        tiles = torch.stack([images[..., top : top + size, left : left + size] for top, left in corners], 1)
        tiles = tiles.flatten(0, 1) if self.channels == "joint" else tiles.reshape(-1, 1, size, size)
        embedded = torch.cat([self._forward(batch) for batch in tiles.split(self.batch_size)])
        return embedded.reshape(len(images), len(corners), -1).mean(1)

    def _forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the vector that the model makes of each tile."""
        import torch

        if self.channels == "separate" and self.in_channels:
            tiles = tiles.expand(-1, self.in_channels, -1, -1)
        if self.normalize is not None:
            mean, std = (torch.as_tensor(values, device=tiles.device)[:, None, None] for values in self.normalize)
            tiles = (tiles - mean) / std
        vectors = pooled(self.model(tiles), self.pool)
        if vectors.ndim != 2 or len(vectors) != len(tiles) or not vectors.shape[1]:
            msg = f"the model made {tuple(vectors.shape)} of {len(tiles)} tiles; one vector for each is needed"
            raise TypeError(msg)
        return vectors.float()

    def _check(self, images: np.ndarray) -> None:
        if not isinstance(images, np.ndarray) or images.dtype.kind not in "buif":
            kind = f"array of {images.dtype}" if isinstance(images, np.ndarray) else type(images).__name__
            msg = f"images are a(n) {kind}; an array of numbers (n, channels, height, width) is needed. For files: "
            msg += "scl.pp.images(table, encoder=...)"
            raise TypeError(msg)
        if images.ndim != 4 or 0 in images.shape:
            msg = f"images have shape {images.shape}; (n, channels, height, width) is needed, none of them 0"
            raise ValueError(msg)
        if images.dtype.kind == "f" and (bad := np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))).size:
            msg = f"{len(bad)} image(s) hold NaN or infinite values: {some(bad)}; drop or mend them first"
            raise ValueError(msg)
        n_channels = images.shape[1]
        if self.channels == "joint" and self.in_channels not in (None, n_channels):
            msg = (
                f"images have {n_channels} channels, but the model takes {self.in_channels}; pass channels='separate' "
                "to embed each alone, or choose those that the model was made for"
            )
            raise ValueError(msg)
        taken = n_channels if self.channels == "joint" else self.in_channels or 1
        if self.normalize is not None and any(len(values) not in (1, taken) for values in self.normalize):
            lengths = " and ".join(str(len(values)) for values in self.normalize)
            msg = f"normalize has {lengths} values of mean and std, but the model is given {taken} channel(s)"
            raise ValueError(msg)

    @property
    def settings(self) -> dict[str, Any]:
        """What the values depend on beside the images, in types that files can hold."""
        names = ("channels", "size", "rescale", "pool")
        normalize = None if self.normalize is None else dict(zip(("mean", "std"), self.normalize, strict=True))
        return {"model": self.name, **{name: getattr(self, name) for name in names}, "normalize": normalize}

    @staticmethod
    def _checked(normalize: Any) -> tuple[np.ndarray, np.ndarray] | None:
        if normalize is None:
            return None
        if not isinstance(normalize, tuple | list) or len(normalize) != 2:
            msg = f"normalize={normalize!r} is not 'model', None or a pair (mean, std)"
            raise ValueError(msg)
        mean, std = (np.atleast_1d(np.asarray(values, dtype=np.float32)) for values in normalize)
        if not np.isfinite(mean).all() or not (np.isfinite(std) & (std > 0)).all():
            msg = f"normalize={normalize!r} must have finite means and positive standard deviations"
            raise ValueError(msg)
        return mean, std

    def _device(self) -> torch.device:
        import torch

        moves = isinstance(self.model, torch.nn.Module)
        return usable_device("cpu" if self.device == "auto" and not moves else self.device)


class Loaded(NamedTuple):
    """A model with the side of the images that it was made for and their mean and standard deviation."""

    model: Any
    size: int | None
    statistics: Any


def load(name: str | Path, pool: str) -> Loaded:
    """Load a model by name: a folder, and what has an owner other than timm, is one of transformers."""
    folder = Path(name).is_dir()
    if folder or ("/" in str(name) and not str(name).startswith("timm/")):
        return from_transformers(str(name), pool)
    try:
        import timm
    except ImportError as error:
        msg = f"model={str(name)!r} is of timm, which cannot be imported: {error}; pip install timm"
        raise ImportError(msg) from error
    model = timm.create_model(str(name).removeprefix("timm/"), pretrained=True, num_classes=0)
    made_for = timm.data.resolve_model_data_config(model)
    return Loaded(model, made_for["input_size"][-1], (made_for["mean"], made_for["std"]))


def from_transformers(name: str, pool: str) -> Loaded:
    """Load a model of transformers with what its processor does to images."""
    try:
        from transformers import AutoModel
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        msg = (
            f"model={name!r} is of transformers, which cannot be imported: {error}; in a clone of semiclip: "
            "pip install '.[images]'"
        )
        raise ImportError(msg) from error
    model, report = AutoModel.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    model = getattr(model, "vision_model", model)  # of a model of images and text
    unused = () if pool == "pooler" else ("pooler", "text_model", "logit_scale")
    if drawn := sorted(key for key in report["missing_keys"] if not any(part in key for part in unused)):
        way_out = "choose another pool" if all("pooler" in key for key in drawn) else "choose another model"
        msg = f"model={name!r} has no weights for {some(drawn)}, which would be random; {way_out}"
        raise ValueError(msg)
    if getattr(model.config, "mask_ratio", 0):
        model.config.mask_ratio = 0.0  # a masked autoencoder would hide most of each image
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        processor = {}
    sizes = processor.get("crop_size"), processor.get("size"), getattr(model.config, "image_size", None)
    statistics = (processor.get("image_mean"), processor.get("image_std"))
    return Loaded(model.float(), next(filter(None, map(side, sizes)), None), None if None in statistics else statistics)


def side(size: Any) -> int | None:
    """Return the side of an image in the ways that transformers writes it."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return size[0] if isinstance(size, list | tuple) else size


def channels_of(model: Any) -> int | None:
    """Return how many channels a model takes, if its configuration or first convolution says.

    A convolution of one channel says nothing: models for any number of channels have it too.
    """
    from torch import nn

    if isinstance(count := getattr(getattr(model, "config", None), "num_channels", None), int):
        return count
    modules = model.modules() if isinstance(model, nn.Module) else ()
    first = next((module.in_channels for module in modules if isinstance(module, nn.Conv2d)), 1)
    return first if first > 1 else None


@contextmanager
def evaluating(model: Any, device: torch.device) -> Iterator[None]:
    """Bring a module to a device and into evaluation mode; afterwards its parts are in the mode that they were in."""
    from torch import nn

    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    model.to(device).eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def pooled(output: Any, pool: str) -> torch.Tensor:
    """Return one vector for each image from whatever a vision model returns."""
    import torch

    if pool == "pooler":
        output = getattr(output, "pooler_output", None)
        if output is None:
            msg = "the model has no pooler_output; pass pool='mean' or pool='cls'"
            raise ValueError(msg)
        return output.flatten(1)
    output = getattr(output, "last_hidden_state", output)
    if not isinstance(output, torch.Tensor):
        msg = f"the model returned a {type(output).__name__}; wrap it in a function that returns one tensor"
        raise TypeError(msg)
    if pool == "cls" and output.ndim == 4:
        msg = "the model returned a feature map, which has no class token; pass pool='mean'"
        raise ValueError(msg)
    if output.ndim == 4:
        return output.mean((2, 3))
    return output if output.ndim != 3 else output[:, 0] if pool == "cls" else output.mean(1)


def rescaled(images: np.ndarray, rescale: tuple[float, float] | Literal["dtype"] | None) -> np.ndarray:
    """Return images as float32, each channel brought to [0, 1] as asked for."""
    values = images.astype(np.float32)
    if rescale == "dtype" and images.dtype.kind in "ui":
        return values / np.float32(np.iinfo(images.dtype).max)
    if rescale is None or rescale == "dtype":
        return values
    low, high = np.percentile(values, rescale, axis=(2, 3), keepdims=True).astype(np.float32)
    flat = high <= low
    low = np.where(flat, values.min(axis=(2, 3), keepdims=True), low)
    high = np.where(flat, values.max(axis=(2, 3), keepdims=True), high)
    return np.clip((values - low) / np.where(high > low, high - low, np.float32(1)), 0, 1)


def enlarged(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the sides of an image once its shorter one is at least ``size``."""
    scale = max(1.0, size / min(height, width))
    return max(size, round(height * scale)), max(size, round(width * scale))


def starts(length: int, size: int) -> list[int]:
    """Return where the tiles begin that cover a length of at least ``size``, as few and as even as can be."""
    return np.linspace(0, length - size, -(-length // size)).round().astype(int).tolist()
