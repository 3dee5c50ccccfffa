from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


ALONE = threading.RLock()  # torch has one generator for the whole process, and threads would draw in turns


@contextmanager
def seeded(rng: int | np.random.Generator | None) -> Iterator[None]:
    """Seed torch from ``rng`` and give its state back afterwards; ``None`` leaves torch's own state in charge.

    Threads take turns: a second one waits here until the first one is done.
    """
    import torch

    if rng is None:
        with ALONE:
            yield
        return
    with ALONE, torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng(rng).integers(2**63)))
        yield
