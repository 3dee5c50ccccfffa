from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seeded(rng: int | np.random.Generator | None) -> Iterator[None]:
    """Seed torch from ``rng`` and give its state back afterwards; ``None`` leaves torch's own state in charge."""
    import torch

    if rng is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng(rng).integers(2**63)))
        yield
