"""Whether a worker of this bundle can do the tasks: their handlers are here, and can be called."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from functions.core.policy import Watch
from functions.core.states import OPEN, State
from functions.install.table import Table
from functions.ops.doctor.finding import Finding, breaks, fine, warns
from functions.ops.inspect.session import Connection
from functions.ops.load_handlers import MARK
from functions.worker.kinds import has_handler, where_to_write

ROOT = Path(__file__).parents[3]
HANDLER_ROWS = 10_000
HANDLERS_NAMED = 10
IMPORT_SECONDS = 30.0
"""So long the imports of all handlers may take."""


def handlers(connection: Connection, watch: Watch) -> list[Finding]:
    """Whether a worker of this bundle can do what is open, and what the rules speak of: first what
    most tasks wait for."""
    table = Table(watch)
    query = (
        "select o.kind, count(*) filter (where o.waits)::int "
        f"from (select {table.kind('t')} as kind, {table.is_in('t', State.PENDING)} as waits "
        f"from {table.name} t where {table.is_in('t', *OPEN)} limit {HANDLER_ROWS}) o "
        "group by 1 order by 2 desc, 1"
    )
    kinds: dict[str, int] = dict(connection.execute(query.encode()).fetchall())
    for kind in sorted(watch.rules.keys() - {"*"}) if "kind" in watch.columns else [""]:
        kinds.setdefault(kind, 0)
    missing = [kind for kind in kinds if not has_handler(watch, kind)]
    here = [kind for kind in kinds if kind not in missing]
    return [
        *(_unusable(watch, kind, *mistake) for kind, mistake in mistakes(watch, here).items()),
        *_missing(watch, {kind: kinds[kind] for kind in missing[:HANDLERS_NAMED]}),
    ] or [fine(watch.name, "handlers", "each kind has a handler")]


def _missing(watch: Watch, kinds: dict[str, int]) -> list[Finding]:
    return [
        warns(
            watch.name,
            "handlers",
            where_to_write(watch, kind, waiting),
            "no worker of this bundle takes such a task; it waits until it fails as never_claimed.",
            "Write it, and deploy the workers. Leave it where workers elsewhere do these tasks.",
        )
        for kind, waiting in kinds.items()
    ]


def _unusable(watch: Watch, kind: str, mistake: str, is_here_alone: bool) -> Finding:
    """`is_here_alone`: a library or a setting is missing, which the workers may have."""
    level = warns if is_here_alone else breaks
    return level(
        watch.name,
        "handlers",
        f"{kind or watch.table}: {mistake}",
        "no task of it is begun: each waits for a worker that can, and fails in the end.",
        "Correct the function, or the rule's `handler`, and deploy the workers.",
    )


def mistakes(watch: Watch, kinds: list[str]) -> dict[str, tuple[str, bool]]:
    """Why the handlers of these kinds cannot be used, by kind, and whether that may be so here
    alone. They are imported in a process of their own. Empty where this Python is not that of the
    workers: their libraries are not here."""
    if find_spec("functions_framework") is None or not kinds:
        return {}
    handlers = {kind: watch.handler(kind) for kind in kinds}
    command = [sys.executable, "-m", "functions.ops.load_handlers", *handlers.values()]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    reason = "the process that imported it ended"
    try:
        output = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=IMPORT_SECONDS,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as error:
        output, reason = error.stdout or b"", f"its import took longer than {IMPORT_SECONDS:g} s"
    lines = [line.partition(b" ")[2] for line in output.splitlines() if line.startswith(MARK)]
    answers = dict(zip(kinds, map(json.loads, lines), strict=False))
    if len(answers) < len(kinds):
        unanswered = kinds[len(answers)]
        answers[unanswered] = (f"handler {handlers[unanswered]}: {reason}", False)
    return {kind: (text, elsewhere) for kind, (text, elsewhere) in answers.items() if text}
