from __future__ import annotations

from pathlib import Path
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


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device, or ``None`` where the system does not say."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.exists():
        return None
    free = 1024 * next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if "MemAvailable" in line)
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container or a job of a cluster
    limits = [int(text)] if limit.exists() and (text := limit.read_text().strip()).isdigit() else []
    return min([free, *limits])
