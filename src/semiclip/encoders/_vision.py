"""Loads pretrained vision models by name, and makes vectors of what they return."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semiclip.errors import BadValue, MissingExtra, Refused, WrongType

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


class VisionModel(NamedTuple):
    """A model with the side of the images that it was made for and their mean and standard deviation."""

    model: Any
    size: int | None = None
    statistics: Any = None


def load_model(name: str, pool: str) -> VisionModel:
    """Load a model by name: a folder, or a name with an owner other than timm, is a model of transformers."""
    if Path(name).is_dir() or ("/" in name and not name.startswith("timm/")):
        return _load_from_transformers(name, pool)
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("timm", f"model={name!r}") from error
    model = timm.create_model(name.removeprefix("timm/"), pretrained=True, num_classes=0)
    config = timm.data.resolve_model_data_config(model)
    return VisionModel(model, config["input_size"][-1], (config["mean"], config["std"]))


def _load_from_transformers(name: str, pool: str) -> VisionModel:
    """Load a model of transformers with what its processor does to images."""
    try:
        from transformers import AutoModel
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise MissingExtra("transformers", f"model={name!r}", "'.[images]' in a clone of semiclip") from error
    model, report = AutoModel.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    model = getattr(model, "vision_model", model)  # of a model of images and text
    unused = () if pool == "pooler" else ("pooler", "text_model", "logit_scale")
    if drawn := sorted(key for key in report["missing_keys"] if not any(part in key for part in unused)):
        way_out = "choose another pool" if all("pooler" in key for key in drawn) else "choose another model"
        raise Refused(f"model={name!r} lacks weights, which would be random", drawn, way_out)
    if getattr(model.config, "mask_ratio", 0):
        model.config.mask_ratio = 0.0  # a masked autoencoder would hide most of each image
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        processor = {}
    sizes = processor.get("crop_size"), processor.get("size"), getattr(model.config, "image_size", None)
    size = next(filter(None, map(_read_side, sizes)), None)
    statistics = (processor.get("image_mean"), processor.get("image_std"))
    return VisionModel(model.float(), size, None if None in statistics else statistics)


def _read_side(size: Any) -> int | None:
    """Return the side of an image in the ways that transformers writes it."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return size[0] if isinstance(size, list | tuple) else size


def count_channels(model: Any) -> int | None:
    """Return how many channels a model takes, if its configuration or first convolution says.

    A convolution of one channel says nothing, since models for any number of channels have it too.
    """
    from torch import nn

    if isinstance(count := getattr(getattr(model, "config", None), "num_channels", None), int):
        return count
    modules = model.modules() if isinstance(model, nn.Module) else ()
    first = next((module.in_channels for module in modules if isinstance(module, nn.Conv2d)), 1)
    return first if first > 1 else None


@contextmanager
def evaluating(model: Any, device: torch.device) -> Iterator[None]:
    """Bring a module to a device and into evaluation mode; afterwards each of its parts has its former mode."""
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


def pool_output(output: Any, pool: str) -> torch.Tensor:
    """Return one vector for each image from whatever a vision model returns."""
    import torch

    if pool == "pooler":
        if (output := getattr(output, "pooler_output", None)) is None:
            raise BadValue("pool", pool, "'mean' or 'cls', as the model has no pooler_output")
        return output.flatten(1)
    output = getattr(output, "last_hidden_state", output)
    if not isinstance(output, torch.Tensor):
        raise WrongType("the model's output", type(output), "one tensor", "wrap the model in a function")
    if output.ndim == 4:
        if pool == "cls":
            raise BadValue("pool", pool, "'mean', as the model returns a feature map, which has no class token")
        return output.mean((2, 3))
    return output if output.ndim != 3 else output[:, 0] if pool == "cls" else output.mean(1)
