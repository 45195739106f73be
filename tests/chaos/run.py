"""Many storms, one after another, each with its seed and in an interpreter of its own; sums up what became of all tasks.

python tests/chaos/run.py                        16 seeds, 10,000 tasks each
python tests/chaos/run.py --seeds 3 --from 100   seeds 100, 101 and 102

Prints a line of JSON for each seed, and exits with 1 if one of them ends badly.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

STORM = Path(__file__).parent / "storm.py"
# A storm ends itself before, with all tracebacks.
LIMIT = 400


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16, help="how many")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first one")
    parser.add_argument("--tasks", type=int, default=10_000, help="for each seed")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    bad = []
    for seed in range(options.first, options.first + options.seeds):
        command = [sys.executable, str(STORM), "--seed", str(seed), "--tasks", str(options.tasks)]
        storm = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT)
        print(storm.stdout.strip() or f"seed {seed} ended with {storm.returncode}", flush=True)
        if storm.returncode:
            bad.append(seed)
        if storm.stdout:
            told = json.loads(storm.stdout)
            outcomes.update(told["outcomes"])
            kills.update(told["kills"])
    print(f"{options.seeds} seeds, {outcomes.total()} outcomes: {dict(outcomes.most_common())}")
    print(f"{kills.total()} kills: {dict(kills.most_common())}")
    print(f"ended badly: seeds {bad}" if bad else "each task had one outcome, and nothing was left")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
