"""Handlers that do what breaks workers. Policies of the tests name them as `handler`."""

import ctypes
import os
import re
import socket
import sys
import time


def ok(ctx, task_input):
    return {"attempt": ctx.attempt, **task_input}


async def ok_async(ctx, task_input):
    import asyncio

    await asyncio.sleep(0)
    return {"async": True}


def sleeps(ctx, task_input):
    time.sleep(task_input.get("seconds", 60))
    return {"attempt": ctx.attempt}
