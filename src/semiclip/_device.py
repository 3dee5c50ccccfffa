from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def usable_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device on which torch can compute.

    ``"auto"`` is a CUDA GPU (or ROCm, which torch calls so too) if there is one, else the CPU. Other accelerators are
    taken only by name: not all have float64, and scvi-tools trains on Apple's (MPS) only if told so.

    Raises
    ------
    ValueError
        If torch cannot compute there.

    Examples
    --------
    >>> usable_device("cpu")
    device(type='cpu')
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        msg = f"device={str(device)!r} cannot be used: {error}; 'auto' takes a GPU if there is one"
        raise ValueError(msg) from error
