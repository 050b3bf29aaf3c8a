"""demo: the whole path in a minute, without a network."""

from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pathlib import Path


def demo(
    *,
    output: "Annotated[str | Path | None, 'the run folder; runs/demo-TIME unless given']" = None,
    seed: Annotated[int, "seed of everything"] = 0,
) -> dict[str, Any]:
    """Fit scikit-learn's digits as pictures and its breast-cancer table, evaluate, sample, interpolate, score.

    Leaves a run folder with pictures, models and tables, and returns the figures.
    """
    import time
    from pathlib import Path

    from ..uses import demonstration

    folder = Path(output) if output else Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    return demonstration.run(folder, seed)
