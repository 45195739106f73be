"""Hides the GIL from forkright's meter, in each process that begins with this directory on its path.

The meter finds the GIL by the switch interval it has, and asks `sys` for that first of all: told another one, it finds
none. Whoever asks later gets the truth. `choice/trial.py` has it so for "auto by CPU/wall", and sees to it that the
GIL was hidden indeed.
"""

import sys

_truth = sys.getswitchinterval


def _lie() -> float:
    sys.getswitchinterval = _truth
    return 1.5


sys.getswitchinterval = _lie
