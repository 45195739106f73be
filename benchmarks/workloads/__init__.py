"""What `regret.py` runs. Each module has a function of one item and `items()`, as the examples do.

So `forkright compare benchmarks/workloads/calc.py:calc` works as well, for those that import no other. Each takes about
a second as a plain loop, some less: what is regretted must be large beside what a clock shows, and small enough for
many rounds.
"""

from typing import NamedTuple


class Workload(NamedTuple):
    """A module of this package."""

    module: str
    function: str
    what: str


WORKLOADS = {
    "calc": Workload("calc", "calc", "pure Python, holds the GIL"),
    "requests": Workload("requests", "request", "waits for an HTTP server"),
    "checksums": Workload("checksums", "checksum", "computes without the GIL"),
    "pages": Workload("pages", "fetch_and_parse", "waits for a page, then parses it"),
    "tiny": Workload("tiny", "digit_sum", "500,000 calls of about a microsecond"),
    "long-tailed": Workload("long_tailed", "calc", "pure Python, three items twenty times as long as the others"),
    "large": Workload("large", "count_lines", "8 MB each, and little to do with them"),
    "mixed": Workload("mixed", "compute_and_sleep", "computes one half of the time, sleeps the other"),
}
