"""Generated answers of which it is known who reads them right."""

import pandas as pd

from xlnb.corpora import templates
from xlnb.evaluation.harness import FLEXIBLE, STRICT


def gold(language, split, i):
    return templates.problems(language, split, i + 1)[i].answer


def native(number, zero):
    return "".join(chr(ord(zero) + int(digit)) for digit in str(number))


def generated():
    """Answers with what is right, ours, strict, flexible: one row each, and rows that are no answers beside them."""
    d, s = (lambda i: gold("en", "development", i)), gold("en", "scored", 3)
    long = "Kwanza anahesabu yote kwa makini sana, halafu anahesabu tena mara ya pili ili kuwa na uhakika kabisa. "
    cases = [
        ("sw", "development", 0, f"Jibu ni {d(0)}.", True, True, True),
        ("sw", "development", 1, f"Jibu ni {d(1)} kwa jumla, si {d(1) + 1}.", True, True, False),
        ("sw", "scored", 3, f"{long}Jibu ni {s}.00", True, False, False),
        ("bn", "development", 2, f"উত্তর হল {native(d(2), '০')}।", True, False, False),
        ("bn", "development", 0, f"উত্তর হল {d(0)}।", True, False, True),
        ("te", "development", 1, f"సమాధానం {native(d(1), '౦')}.", True, False, False),
        ("en", "development", 2, f"The answer is {d(2)}. No, the answer is {d(2) + 1}.", False, True, False),
        ("en", "development", 1, f"The answer is {d(1) + 1}.", False, False, False),
        ("en", "scored", 3, "", False, False, False),
    ]
    rows = [
        (language, split, f"{split}-{i:06d}", metric, text)
        for language, split, i, text, *_ in cases
        for metric in ("nll", "exact-match", "expression")
    ]
    frame = pd.DataFrame(rows, columns=["test_language", "split", "problem", "metric", "text"])
    frame.loc[frame["metric"] == "nll", "text"] = None
    return frame.assign(seed=0, benchmark="templates"), pd.DataFrame(
        [case[4:] for case in cases], columns=["xlnb", STRICT, FLEXIBLE]
    )
