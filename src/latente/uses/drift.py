"""Whether rows still come from where they came: a bet against p-values that should be uniform."""

import math
from dataclasses import dataclass, field

import numpy as np

# Slopes that are bet on: small p-values too frequent (strange rows), or too rare.
SLOPES = (-1.0, 0.0, 1.0)
# Share of each bet that moves to the others at every step (Vovk et al. 2021, "Retrain or not retrain").
MOVES = 0.01
# Of this capital the odds are a thousand to one against rows that are what they were.
ALARM = 1000.0


@dataclass
class Drift:
    """The simple jumper martingale, restarted where it falls below 1 (CUSUM), on p-values one after the other.

    Without drift the capital passes `ALARM` once in a thousand rows or more on average: it counts evidence from the
    last time on that nothing spoke for a drift. Bets are 1 + s·(p − ½)·2, and are paid by what p turns out to be.

    Source: Vovk, Petej, Nouretdinov, Ahlberg, Carlsson & Gammerman 2021 (arXiv:2102.10439), algorithm 1 and sec. 3.
    """

    bets: np.ndarray = field(default_factory=lambda: np.full(len(SLOPES), 1 / len(SLOPES)))
    rows: int = 0
    log_capital: float = 0.0

    def update(self, p: float) -> bool:
        """Whether, with this row's p-value, the rows of late are not what they were. After that it begins anew."""
        self.rows += 1
        total = self.bets.sum()
        moved = (1 - MOVES) * self.bets + MOVES * total / len(SLOPES)
        self.bets = moved * (1 + np.array(SLOPES) * (2 * p - 1) * 0.999)
        self.log_capital += math.log(self.bets.sum() / total)
        self.bets /= self.bets.sum()
        if self.log_capital < 0:
            self.bets, self.log_capital = np.full(len(SLOPES), 1 / len(SLOPES)), 0.0
        if self.log_capital < math.log(ALARM):
            return False
        self.bets, self.log_capital = np.full(len(SLOPES), 1 / len(SLOPES)), 0.0
        return True
