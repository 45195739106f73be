"""How right forkright's meter is, and what it costs: `accuracy.py` and `overhead.py`, started by `make bench-meter`."""
