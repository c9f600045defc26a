"""The page of the board, docs/board.md, and its picture, docs/board.svg, from the cells of a
run."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from tests.board.faults import FAULTS
from tests.board.system import System
from tests.board.verdict import BROKEN, HELD, NOT_APPLICABLE, Cell

SIGNS = {HELD: "held", BROKEN: "**broken**", NOT_APPLICABLE: "n/a"}
COLOURS = {HELD: "#1a7f37", BROKEN: "#cf222e", NOT_APPLICABLE: "#8c959f"}
HEADS = {
    "killed": "worker killed",
    "freeze": "frozen, woken late",
    "poison": "task that kills",
    "computes": "long computation",
    "database": "database killed",
    "leader": "sweeper frozen",
    "nobody": "nobody polls",
    "push_lost": "push lost",
    "two_sweeps": "two sweeps at once",
    "finished": "finished meanwhile",
}
ROW_HEIGHT, LABEL_WIDTH, CELL_WIDTH, HEAD_HEIGHT = 30, 250, 92, 52


@dataclass(frozen=True)
class Circumstances:
    """Where and when a board was made."""

    date: str
    machine: str
    load: str
    postgres: str
    commit: str
    minutes: float
    runs: int
    absent: dict[str, str]
    """Systems that are not tried, and why."""


class Page:
    def __init__(
        self, cells: list[Cell], systems: Mapping[str, System], circumstances: Circumstances
    ) -> None:
        self._cells = {(cell.system, cell.fault): cell for cell in cells}
        self._systems, self._circumstances = systems, circumstances
        self._faults = [fault for fault in FAULTS if any(cell.fault == fault for cell in cells)]

    def markdown(self) -> str:
        parts = [
            self._head(),
            self._matrix(),
            *(self._fault(fault) for fault in self._faults),
            self._settings(),
            self._absent(),
        ]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _here(self) -> list[str]:
        return [name for name in self._systems if not self._systems[name].missing()]

    def _head(self) -> str:
        at = self._circumstances
        return f"""# Fault board

*For you if you choose between job systems. 10 minutes.*

What becomes of a task when something breaks: job systems on PostgreSQL, each by its real library in
its real worker processes, beside each other on one server. `make board` makes this page.

![What held and what broke](board.svg)

Made on {at.date}, from commit {at.commit}, in {at.minutes:.0f} minutes, on {at.machine};
{at.load}. PostgreSQL {at.postgres}. Runs of each cell: {at.runs}. A cell is broken when one run
was; where not all were, it says how many.

- What is counted comes from a journal that the handlers write (one file, only appended to), and
  from the rows of each system's tables; not from what a system says of itself.
- **held**: the task came to its end, no late result was accepted, no healthy task was executed
  again, no limit of tries was passed, and a failure has a reason. **broken**: one of these did not
  hold, or the next state did not come within four time-outs and 5 seconds (20 seconds where the
  time-out is hours). **n/a**: does not apply.
- The time is from the fault to the next state: another execution begins, or the row no longer says
  that the task runs. It depends on the machine and on the settings below.
- Time-outs are short so that a run ends soon. Each system is set for a fast rescue, by its
  documentation, and where that says nothing by its source ([settings](#settings)). A setting that
  might mend a cell is named there; not all of those were tried. The long computation holds Python's
  interpreter lock, as a tight loop in C does: heartbeats from a thread of the same process, in
  whatever system, do not get through.
- Authors of a system: a cell that you do not believe runs alone by one command, without Unstuck; we
  gladly change a setting."""

    def _matrix(self) -> str:
        heads = " | ".join(HEADS[fault] for fault in self._faults)
        lines = [f"| | {heads} |", "|---" * (len(self._faults) + 1) + "|"]
        for name in self._here():
            cells = " | ".join(self._sign(name, fault) for fault in self._faults)
            lines.append(f"| {self._systems[name].title} | {cells} |")
        return "\n".join(lines)

    def _sign(self, name: str, fault: str) -> str:
        cell = self._cells[name, fault]
        return SIGNS.get(cell.word, "not tried")

    def _fault(self, fault: str) -> str:
        text = " ".join((FAULTS[fault].__doc__ or "").split())
        lines = [f"## {HEADS[fault].capitalize()}", "", text, "", "| | | |", "|---|---|---|"]
        for name in self._here():
            cell = self._cells[name, fault]
            title = self._systems[name].title
            lines.append(f"| {title} | {self._sign(name, fault)} | {cell.sentence} |")
        lines += ["", f"One alone, by the script of its system: `{self._command('NAME', fault)}`"]
        return "\n".join(lines)

    @staticmethod
    def _command(name: str, fault: str) -> str:
        return f"python -m tests.board.use_{name} --dsn postgresql://... --fault {fault}"

    def _settings(self) -> str:
        lines = ["## Settings"]
        for name in self._here():
            system = self._systems[name]
            module = type(system).__module__.rpartition(".")[2]
            lines += ["", f"**{system.title}** ({system.version()}), `tests/board/{module}.py`; "]
            lines[-1] += f"time-out {system.timeout_seconds:g} s, {system.tries} tries."
            lines += ["", *(f"- {setting}" for setting in system.settings)]
            lines += [f"- Tried: {remedy}" for remedy in system.remedies]
        return "\n".join(lines)

    def _absent(self) -> str:
        systems = self._systems.values()
        absent = {system.title: system.missing() for system in systems if system.missing()}
        absent |= self._circumstances.absent
        if not absent:
            return ""
        lines = ["## Not here", ""]
        return "\n".join([*lines, *(f"- {title}: {why}" for title, why in absent.items())])

    def picture(self) -> str:
        names = self._here()
        width = LABEL_WIDTH + CELL_WIDTH * len(self._faults) + 10
        height = HEAD_HEIGHT + ROW_HEIGHT * len(names) + 10
        parts = [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
            ),
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]
        parts += [self._head_text(column, fault) for column, fault in enumerate(self._faults)]
        for row, name in enumerate(names):
            top = HEAD_HEIGHT + row * ROW_HEIGHT
            title = escape(self._systems[name].title)
            parts.append(f'<text x="8" y="{top + 20}" fill="#1f2328">{title}</text>')
            parts += [
                self._box(column, top, self._cells[name, fault])
                for column, fault in enumerate(self._faults)
            ]
        return "\n".join([*parts, "</svg>"]) + "\n"

    @staticmethod
    def _head_text(column: int, fault: str) -> str:
        middle = LABEL_WIDTH + column * CELL_WIDTH + CELL_WIDTH // 2
        words = HEADS[fault].split()
        half = (len(words) + 1) // 2
        lines = [" ".join(words[:half]), " ".join(words[half:])]
        spans = "".join(
            f'<tspan x="{middle}" dy="{15 * (number > 0)}">{escape(line)}</tspan>'
            for number, line in enumerate(lines)
        )
        return f'<text y="20" text-anchor="middle" fill="#1f2328">{spans}</text>'

    @staticmethod
    def _box(column: int, top: int, cell: Cell) -> str:
        left = LABEL_WIDTH + column * CELL_WIDTH
        colour = COLOURS.get(cell.word, "#8c959f")
        text = _short(cell)
        return (
            f'<rect x="{left + 2}" y="{top + 2}" width="{CELL_WIDTH - 4}" '
            f'height="{ROW_HEIGHT - 4}" rx="4" fill="{colour}"><title>{escape(cell.sentence)}'
            f'</title></rect><text x="{left + CELL_WIDTH // 2}" y="{top + 20}" '
            f'text-anchor="middle" fill="#ffffff">{escape(text)}</text>'
        )


def _short(cell: Cell) -> str:
    """What stands in a box: the word, and the time where one was asked for."""
    if cell.word == HELD and cell.seconds and cell.fault not in {"computes", "finished"}:
        return f"{cell.seconds[len(cell.seconds) // 2]:.1f} s"
    return {HELD: "held", BROKEN: "broken", NOT_APPLICABLE: "n/a"}.get(cell.word, "not tried")
