"""The engine without what keeps a row's bits apart from its neighbours', for measuring what that property costs.

No padding rows; start it with MKL_CBWR=AUTO, so that MKL chooses kernels by the number of rows. The engine then finds by its own
trial that the property does not hold and does not claim it.
"""

from __future__ import annotations

import os
import sys

from tunesmith.engines import __main__ as process
from tunesmith.engines import attention, layout, model

for room in (attention, layout, model):
    room.PADDING_ROWS = 0

code = process.main()
sys.stdout.flush()
os._exit(code)
