"""The table at the end of the demo: what happened to each task, and why."""

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from functions.ops.demo.scenes import Scene

TASKS = "select id::text, status, error_message from public.tasks"
ATTEMPTS = """
select string_agg(coalesce(cause, outcome), ' → ' order by number)
from unstuck.attempts where task_id = %s
"""
SUMMARY = """\
{tasks} tasks: {completed} completed, {failed} failed with a reason, {stuck} stuck, \
{overwritten} overwritten.
{rescues} rescues. From the death of a worker to the new state of its task: \
p50 {rescue_seconds[p50]} s, max {rescue_seconds[max]} s (lease 1.5 s, a sweep each second).
Refused: {zombie_writes_refused} writes of zombies, \
{foreign_writes_refused} of a careless script.
While postcards were paused {pause[waiting]} waited and {pause[started]} started; then the urgent \
one, created last, was number {urgent_started_at_place}.
At most {limit[most_at_once]} panels were drawn at once (limit {limit[running]})."""


def show(
    connection: Any, scenes: dict[str, Scene], figures: dict[str, Any], problems: list[str]
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    table = Table(title="What happened to each task, and why", title_justify="left")
    for name in ("task", "trouble", "attempts", "end", "reason for the user"):
        table.add_column(name)
    tasks = {row[0]: row for row in connection.execute(TASKS)}
    for task_id, scene in scenes.items():
        attempts = connection.execute(ATTEMPTS, (task_id,)).fetchone()[0] or ""
        _, status, error = tasks[task_id]
        style = {"completed": "green", "failed": "yellow"}.get(status, "red")
        end, reason = f"[{style}]{status}[/]", escape(error or "")
        table.add_row(escape(scene.label), scene.trouble, attempts, end, reason)
    console.print(table)
    console.print(SUMMARY.format_map(figures))
    for problem in problems:
        console.print(f"[red]problem:[/] {escape(problem)}")
