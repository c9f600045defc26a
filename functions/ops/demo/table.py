"""The table at the end of the demo: what happened to each task, and why."""

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from functions.ops.demo.scenes import Scene

TRIES = """
select string_agg(coalesce(cause, outcome), ' → ' order by number) from unstuck.attempts where task_id = %s
"""


def show(
    connection: Any, scenes: dict[str, Scene], found: dict[str, Any], problems: list[str]
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    table = Table(title="What happened to each task, and why", title_justify="left")
    for name in ("task", "trouble", "attempts", "end", "reason for the user"):
        table.add_column(name)
    tasks = {
        row[0]: row
        for row in connection.execute("select id::text, status, error_message from public.tasks")
    }
    for task_id, scene in scenes.items():
        tries = connection.execute(TRIES, (task_id,)).fetchone()[0] or ""
        _, status, error = tasks[task_id]
        style = {"completed": "green", "failed": "yellow"}.get(status, "red")
        table.add_row(
            escape(scene.label), scene.trouble, tries, f"[{style}]{status}[/]", escape(error or "")
        )
    console.print(table)
    rescue = found["rescue_seconds"]
    console.print(
        f"{found['tasks']} tasks: {found['completed']} completed, {found['failed']} failed with a reason, "
        f"{found['stuck']} stuck, {found['overwritten']} overwritten.\n"
        f"{found['rescues']} rescues. From the death of a worker to the new state of its task: p50 {rescue['p50']} s, "
        f"max {rescue['max']} s (lease 1.5 s, a sweep each second).\n"
        f"Refused: {found['zombie_writes_refused']} writes of zombies, "
        f"{found['foreign_writes_refused']} of a careless script."
    )
    for problem in problems:
        console.print(f"[red]problem:[/] {escape(problem)}")
