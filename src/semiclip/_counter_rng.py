"""Random numbers that are functions of what they are for, such as (seed, epoch, row), and not of what was drawn before.

The same counters give the same numbers on every device, in any order and on any number of processes, and a run that is
taken up again draws what it would have drawn. Each number is a SplitMix64 hash (Steele et al. 2014, DOI
10.1145/2660193.2660195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


def state(*counters: int | Tensor) -> Tensor:
    """Hash integers and integer tensors, which broadcast, to 64-bit states; at least one must be a tensor."""
    hashed: Any = 0
    for counter in counters:
        hashed = _mix(_wrap(hashed + _wrap(counter) + GAMMA))
    return hashed


def uniform(states: Tensor) -> Tensor:
    """Turn states into numbers in [0, 1), multiples of 2^-24, so that float32 holds them exactly."""
    return ((_mix(states) >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def below(states: Tensor, n: Tensor | int) -> Tensor:
    """Turn states into integers from 0 to ``n`` - 1."""
    return (uniform(states) * n).long()


def keys(states: Tensor, n: int) -> Tensor:
    """Return ``n`` non-negative integers for each state, shape (len(states), n): to sort by them is to shuffle."""
    keys = states[:, None] + torch.arange(1, n + 1, device=states.device) * GAMMA
    # _mix in place, since there are many: new memory for each operation would take most of the time
    for shift, factor in ((30, FIRST), (27, SECOND), (31, 1)):
        keys.bitwise_xor_((keys >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)
    return keys.bitwise_and_(2**63 - 1)


def permutation(n: int, *counters: int, device: torch.device) -> Tensor:
    """Shuffle ``range(n)``."""
    parts = torch.arange(n, device=device).split(HASHED)
    return torch.argsort(torch.cat([_mix(state(*counters, part)) for part in parts]), stable=True)


def _mix(x: Any) -> Any:
    """Scramble 64 bits; the masks make the arithmetic shifts of signed integers logical ones."""
    x = _wrap((x ^ ((x >> 30) & (2**34 - 1))) * FIRST)
    x = _wrap((x ^ ((x >> 27) & (2**37 - 1))) * SECOND)
    return x ^ ((x >> 31) & (2**33 - 1))


def _wrap(x: Any) -> Any:
    """Keep the lowest 64 bits as a signed integer, which torch does by itself."""
    return x.long() if isinstance(x, torch.Tensor) else ((int(x) + 2**63) & (2**64 - 1)) - 2**63


HASHED = 1 << 20  # states at a time, since hashing takes several times their memory
GAMMA, FIRST, SECOND = map(_wrap, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
