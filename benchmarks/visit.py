"""One measurement of one contestant, in an interpreter of its own: `run.py` starts this with a request in JSON.

Answers with the figures, by name. Imports next to nothing, so that a cold start is one.
"""

from __future__ import annotations

import importlib
import json
import sys

# By name, so that only the module that is needed is imported.
MEASURES = {
    "stream": "small.stream",
    "submitters": "small.submitters",
    "latency": "small.latency",
    "map": "small.map_",
    "waits": "small.waits",
    "tiny": "small.tiny",
    "sleepers": "small.sleepers",
    "arrays": "arrays.arrays",
    "same": "arrays.same",
    "shared": "arrays.shared",
    "cold": "starts.cold",
    "cold by value": "starts.cold_by_value",
    "workers": "starts.workers",
    "start and join": "starts.start_and_join",
    "million": "lasting.million",
    "idle": "lasting.idle",
    "memory": "lasting.memory",
    "by workers": "growth.by_workers",
    "by payload": "growth.by_payload",
    "by queue": "growth.by_queue",
}


def main() -> None:
    request = json.loads(sys.argv[1])
    module, _, name = MEASURES[request["measure"]].partition(".")
    measure = getattr(importlib.import_module(f"measures.{module}"), name)
    print(json.dumps({"figures": measure(request["contestant"], request["size"], request["repeats"])}))


if __name__ == "__main__":
    main()
