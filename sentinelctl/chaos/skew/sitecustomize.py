"""Shifts what this process takes for the time: Python imports a sitecustomize on PYTHONPATH before anything else.

Only wall-clock time is shifted, as a wrong clock would be; monotonic time goes on.
"""

import os
import time

_offset_s = float(os.environ.get("CHAOS_CLOCK_OFFSET_S", "0"))
_real, _real_ns = time.time, time.time_ns
time.time = lambda: _real() + _offset_s
time.time_ns = lambda: _real_ns() + int(_offset_s * 1e9)
