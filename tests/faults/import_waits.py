"""A handler whose module is not loaded before the file is there that IMPORT_GATE names."""

import os
import time
from pathlib import Path

from tests.faults.handlers import waits as handle

__all__ = ["handle"]

while not Path(os.environ["IMPORT_GATE"]).exists():
    time.sleep(0.01)
