"""How many instructions the hot paths take: `count.py` is run, README.md of the benchmarks tells how."""
