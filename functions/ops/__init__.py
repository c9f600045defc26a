"""For people at a keyboard: commands, local servers, documentation. Never deployed."""

import time

STARTED = time.monotonic()
"""When the command began, as far as it can be seen from inside."""
