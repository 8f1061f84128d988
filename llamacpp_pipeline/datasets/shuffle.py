"""The order in which `llama-perplexity --hellaswag` runs the tasks of a file: never the file's.

It draws from those left with std::mt19937(1) and std::uniform_int_distribution<size_t>, even where
all are run. The C++ standard leaves the distribution to the library; this is libstdc++'s
(bits/uniform_int_dist.h: the nearly divisionless method of Lemire, ACM Trans. Model. Comput. Simul.
29 (2019) 3, with 32 random bits), which GCC and clang on Linux use.
"""

from __future__ import annotations

import numpy as np

SEED = 1
RANGE = 2**32


def hellaswag_order(n_tasks: int) -> tuple[int, ...]:
    """Positions in the file (from 0) in the order in which they are run; all tasks are."""
    generator = np.random.MT19937()
    generator._legacy_seeding(SEED)  # noqa: SLF001  init_genrand, as std::mt19937 is seeded
    left = list(range(n_tasks))
    return tuple(left.pop(drawn(generator, len(left))) for _ in range(n_tasks))


def drawn(generator: np.random.MT19937, below: int) -> int:
    """A whole number from 0 to `below` - 1."""
    product = int(generator.random_raw()) * below
    if product % RANGE < below:
        threshold = RANGE % below
        while product % RANGE < threshold:
            product = int(generator.random_raw()) * below
    return product // RANGE
