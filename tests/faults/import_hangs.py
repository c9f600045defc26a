"""A handler whose module takes for ever to import: it asks a server that does not answer."""

import time

time.sleep(60)


def handle(ctx, task_input):
    return {}
