"""Altered streams of the codec: a campaign.

    bench/fuzz.py [--streams 1000000] [--seed 0] [--quick]

Streams of four models in all modes, changed as they lie (bits, bytes, cuts, chunks lost, doubled, moved, of other
streams) or in their parts with all seals made anew, decompressed with and without --recover. crashes: exceptions that
are none of latente's; wrong_silently: rows that are not the original's, or lost without a word, of streams whose seals
were not made anew; grown_mb: memory beyond what was taken before. The mutations are those of tests/fuzzing.py.
"""

import sys
import time
from pathlib import Path

from common import arguments, finish

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fuzzing import bases, campaign


def main() -> None:
    args = arguments(
        __doc__,
        streams={"type": int, "default": 1_000_000, "help": "how many"},
        seed={"type": int, "default": 0, "help": "of the mutations"},
    )
    start = time.perf_counter()
    figures = campaign(2_000 if args.quick else args.streams, args.seed, bases())
    finish("fuzz", figures, {}, start)


if __name__ == "__main__":
    main()
