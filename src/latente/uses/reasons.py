"""What an alarm names: the columns or channels that add most to its score."""

import numpy as np

# So many at most, and the share of the score below which one is not worth a word.
NAMED, WORTH = 3, 0.05


def named(shares: np.ndarray) -> list[int]:
    """Places of the largest shares [cells] of a row, the largest first; that one is named whatever it is."""
    order = np.argsort(-shares, kind="stable")[:NAMED].tolist()
    return order[:1] + [j for j in order[1:] if shares[j] >= WORTH]
