"""Pure Python in items of which a few take twenty times as long: who hands out the work in advance waits for them."""

from workloads.calc import calc as calc

SHORT, LONG = 40_000, 800_000
# In the middle, and near the end where little is left to do beside them.
STRAGGLERS = (40, 95, 112)


def items() -> list[int]:
    """120 items of about 5 ms, and three of 100 ms among them."""
    return [(LONG if place in STRAGGLERS else SHORT) + place for place in range(120)]
