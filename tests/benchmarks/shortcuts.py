"""How far shortcuts go with the word problems, per language: `python tests/benchmarks/shortcuts.py [problems]`, with intervals.

Prints for each reader (numbers alone, words alone, both, nearest training question) the shares of scored problems whose first
operation and whose answer it gets right, and of twins that it tells apart (a coin: 25 %), in English also where it was taught by
the many situations that the math expert learns from; and how long 100,000 problems take.
"""

import sys
import time

from xlnb.corpora import templates
from xlnb.evaluation.shortcuts import ASKED, shortcuts


def main(n: int = 480) -> None:
    for language, many in [*((language, False) for language in templates.LANGUAGES), ("en", True)]:
        taught = ", taught with the many English situations" if many else ""
        print(f"\n{language}: {n} scored problems, 95 % intervals over pairs of twins{taught}")
        for reader, rows in shortcuts(language, n=n, many_frames=many).groupby("reader", sort=False):
            shares = rows.set_index("asked").loc[list(ASKED)]
            told = "  ".join(
                f"{a}: {100 * r.value:4.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]" for a, r in shares.iterrows()
            )
            print(f"  {reader:26}{told}")
    started = time.perf_counter()
    templates.problems("sw", "train", 100_000)
    print(f"\n100,000 problems: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
