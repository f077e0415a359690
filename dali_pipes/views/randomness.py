"""Randomness without state: each number is a hash of its place of use, so any part of any epoch can be drawn directly.

This module has the hash, the streams, and the order of an epoch. `draw.py` uses them.

The hash is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), whose
k-th output is `_mix(start + k * GAMMA)`. (stream, seed, epoch, position) are absorbed one after the other into `start`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Named streams separate the uses of randomness. Changing a number here changes the draws of every run.
ORDER = 1
FRAMES = 2
CROP = 3
FLIP = 4
AUGMENT = 5
JITTER = 6
ERASE = 7
BALANCE = 8

GAMMA = np.uint64(0x9E3779B97F4A7C15)
ROUNDS = 16  # rounds of the Feistel network; with 8, the orders of five videos are not equally likely


def uniform(seed: int, epoch: int, position_B: np.ndarray, stream: int, count: int | None = None) -> np.ndarray:
    """Draw numbers in [0, 1), float64: [B], or [B, count] if `count` is given."""
    start_B = _absorb(_key(seed, epoch, stream), position_B)
    number = np.arange(1, 2 if count is None else count + 1)
    bits_BN = _absorb(start_B[:, None], number)
    uniform_BN = (bits_BN >> 11) * 2.0**-53  # the 53 bits that a float64 holds exactly
    return uniform_BN[:, 0] if count is None else uniform_BN


def permute(seed: int, epoch: int, position_B: np.ndarray, count: int) -> np.ndarray:
    """Return the rows at these positions of the epoch's order, [B] int64: a bijection on range(count), for count >= 1.

    A Feistel network permutes the smallest power-of-two range that contains range(count). Results outside range(count)
    are permuted again until they fall inside ("cycle walking", Black and Rogaway, CT-RSA 2002): fewer than two passes
    on average.
    """
    position_B = np.asarray(position_B)
    assert np.all((position_B >= 0) & (position_B < count)), f"a position lies outside range({count})"
    bits = (count - 1).bit_length()
    round_keys = _absorb(_key(seed, epoch, ORDER), np.arange(ROUNDS))
    order_B = _feistel(position_B.astype(np.uint64), bits, round_keys)
    while (outside := np.flatnonzero(order_B >= count)).size:
        order_B[outside] = _feistel(order_B[outside], bits, round_keys)
    return order_B.astype(np.int64)


def _feistel(number_B: np.ndarray, bits: int, round_keys: np.ndarray) -> np.ndarray:
    """Permute range(2**bits): each round changes one half of the bits by a hash of the other half."""
    widths = bits // 2, bits - bits // 2
    halves_2B = [number_B >> widths[1], number_B & _mask(widths[1])]
    for turn, key in enumerate(round_keys):
        side = turn % 2
        halves_2B[side] = halves_2B[side] ^ (_absorb(key, halves_2B[1 - side]) & _mask(widths[side]))
    return halves_2B[0] << widths[1] | halves_2B[1]


@lru_cache(maxsize=64)  # for a small batch, this would take half of the time
def _key(seed: int, epoch: int, stream: int) -> np.ndarray:
    """Compute [1] uint64, the start of the sequences of one stream in one epoch."""
    key = np.zeros(1, np.uint64)
    for value in (stream, seed, epoch):
        key = _absorb(key, np.array([value]))
    return key


def _absorb(state: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Mix `value` into the state; different values give different states."""
    return _mix(state + GAMMA * value.astype(np.uint64, copy=False))


def _mix(bits: np.ndarray) -> np.ndarray:
    """Mix bits by SplitMix64's finaliser: each input bit flips each output bit with probability one half."""
    bits = bits ^ (bits >> 30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> 27
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> 31
    return bits


def _mask(width: int) -> np.uint64:
    return np.uint64((1 << width) - 1)
