"""How long answers take to read, by their length and shape: `python tests/benchmarks/answers.py [repeats]`.

Prints seconds for 1,000, 10,000 and 100,000 characters, the shortest of some repeats, and how many times as long the last takes
as the one before: 10 where time is linear. Exits with 1 where 100,000 characters of a shape take longer than a tenth of a second.
"""

import sys
import time

from xlnb.evaluation.answers import extract_number

SHAPES = {  # a piece, and the language it is read in
    "prose": ("She sells 9 eggs at $2 each, so 9 * 2 = 18 dollars a day. ", "en"),
    "prose in Swahili": ("Aliuza mayai 9 kwa shilingi 2, hivyo 9 * 2 = 18. Jibu ni 18. ", "sw"),
    "Bengali digits": ("সে ৯টি ডিম ২ টাকায় বেচে, তাই ৯ × ২ = ১৮। ", "bn"),
    "Telugu without numbers": ("సమాధానం తెలియదు ", "te"),
    "spaced numbers": ("118 000 ", "fr"),
    "spaced numbers elsewhere": ("1 250 ", "en"),
    "digits": ("7", "en"),
    "Bengali digits alone": ("৭", "bn"),
    "lists": ("1,2,", "de"),
    "brackets": ("(", "en"),
    "brackets with numbers": ("((1) * ", "en"),
    "LaTeX": (r"\frac{1}{2} \text{of} \boxed{18} ", "en"),
    "open LaTeX": (r"\boxed{\frac{1}{", "en"),
    "statements": ("The answer is 18. ", "en"),
    "labels": ("\nQuestion: ", "en"),
    "line breaks": ("\n", "de"),
    "minus signs": ("- ", "ru"),
    "stars": ("**", "zh"),
}
LENGTHS, LIMIT = (1_000, 10_000, 100_000), 0.1


def seconds(text: str, language: str, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        extract_number(text, language)
        taken.append(time.process_time() - started)
    return min(taken)


def main(repeats: int = 5) -> None:
    print(f"{'seconds':26}{''.join(f'{n:>11,}' for n in LENGTHS)}{'ratio':>8}")
    slow = []
    for shape, (piece, language) in SHAPES.items():
        took = [seconds((piece * (n // len(piece) + 1))[:n], language, repeats) for n in LENGTHS]
        print(f"{shape:26}{''.join(f'{one:11.5f}' for one in took)}{took[-1] / took[-2]:8.1f}")
        if took[-1] > LIMIT:
            slow.append(shape)
    if slow:
        sys.exit(f"Over {LIMIT} s: {', '.join(slow)}.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
