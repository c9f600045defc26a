"""A handler whose module cannot be imported: a setting that it wants is missing."""

import os

KEY = os.environ["A_SETTING_THAT_IS_MISSING"]


def handle(ctx, task_input):
    return {}
