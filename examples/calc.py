"""Pure Python arithmetic: every task holds the GIL from its first instruction to its last.

One call per core. Threads of one process take turns on one GIL, so they finish no sooner than a plain loop
does; processes have a GIL each. Expect processes, and on 2 cores about half of the serial time.
"""

import math

import forkright as fr


def calc(_: object = None) -> float:
    """The sum of the square roots of 4 million numbers, compensated as `sum` does it since Python 3.12."""
    total = lost = 0.0
    for number in range(4_000_000):
        root = math.sqrt(number)
        bigger = total + root
        lost += (total - bigger) + root if total >= root else (root - bigger) + total
        total = bigger
    return total + lost


def items() -> list[int]:
    """One call per usable core."""
    return list(range(fr.cpu_count()))


if __name__ == "__main__":
    for total in fr.map(calc, items()):
        print(f"{total:.6f}")
    print(fr.report())
