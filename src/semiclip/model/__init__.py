"""The scvi-tools models that distil a teacher embedding into a student embedding, and their baselines."""

from semiclip._messages import announce_loading

announce_loading()

from semiclip.model._baseline import Baseline  # noqa: E402  # said before what takes long to load
from semiclip.model._model import SemiClip  # noqa: E402  # the same

__all__ = ["Baseline", "SemiClip"]
