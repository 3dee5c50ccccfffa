"""A pretrained vision model as an encoder: images in, embeddings out."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from semiclip import errors
from semiclip._arguments import check_choice, check_whole
from semiclip._checks import check_finite
from semiclip._device import usable_device
from semiclip._seed import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    Statistics = tuple[float | tuple[float, ...], float | tuple[float, ...]]

Channels = Literal["separate", "joint"]
Pool = Literal["mean", "cls", "pooler"]
SIZE = 224
_OTHER_POOL = "the other of 'mean' and 'cls', as this model of timm cannot pool so, or pass a function as model="
Loaded = tuple[Any, int | None, Any]  # with the side of the images that it was made for, and their (mean, std)


class ImageEncoder:
    """Embeddings of microscopy images from a vision model that stays frozen.

    Each channel of an image is rescaled to [0, 1]. An image with a side below ``size`` is enlarged, keeping its
    proportions. The fewest square tiles that cover it are cut at even distances, and the mean of their embeddings is
    that of the image.

    Parameters
    ----------
    model
        Name of a model of timm (``"timm/vit_small_patch16_224.dino"``, or without the prefix), which must be installed;
        name or folder of a model of transformers (``"facebook/dinov2-small"``), which the extra ``images`` installs; or
        a module or function that maps float32 of shape (b, channels, size, size) to (b, d), to tokens (b, t, d), to a
        feature map (b, d, h, w) or to an output of transformers. No code that comes with a model is run.
    channels
        ``"separate"`` embeds each channel alone, repeated if the model takes several, and concatenates the embeddings:
        d per channel, for any number of channels. ``"joint"`` gives the model all channels at once.
    size
        Side of a tile in pixels; by default the size that a named model was made for, otherwise 224.
    rescale
        Two percentiles that become 0 and 1 in each channel of each image; values beyond are clipped. If the two are
        equal, the smallest and largest value take their place, and a constant channel becomes 0. ``"dtype"`` divides
        integers by the largest of their type, which keeps brightness comparable; ``None`` leaves values as they are.
    normalize
        Mean to subtract and standard deviation to divide by afterwards, each one number or one per channel that the
        model takes. ``"model"`` takes the published values of a named model, and none for a module.
    pool
        How tokens become one vector: ``"mean"``, ``"cls"`` (the first token) or ``"pooler"`` (of transformers). The
        mean of a model of timm is that of its patches, without the class token. A model that returns vectors is taken
        as it is, and ``pool`` is not recorded.
    in_channels
        Channels that the model takes; needed only if neither its configuration nor its first convolution says.
    batch_size
        Tiles, or channels of tiles, that the model is given at a time.
    device
        Where a module is moved, or a function expects values; ``"auto"`` is a CUDA GPU if there is one, else the CPU,
        and always the CPU for a function.
    progress_bar
        Whether to show progress after some seconds.

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

    OpenPhenom, whose own code runs only if you load it yourself, takes all channels at once, and values up to 255:

    >>> phenom = AutoModel.from_pretrained("recursionpharma/OpenPhenom", trust_remote_code=True)  # doctest: +SKIP
    >>> encoder = scl.encoders.ImageEncoder(lambda x: phenom.predict(255 * x), channels="joint", size=256, device="cpu")
    """

    def __init__(
        self,
        model: str | Path | Callable[[torch.Tensor], Any],
        *,
        channels: Channels = "separate",
        size: int | None = None,
        rescale: tuple[float, float] | Literal["dtype"] | None = (0.1, 99.9),
        normalize: Statistics | Literal["model"] | None = "model",
        pool: Pool = "mean",
        in_channels: int | None = None,
        batch_size: int = 64,
        device: str = "auto",
        progress_bar: bool = True,
    ) -> None:
        check_choice("channels", channels, Channels)
        check_choice("pool", pool, Pool)
        for name, count in {"size": size, "in_channels": in_channels, "batch_size": batch_size}.items():
            if count is not None:
                check_whole(name, count)
        two = isinstance(rescale, tuple | list) and len(rescale) == 2 and 0 <= rescale[0] < rescale[1] <= 100
        if rescale not in (None, "dtype") and not two:
            raise errors.BadValue("rescale", rescale, "'dtype', None or two percentiles, 0 <= low < high <= 100")
        named = isinstance(model, str | Path)
        if not named and not callable(model):
            raise errors.WrongType("model", type(model), "a name, a folder, a module or a function")
        loaded: Loaded = _load_model(str(model), pool) if named else (model, None, None)
        self.model, usual_size, statistics = loaded
        self.name = str(model) if named else type(model).__name__
        self.channels, self.rescale, self.pool = channels, rescale, pool
        self.size = size or usual_size or SIZE
        self.in_channels = in_channels or _count_channels(self.model)
        self.batch_size, self.device, self.progress_bar = batch_size, device, progress_bar
        self._is_named, self._pools_itself = named, False
        if normalize == "model" and named and statistics is None:
            raise errors.BadValue("normalize", normalize, "(mean, std) or None, as the model comes with neither")
        self.normalize = _read_statistics(statistics if normalize == "model" else normalize)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the embedding of images of any real type, of shape (n, channels, height, width).

        The embedding is float32 of shape (n, d), or (n, channels * d) for separate channels, one after the other.
        """
        import torch
        from tqdm.auto import tqdm

        self._check(images)
        n, n_channels = images.shape[:2]
        n_tiles = len(_place_tiles(images.shape, self.size)[1]) * (n_channels if self.channels == "separate" else 1)
        step = max(1, self.batch_size // n_tiles)
        is_function = not isinstance(self.model, torch.nn.Module)
        device = usable_device("cpu" if self.device == "auto" and is_function else self.device)
        parts = []
        # some models draw at random even here: masked autoencoders shuffle their patches
        with _evaluate_on(self.model, device), seeded(0), torch.inference_mode():
            for start in tqdm(range(0, n, step), "images", delay=5, leave=False, disable=not self.progress_bar):
                values = _rescale(images[start : start + step], self.rescale)
                parts.append(self._embed(torch.from_numpy(values).to(device)).cpu().numpy())
        embedding = np.concatenate(parts)
        check_finite(embedding, range(n), "the embedding of the images")
        return embedding

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean embedding of the tiles of each image."""
        import torch
        from torch.nn.functional import interpolate

        size, (sides, corners) = self.size, _place_tiles(images.shape, self.size)
        if images.shape[2:] != sides:
            images = interpolate(images, sides, mode="bilinear", align_corners=False)
        tiles = torch.stack([images[..., top : top + size, left : left + size] for top, left in corners], 1)
        tiles = tiles.flatten(0, 1) if self.channels == "joint" else tiles.reshape(-1, 1, size, size)
        vectors = torch.cat([self._forward(batch) for batch in tiles.split(self.batch_size)])
        return vectors.reshape(len(images), len(corners), -1).mean(1)

    def _forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the vector that the model makes of each tile."""
        import torch

        if self.channels == "separate" and self.in_channels:
            tiles = tiles.expand(-1, self.in_channels, -1, -1)
        if self.normalize is not None:
            mean, std = (torch.as_tensor(values, device=tiles.device)[:, None, None] for values in self.normalize)
            tiles = (tiles - mean) / std
        output = self.model(tiles)
        self._pools_itself = isinstance(output, torch.Tensor) and output.ndim == 2
        vectors = _pool_output(output, self.pool)
        if vectors.ndim != 2 or len(vectors) != len(tiles) or not vectors.shape[1]:
            needed = f"one vector for each of {len(tiles)} tiles, not of shape {tuple(vectors.shape)}"
            raise errors.WrongType("the model's output", type(vectors), needed)
        return vectors.float()

    def _check(self, images: np.ndarray) -> None:
        needed = "(n, channels, height, width)"
        if not isinstance(images, np.ndarray):
            way_out = "for files, call scl.io.images(table, encoder=...)"
            raise errors.WrongType("images", type(images), f"an array of numbers {needed}", way_out)
        if images.dtype.kind not in "buif":
            raise errors.WrongDtype("images", images.dtype)
        if images.ndim != 4 or 0 in images.shape:
            raise errors.WrongShape("images", images.shape, f"{needed}, none of them 0")
        if images.dtype.kind == "f" and (bad := np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))).size:
            raise errors.NotFinite("images", bad.tolist(), "drop or mend these images first")
        n_channels = images.shape[1]
        if self.channels == "joint" and self.in_channels not in (None, n_channels):
            way_out = "pass channels='separate' to embed each alone, or choose the channels that the model was made for"
            raise errors.Mismatch("the number of channels", n_channels, self.in_channels, way_out)
        n_taken = n_channels if self.channels == "joint" else self.in_channels or 1
        lengths = tuple(len(values) for values in self.normalize or ())
        if not {*lengths} <= {1, n_taken}:
            raise errors.WrongShape("normalize", lengths, f"one mean and std, or one for each of {n_taken} channel(s)")

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that an embedding depends on besides the image, in types that files can hold."""
        normalize = None if self.normalize is None else dict(zip(("mean", "std"), self.normalize, strict=True))
        plain = {name: getattr(self, name) for name in ("channels", "size", "rescale", "pool")}
        if self._pools_itself and not self._is_named:
            plain["pool"] = None
        return {"model": self.name, **plain, "normalize": normalize}


def _read_statistics(normalize: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if normalize is None:
        return None
    if not isinstance(normalize, tuple | list) or len(normalize) != 2:
        raise errors.BadValue("normalize", normalize, "'model', None or a pair (mean, std)")
    mean, std = (np.atleast_1d(np.asarray(values, dtype=np.float32)) for values in normalize)
    if not np.isfinite(mean).all() or not (np.isfinite(std) & (std > 0)).all():
        raise errors.BadValue("normalize", normalize, "finite means and positive standard deviations")
    return mean, std


def _rescale(images: np.ndarray, rescale: tuple[float, float] | Literal["dtype"] | None) -> np.ndarray:
    """Return images as float32, with each channel rescaled to [0, 1] by percentiles or type."""
    values = images.astype(np.float32)
    if rescale == "dtype" and images.dtype.kind in "ui":
        return values / np.float32(np.iinfo(images.dtype).max)
    if rescale is None or rescale == "dtype":
        return values
    low, high = np.percentile(values, rescale, axis=(2, 3), keepdims=True).astype(np.float32)
    least, most = values.min(axis=(2, 3), keepdims=True), values.max(axis=(2, 3), keepdims=True)
    low, high = np.where(high <= low, (least, most), (low, high))
    return np.clip((values - low) / np.where(high > low, high - low, np.float32(1)), 0, 1)


def _place_tiles(shape: Sequence[int], size: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Return the sides of images once both are at least ``size``, and the corners of the fewest, even tiles on them."""
    height, width = shape[2:]
    scale = max(1.0, size / min(height, width))
    sides = max(size, round(height * scale)), max(size, round(width * scale))
    tops, lefts = (np.linspace(0, side - size, -(-side // size)).round().astype(int).tolist() for side in sides)
    return sides, list(product(tops, lefts))


def _load_model(name: str, pool: str) -> Loaded:
    """Load a model by name: a folder, or a name with an owner other than timm, is a model of transformers."""
    if Path(name).is_dir() or ("/" in name and not name.startswith("timm/")):
        return _load_from_transformers(name, pool)
    try:
        import timm
    except ImportError as error:
        raise errors.MissingExtra("timm", f"model={name!r}") from error
    model = timm.create_model(name.removeprefix("timm/"), pretrained=True, num_classes=0)
    _set_pool(model, pool)
    config = timm.data.resolve_model_data_config(model)
    return model, config["input_size"][-1], (config["mean"], config["std"])


def _set_pool(model: Any, pool: str) -> None:
    """Make a model of timm pool as asked; by themselves most of its transformers return the class token."""
    has_tokens = bool(getattr(model, "num_prefix_tokens", 0))
    if pool == "pooler" or (pool == "cls" and not has_tokens):
        raise errors.BadValue("pool", pool, "'mean'" + " or 'cls'" * has_tokens + " for this model of timm")
    kind = {"mean": "avg", "cls": "token"}[pool]
    try:
        model.reset_classifier(0, kind)
    except (AssertionError, TypeError, ValueError) as error:
        if has_tokens:
            raise errors.BadValue("pool", pool, _OTHER_POOL) from error
        return  # it has but one way to pool its feature map
    if has_tokens and getattr(model, "global_pool", kind) != kind:
        raise errors.BadValue("pool", pool, _OTHER_POOL)


def _load_from_transformers(name: str, pool: str) -> Loaded:
    """Load a model of transformers with what its processor does to images."""
    try:
        from transformers import AutoModel
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise errors.MissingExtra("transformers", f"model={name!r}", "'.[images]' in a clone of semiclip") from error
    model, report = AutoModel.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    model = getattr(model, "vision_model", model)  # of a model of images and text
    unused = () if pool == "pooler" else ("pooler", "text_model", "logit_scale")
    if drawn := sorted(key for key in report["missing_keys"] if not any(part in key for part in unused)):
        way_out = "choose another pool" if all("pooler" in key for key in drawn) else "choose another model"
        raise errors.Refused(f"model={name!r} lacks weights, which would be random", drawn, way_out)
    if getattr(model.config, "mask_ratio", 0):
        model.config.mask_ratio = 0.0  # a masked autoencoder would hide most of each image
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        processor = {}
    sizes = processor.get("crop_size"), processor.get("size"), getattr(model.config, "image_size", None)
    size = next(filter(None, map(_read_side, sizes)), None)
    statistics = (processor.get("image_mean"), processor.get("image_std"))
    return model.float(), size, None if None in statistics else statistics


def _read_side(size: Any) -> int | None:
    """Return the side of an image in the ways that transformers writes it."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return size[0] if isinstance(size, list | tuple) else size


def _count_channels(model: Any) -> int | None:
    """Return how many channels a model takes, if its configuration or first convolution says."""
    from torch import nn

    if isinstance(count := getattr(getattr(model, "config", None), "num_channels", None), int):
        return count
    modules = model.modules() if isinstance(model, nn.Module) else ()
    first = next((module.in_channels for module in modules if isinstance(module, nn.Conv2d)), 1)
    return first if first > 1 else None  # models for any number of channels have a convolution of one


@contextmanager
def _evaluate_on(model: Any, device: torch.device) -> Iterator[None]:
    """Bring a module to a device and into evaluation mode; afterwards each of its parts has its former mode."""
    from torch import nn

    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    if modes:
        model.to(device).eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _pool_output(output: Any, pool: str) -> torch.Tensor:
    """Return one vector for each image from whatever a vision model returns."""
    import torch

    if pool == "pooler":
        if (output := getattr(output, "pooler_output", None)) is None:
            raise errors.BadValue("pool", pool, "'mean' or 'cls', as the model has no pooler_output")
        return output.flatten(1)
    output = getattr(output, "last_hidden_state", output)
    if not isinstance(output, torch.Tensor):
        raise errors.WrongType("the model's output", type(output), "one tensor", "wrap the model in a function")
    if output.ndim == 4:
        if pool == "cls":
            raise errors.BadValue("pool", pool, "'mean', as the model returns a feature map, which has no class token")
        return output.mean((2, 3))
    return output if output.ndim != 3 else output[:, 0] if pool == "cls" else output.mean(1)
