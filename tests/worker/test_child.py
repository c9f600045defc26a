"""Where a handler runs: its messages are read as they come, and the programs that it starts count,
and end, with it."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

import psutil
import pytest

from functions.worker import folder, lease_clock
from functions.worker.child import Work
from functions.worker.inbox import Inbox
from functions.worker.messages import (
    MOST_BYTES,
    Begin,
    Cancel,
    Checkpoint,
    CheckpointAnswer,
    Exited,
    Job,
    Progress,
    Ready,
    Result,
    encode,
)
from tests.waiting import eventually
from tests.worker import first_message, lets_begin, next_message

MUCH = 10_000_000
GREED = 80_000_000
GREEDY = f"import time; held = bytearray({GREED}); print('held', flush=True); time.sleep(600)"


def says_much(ctx, task_input):
    return {"much": "x" * MUCH}


def says_two_things_at_once(ctx, task_input):
    ctx.progress(0.1)
    ctx.progress(0.2)
    return 3


def starts_programs(ctx, task_input):
    """One that stays in the group, and one that leaves it. Each has one of its own."""
    shell = ["sh", "-c", f'{sys.executable} -c "$0" & wait', GREEDY]
    programs = [
        subprocess.Popen(shell, start_new_session=new, stdout=subprocess.PIPE)
        for new in (False, True)
    ]
    for program in programs:
        program.stdout.readline()
    ctx.progress(message=json.dumps([program.pid for program in programs]))
    time.sleep(600)


def leaves_a_file(ctx, task_input):
    Path(task_input).touch()


def waits_until_cancelled(ctx, task_input):
    ctx.progress(0.0)
    while not ctx.cancelled():
        time.sleep(0.01)
    return "cancelled"


def goes_on_without_a_checkpoint(ctx, task_input):
    try:
        ctx.checkpoint("step", 1)
    except ValueError as error:
        ctx.checkpoint("step", 2)
        return [str(error), ctx.done("step")]


def stays(ctx, task_input):
    ctx.progress(message="here")
    time.sleep(600)


def daemonizes(ctx, task_input):
    """The program has a session of its own, and its parent has ended."""
    starts = (
        "import subprocess as s; program = s.Popen(['sleep', '600'], start_new_session=True, "
        "stdout=s.DEVNULL); print(program.pid)"
    )
    command = [sys.executable, "-c", starts]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    ctx.progress(message=done.stdout)
    if task_input == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def leaves_a_program(ctx, task_input):
    program = subprocess.Popen(["sleep", "600"])
    ctx.progress(message=str(program.pid))
    if task_input == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if task_input == "raises":
        raise ValueError
    if task_input != "returns":
        time.sleep(600)


def ends_what_it_starts_by_sigterm(ctx, task_input):
    os.kill(os.getpid(), signal.SIGTERM)  # to the handler itself: the guard's business
    program = subprocess.Popen(["sleep", "600"])
    program.terminate()
    process = multiprocessing.get_context(task_input).Process(target=time.sleep, args=[600])
    process.start()
    process.terminate()
    process.join()
    return [program.wait(), process.exitcode]


def double(number):
    return 2 * number


def uses_processes(ctx, task_input):
    with multiprocessing.get_context(task_input).Pool(2) as pool:
        return pool.map(double, range(3))


def forks(ctx, task_input):
    """The copy comes back out of the handler; its parent takes its exit code."""
    pid = os.fork()
    if pid == 0:
        if task_input == "raises":
            raise ValueError("a copy")
        if task_input == "exits":
            sys.exit(7)
        return "from the copy"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def forks_in_a_loop(ctx, task_input):
    return forks(ctx, task_input)


def shares_memory(ctx, task_input):
    """Four processes that have the same pages."""
    held = b"x" * GREED
    for _ in range(3):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
    ctx.progress(message=str(len(held)))
    time.sleep(600)


def writes_files(ctx, task_input):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x" * GREED)
    ctx.progress(message=file.name)
    time.sleep(600)


def prints_long_lines(ctx, task_input):
    for _ in range(20):
        print(json.dumps({"mine": "x" * 9000}))
    return 1


def tells_too_much(ctx, task_input):
    ctx.progress(0.5, "x" * MUCH)
    return 1


@contextmanager
def at_work(handler, where="process", task_input=None):
    name = f"{__name__}:{handler.__name__}"
    work = Work(Job(name, "task-1", "image", 1, task_input or {}, {}, 60.0, 2 * GREED), where)
    try:
        yield work
    finally:
        with suppress(ValueError):  # the test has ended it
            work.end()


def process_of(work):
    """What a child says may come before its number, and psutil takes None for this process."""
    return psutil.Process(eventually(lambda: work._process.pid))


@pytest.mark.parametrize("where", ["process", "thread"])
def test_a_large_message_arrives_whole(where):
    with at_work(says_much, where) as work:
        assert json.loads(first_message(work).text) == {"much": "x" * MUCH}


@pytest.mark.parametrize("where", ["process", "thread"])
def test_messages_that_arrive_together_are_heard_one_after_the_other(where):
    with at_work(says_two_things_at_once, where) as work:
        messages = [first_message(work), next_message(work), next_message(work)]
    assert [type(one) for one in messages] == [Progress, Progress, Result]


def test_a_child_that_stops_in_the_middle_of_a_message_does_not_hold_up_the_guard():
    with at_work(says_much) as work:
        process = process_of(work)
        lets_begin(work)
        eventually(lambda: wait([work._pipe], 0))
        process.suspend()
        eventually(lambda: process.status() == psutil.STATUS_STOPPED)
        for _ in range(10):  # more than the socket holds
            assert work.receive(0.01) is None
        process.resume()
        assert len(next_message(work).text) > MUCH


def test_a_child_that_dies_in_the_middle_of_a_message_has_exited():
    with at_work(says_much) as work:
        lets_begin(work)
        eventually(lambda: wait([work._pipe], 0))
        process_of(work).kill()
        assert next_message(work) == Exited(-signal.SIGKILL)


def test_a_message_above_two_gigabytes_is_framed_by_eight_bytes():
    """As multiprocessing writes it: only the header is made up here."""
    ours, theirs = Pipe()
    inbox = Inbox(ours)
    os.write(theirs.fileno(), b"\xff\xff\xff\xff")
    inbox.read()
    assert inbox.take() is None
    text = encode(Result("1"))
    os.write(theirs.fileno(), len(text).to_bytes(8) + text)
    inbox.read()
    assert inbox.take() == Result("1")
    theirs.close()
    with pytest.raises(EOFError):
        inbox.read()
    ours.close()


@pytest.mark.skipif(sys.platform != "linux", reason="children are known by /proc")
def test_the_programs_that_a_handler_starts_count_in_its_memory_and_end_with_it():
    with at_work(starts_programs) as work:
        programs = [
            psutil.Process(pid) for pid in json.loads(first_message(work).progress["message"])
        ]
        family = [*programs, *(child for program in programs for child in program.children())]
        assert len(family) == 4
        assert work.memory() > 2 * GREED
        assert process_of(work).memory_info().rss < GREED
        work.end()
        eventually(
            lambda: (
                not [
                    one
                    for one in family
                    if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
                ]
            )
        )


@pytest.mark.parametrize("where", ["process", "thread"])
def test_a_handler_does_not_begin_before_the_guards_word_nor_by_one_that_is_out_of_date(where):
    with at_work(says_two_things_at_once, where) as work:
        assert next_message(work) == Ready()
        assert work.receive(0.1) is None
        work.send(Begin(until=lease_clock.now()))
        assert first_message(work) == Progress({"fraction": 0.1, "message": ""}), "it asked again"


def test_a_child_that_was_frozen_until_its_lease_may_have_passed_asks_again():
    with at_work(says_two_things_at_once) as work:
        assert next_message(work) == Ready()
        process = process_of(work)
        process.suspend()
        eventually(lambda: process.status() == psutil.STATUS_STOPPED)
        until = lease_clock.now() + 0.1
        work.send(Begin(until))
        eventually(lambda: lease_clock.now() > until)
        process.resume()
        assert isinstance(first_message(work), Progress), "it asked again"


@pytest.mark.parametrize("where", ["process", "thread"])
def test_a_handler_that_is_ended_before_the_guards_word_never_begins(where, tmp_path):
    with at_work(leaves_a_file, where, str(tmp_path / "file")) as work:
        assert next_message(work) == Ready()
        ended = work._process and process_of(work)
        work.end()
        eventually(lambda: not (ended.is_running() if ended else work._thread.is_alive()))
        assert not (tmp_path / "file").exists()


def test_a_handler_hears_that_it_should_stop():
    with at_work(waits_until_cancelled) as work:
        assert first_message(work) == Progress({"fraction": 0.0, "message": ""})
        work.send(Cancel())
        assert next_message(work) == Result('"cancelled"')


def test_data_that_the_database_refuses_is_raised_where_it_was_saved():
    with at_work(goes_on_without_a_checkpoint) as work:
        assert first_message(work) == Checkpoint("step", 1)
        work.send(CheckpointAnswer(held=True, error="a NUL"))
        assert next_message(work) == Checkpoint("step", 2)
        work.send(CheckpointAnswer(held=True))
        assert next_message(work) == Result('["a NUL", 2]')


def lives(pid):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by prctl")
@pytest.mark.parametrize("task_input", ["is ended", "dies"])
def test_a_program_that_made_itself_a_daemon_ends_with_its_task(task_input):
    with at_work(daemonizes, task_input=task_input) as work:
        daemon = int(first_message(work).progress["message"])
        if task_input == "dies":
            assert next_message(work) == Exited(-signal.SIGKILL)
        work.end()
        eventually(lambda: not lives(daemon))


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by prctl")
@pytest.mark.parametrize("end", ["returns", "raises", "dies", "is ended", "forkserver dies"])
def test_a_program_that_was_left_behind_ends_with_its_task(end):
    with at_work(leaves_a_program, task_input=end) as work:
        program = int(first_message(work).progress["message"])
        if end == "forkserver dies":
            os.kill(process_of(work).ppid(), signal.SIGKILL)
        if end != "is ended":
            next_message(work)
        work.end()
        eventually(lambda: not lives(program))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_handler_may_use_multiprocessing(method):
    with at_work(uses_processes, task_input=method) as work:
        assert first_message(work) == Result("[0, 2, 4]")


@pytest.mark.parametrize("where", ["process", "thread"])
@pytest.mark.parametrize("handler", [forks, forks_in_a_loop])
@pytest.mark.parametrize(("end", "exit_code"), [("returns", 0), ("raises", 1), ("exits", 7)])
def test_a_forked_copy_ends_where_it_leaves_the_handler_and_not_the_task(
    where, handler, end, exit_code
):
    with at_work(handler, where, task_input=end) as work:
        assert first_message(work) == Result(str(exit_code))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_sigterm_ends_what_a_handler_starts_and_not_the_handler(method):
    with at_work(ends_what_it_starts_by_sigterm, task_input=method) as work:
        assert first_message(work) == Result("[-15, -15]")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is known by /proc")
def test_memory_that_several_processes_share_counts_once():
    with at_work(shares_memory) as work:
        first_message(work)
        eventually(lambda: len(process_of(work).children()) == 3)
        assert GREED < work.memory() < 2 * GREED


@pytest.mark.parametrize("in_memory", [True, False])
def test_temporary_files_are_the_attempts_own_count_where_they_are_memory_and_go_with_it(
    monkeypatch, in_memory
):
    monkeypatch.setattr(folder, "is_memory", lambda path: in_memory)
    with at_work(writes_files) as work:
        file = first_message(work).progress["message"]
        assert Path(file).stat().st_size == GREED
        assert (work.memory() > GREED) is in_memory
        process_of(work).kill()
        assert next_message(work) == Exited(-signal.SIGKILL)
        work.end()
        assert not Path(file).parent.exists()


def test_what_a_handler_prints_comes_out_of_the_worker_line_by_line(capfd):
    with at_work(prints_long_lines) as work:
        assert first_message(work) == Result("1")
        work.end()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {line["event"] for line in lines} == {"handler_log"}
    assert sum(line["message"].count("x") for line in lines) == 20 * 9000


def test_progress_that_is_too_large_is_left_out_with_a_word():
    with at_work(tells_too_much) as work:
        assert "may have" in first_message(work).text
        assert next_message(work) == Result("1")


def test_a_message_that_would_fill_the_workers_memory_is_refused():
    ours, theirs = Pipe()
    inbox = Inbox(ours)
    os.write(theirs.fileno(), (MOST_BYTES + 1).to_bytes(4))
    inbox.read()
    with pytest.raises(ValueError, match="message of"):
        inbox.take()
    ours.close()
    theirs.close()
