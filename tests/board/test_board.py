"""The board itself: verdicts by data, the page by data, and one real cell."""

import xml.etree.ElementTree as ET

import pytest

from functions.ops.postgres.embedded import Postgres
from tests.board import faults
from tests.board.__main__ import main
from tests.board.board import SYSTEMS, Meeting, system_of
from tests.board.faults import FAULTS, ORDER, Sight, killed
from tests.board.page import HEADS, Circumstances, Page
from tests.board.stage import Stage
from tests.board.verdict import BROKEN, HELD, NOT_APPLICABLE, NOT_TRIED, Cell, judge

CIRCUMSTANCES = Circumstances(
    "2026-01-02", "2 cores", "load average 0.1", "18.4", "abc", 9.0, 3, {"other": "too new"}
)


@pytest.mark.parametrize(
    ("fault", "sight", "word", "part"),
    [
        ("killed", Sight(seconds=3.6, executions=2), HELD, "3.6 s, 1.2 times the time-out"),
        ("killed", Sight(window=17.0, open_tasks=1), BROKEN, "no other state within 17 s"),
        ("freeze", Sight(seconds=3.0, late_accepted=1), BROKEN, "accepted the late result"),
        ("poison", Sight(executions=6, beyond=3), BROKEN, "beyond the limit of tries"),
        ("poison", Sight(executions=3), HELD, "executed 3 times"),
        ("poison", Sight(executions=3, without_reason=1), BROKEN, "without a reason"),
        ("computes", Sight(executions=2, doubled=1), BROKEN, "a healthy task again"),
        ("two_sweeps", Sight(seconds=3.0, doubled=1), BROKEN, "away twice"),
        ("finished", Sight(seconds=0.0, executions=1), HELD, "executed once"),
        ("database", Sight(seconds=1.0, open_tasks=1), BROKEN, "left the task open"),
        ("push_lost", Sight(not_applicable="it has no push"), NOT_APPLICABLE, "it has no push"),
    ],
)
def test_a_verdict_follows_from_what_was_seen(
    fault: str, sight: Sight, word: str, part: str
) -> None:
    verdict = judge(fault, sight, 3.0)
    assert verdict.word == word
    assert part in verdict.sentence


def test_a_promise_that_is_broken_in_one_run_is_broken_and_the_cell_says_how_often() -> None:
    held, broken = Sight(seconds=3.0, executions=2), Sight(seconds=3.0, late_accepted=1)
    cell = Cell("some", "freeze", 3.0, (held, broken, held))
    assert cell.word == BROKEN
    assert not cell.is_unanimous
    assert "(1 of 3 runs)" in cell.sentence


def test_a_cell_gives_the_middle_and_the_longest_time_and_their_ratio_to_the_time_out() -> None:
    sights = tuple(Sight(seconds=seconds, executions=2) for seconds in (6.0, 3.0, 3.3))
    cell = Cell("some", "killed", 3.0, sights)
    assert cell.sentence == "p50 3.3 s, max 6.0 s (1.1 times the time-out); executed 2 times"


def test_a_system_that_cannot_be_had_is_a_line_and_not_a_hole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    systems = {"procrastinate": system_of("procrastinate"), "unstuck": system_of("unstuck")}
    monkeypatch.setattr(type(systems["procrastinate"]), "missing", lambda _: "it is not here")
    cells = [
        Cell("procrastinate", "killed", 3.0, (), "it is not here"),
        Cell("unstuck", "killed", 3.0, (Sight(seconds=3.6, executions=2),)),
    ]
    text = Page(cells, systems, CIRCUMSTANCES).markdown()
    assert cells[0].word == NOT_TRIED
    assert "- procrastinate: it is not here" in text
    assert "- other: too new" in text
    assert "| Unstuck, its own table | held | p50 3.6 s" in text


def test_the_page_and_its_picture_say_every_cell_the_settings_and_the_command() -> None:
    systems = {name: system_of(name) for name in SYSTEMS}
    cells = [
        Cell(name, fault, 3.0, (Sight(seconds=3.0, executions=2),))
        for name in SYSTEMS
        for fault in FAULTS
    ]
    page = Page(cells, systems, CIRCUMSTANCES)
    text = page.markdown()
    for fault in FAULTS:
        assert f"## {HEADS[fault].capitalize()}" in text
        assert f"--fault {fault}`" in text
    here = [system for system in systems.values() if not system.missing()]
    assert all(system.settings[0] in text for system in here)
    boxes = ET.fromstring(page.picture()).iter("{http://www.w3.org/2000/svg}title")
    assert len(list(boxes)) == len(here) * len(FAULTS)


def test_each_fault_has_its_place_in_the_order_and_a_name_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {*ORDER, "database"} == {*FAULTS} == {*HEADS}
    monkeypatch.setattr("sys.argv", ["board", "--only", "nobodys"])
    with pytest.raises(SystemExit):
        main()
    assert "there is no nobodys" in capsys.readouterr().err


def test_the_database_is_struck_once_when_all_have_come_or_left() -> None:
    strikes = []

    def strike() -> float:
        strikes.append("struck")
        return 7.0

    meeting = Meeting(2, strike)
    meeting.leave()
    assert meeting.arrive() == 7.0
    assert strikes == ["struck"]


def test_the_task_of_a_worker_that_is_killed_is_executed_again_by_another(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "window", lambda _: 90.0)  # a busy machine is no verdict
    with Stage(system_of("unstuck"), postgres.dsn()) as stage:
        sight = killed(stage)
    assert judge("killed", sight, stage.system.timeout_seconds).word == HELD
    assert sight.executions in {2, 3}
