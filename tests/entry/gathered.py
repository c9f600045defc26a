"""The whole API behind one server, each entry point under its path as on cloudfunctions.net: what
test_openapi.py serves.

Google's keys are where the test has put them."""

import os
import sys
from pathlib import Path

import functions_framework
from flask import Request

sys.path.insert(0, str(Path(__file__).parents[2]))

import main
from functions.entry import auth

auth.GOOGLE_KEYS = os.environ["KEYS_OF_GOOGLE"]


@functions_framework.http
def api(request):
    target, _, rest = request.path.strip("/").partition("/")
    entry = getattr(main, target, None)
    if entry is None:
        return "no such function", 404
    return entry(Request(request.environ | {"PATH_INFO": f"/{rest}"}))
