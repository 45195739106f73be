"""Has Python do without `pidfd_open`, which valgrind 3.19 does not know: what it gives here is never ready.

So nobody notices that a process has ended; while the paths are counted none does.
"""

import os

os.pidfd_open = lambda pid, flags=0: os.pipe()[0]  # type: ignore[assignment]
