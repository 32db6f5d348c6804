"""Is A better than B, by how much, and could it be luck? Everything is paired by case, and says
how small a difference it could have shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
NORMAL = NormalDist()
Values = Sequence[float] | npt.NDArray[np.float64]
BLOCK = 2_000_000
"""Random numbers drawn at a time, so that many cases need little memory."""


@dataclass(frozen=True)
class Paired:
    """The mean of per-case differences. `low`, `high`: its 95 % interval. `p`: two-sided, under "no
    difference". `seen`: the smallest true difference that so many cases would show in 80 of 100
    experiments."""

    difference: float
    low: float
    high: float
    p: float
    seen: float
    cases: int

    @property
    def clear(self) -> bool:
        """Does the interval leave out zero?"""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """The difference × 100 and its interval."""
        return f"{signed(self.difference)} ({signed(self.low)}…{signed(self.high)})"


def signed(value: float) -> str:
    """Formats `value` times 100, with its sign and two decimals."""
    return f"{100 * value:+.2f}"


def paired(
    first: Values, second: Values, seed: int = 0, resamples: int = RESAMPLES, looks: int = 1
) -> Paired:
    """Compares two systems on the same cases, in the same order. Raises `ValueError` for none, or
    for unequal lengths.

    Interval: percentile bootstrap over cases (Sakai, SIGIR 2006). p: randomisation by random signs
    (Smucker et al., CIKM 2007), with the +1 of Phipson & Smyth (2010), so never 0. `seen`: (z_0.975
    + z_0.8) · sd / √n, the first for `looks` comparisons at once (Bonferroni).
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"paired values needed, got {len(first)} and {len(second)}")
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    mean, n = float(gaps.mean()), len(gaps)
    if not gaps.any():
        return Paired(0.0, 0.0, 0.0, 1.0, 0.0, n)
    means = np.concatenate([counts @ gaps for counts in _draws(n, seed, resamples)]) / n
    signs = np.concatenate([flips @ gaps for flips in _signs(n, seed, resamples)]) / n
    extreme = int((np.abs(signs) >= abs(mean) - 1e-12).sum())
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    spread = float(gaps.std(ddof=1)) if n > 1 else math.inf
    seen = (NORMAL.inv_cdf(1 - 0.025 / looks) + NORMAL.inv_cdf(0.8)) * spread / math.sqrt(n)
    return Paired(mean, low, high, (extreme + 1) / (resamples + 1), seen, n)


def interval(
    values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean over cases; (nan, nan) for none."""
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        return math.nan, math.nan
    n = len(sample)
    means = np.concatenate([counts @ sample for counts in _draws(n, seed, resamples)]) / n
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return low, high


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjusts p-values for how many there are (Holm, 1979); at most 1, in the given order of
    names."""
    adjusted: dict[str, float] = {}
    worst = 0.0
    for place, (name, value) in enumerate(sorted(p.items(), key=lambda pair: pair[1])):
        worst = max(worst, min(1.0, (len(p) - place) * value))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p}


Matrices = list[npt.NDArray[np.floating[Any]]]


@lru_cache(maxsize=2)  # arms share their cases, hence their draws
def _draws(n: int, seed: int, resamples: int) -> Matrices:
    """How often each of n cases is drawn, resample by resample."""
    dice = np.random.default_rng(seed)
    return [
        dice.multinomial(n, np.full(n, 1 / n), rows).astype(np.float64)
        for rows in _blocks(resamples, n)
    ]


@lru_cache(maxsize=2)
def _signs(n: int, seed: int, resamples: int) -> Matrices:
    """A random sign, +1 or −1, for each of n cases, resample by resample."""
    dice = np.random.default_rng([seed, 1])
    return [dice.integers(0, 2, (rows, n)) * 2.0 - 1 for rows in _blocks(resamples, n)]


def _blocks(rows: int, width: int) -> list[int]:
    """Splits `rows` rows of `width` numbers into blocks of at most `BLOCK` numbers; returns the
    number of rows in each block."""
    step = max(1, BLOCK // width)
    return [min(step, rows - start) for start in range(0, rows, step)]


def fisher(hits: int, of: int, others: int, of_others: int) -> float:
    """One-sided p of Fisher's exact test: is the share `hits` of `of` greater than the share
    `others` of `of_others`?"""
    total, drawn = of + of_others, hits + others
    ways = [
        math.comb(of, k) * math.comb(of_others, drawn - k) for k in range(hits, min(of, drawn) + 1)
    ]
    return sum(ways) / math.comb(total, drawn)


def proportion(good: int, count: int) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson 1927); of nothing it is 0, and may be anything."""
    if not count:
        return 0.0, 0.0, 1.0
    rate, z = good / count, NORMAL.inv_cdf(0.975)
    middle = rate + z * z / (2 * count)
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return rate, (middle - half) / scale, (middle + half) / scale
