"""A plugin of pytest's: wherever joblib's tests say loky, they get forkright's backend. The tests themselves stay as they
are in the package.

It must be loaded before joblib's test modules, which look up the backends as they are imported.
"""

from __future__ import annotations

import joblib._parallel_backends
import joblib.parallel

from forkright.joblib import ForkrightBackend

joblib._parallel_backends.LokyBackend = ForkrightBackend
joblib.parallel.register_parallel_backend("loky", ForkrightBackend)
