"""Randomisation lists: seeded, in blocks of random sizes, stratified, the same again from the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from cantlie.core.errors import CohortError


def randomisation_list(
    arms: Sequence[str],
    size: int,
    *,
    seed: int,
    block_sizes: Sequence[int] = (4, 6),
    ratio: Sequence[int] | None = None,
    strata: dict[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Return a list of allocations in permuted blocks.

    Parameters
    ----------
    arms
        Names of the arms.
    size
        Allocations in each stratum; the last block is cut there.
    seed
        Kept secret until the trial ends; the same seed gives the same list (NumPy's PCG64).
    block_sizes
        Each block has one of these sizes at random, so that the next allocation cannot be guessed.
    ratio
        Allocation ratio, 1 for each arm where not given.
    strata
        Factors and their levels; every combination has a list of its own.

    Returns
    -------
    frame
        Columns stratum, number (from 1 within the stratum), block, arm.

    Raises
    ------
    CohortError
        If a block cannot hold the ratio.
    """
    shares = tuple(ratio or (1,) * len(arms))
    if len(arms) < 2 or len(shares) != len(arms) or min(shares) < 1 or size < 1:
        raise CohortError(
            "a list needs two arms or more, a share for each, and a size", where="randomisation", remedy="give them"
        )
    unit = sum(shares)
    for block in block_sizes:
        if block < unit or block % unit:
            raise CohortError(
                f"a block of {block} cannot hold the ratio {':'.join(map(str, shares))}",
                where="randomisation",
                remedy=f"give multiples of {unit}",
            )
    rng = np.random.default_rng(seed)
    factors = strata or {}
    combinations = list(product(*factors.values())) if factors else [()]
    rows = []
    for combination in combinations:
        name = ", ".join(f"{factor}={level}" for factor, level in zip(factors, combination, strict=True)) or "all"
        number = block_number = 0
        while number < size:
            block_number += 1
            repeats = int(rng.choice(block_sizes)) // unit
            block_arms = rng.permutation(np.repeat(arms, [share * repeats for share in shares]))
            for arm in block_arms[: size - number]:
                number += 1
                rows.append({"stratum": name, "number": number, "block": block_number, "arm": str(arm)})
    return pd.DataFrame(rows)
