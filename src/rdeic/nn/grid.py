"""The numbers of exact arithmetic: dyadic, carried in float64.

Weights are multiples of 2^-14, activations multiples of 2^-10 within +-2^11. Every product and every partial sum is
then a multiple of 2^-24, below 2^29 in magnitude where the weights allow it: an integer below 2^53 times a power of
two. float64 holds it exactly, and the order of summation cannot matter. The only rounding is the explicit one back
onto the grid.
"""

from __future__ import annotations

from torch import Tensor

ACTIVATION_BITS = 10
WEIGHT_BITS = 14
LIMIT = 2.0**11  # of an activation's magnitude


def snap(x: Tensor) -> Tensor:
    """The nearest activation: multiples of 2^-10 (ties to even) within +-2^11."""
    return from_steps(x * 2.0**ACTIVATION_BITS)


def from_steps(steps: Tensor) -> Tensor:
    """The nearest activation to a number in steps of the grid, which is a temporary: it is overwritten."""
    return steps.round_().mul_(2.0**-ACTIVATION_BITS).clamp_(-LIMIT, LIMIT)


def snap_weights(x: Tensor) -> Tensor:
    """The nearest multiples of 2^-14."""
    return (x.detach().double() * 2.0**WEIGHT_BITS).round() * 2.0**-WEIGHT_BITS


def fits(largest: Tensor, extra_bits: int = 0) -> bool:
    """Whether float64 holds sums up to `largest`, of products with `extra_bits` more after the point than usual."""
    return float(largest) < 2.0 ** (53 - ACTIVATION_BITS - WEIGHT_BITS - extra_bits)
