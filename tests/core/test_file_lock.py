"""Several processes write long lines to one pipe, whose reader is slow, and none is torn."""

import json
import os
import subprocess
import sys
import time

WRITER = """
import sys
from functions.core import events
for number in range(40):
    events.print_lines(['{"who": "%s", "text": "%s"}' % (sys.argv[1], "x" * 20_000)] * 2)
"""


def test_lines_of_several_processes_on_one_pipe_stay_whole():
    reader, writer = os.pipe()
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, str(name)], stdout=writer) for name in range(4)]
    os.close(writer)
    written = bytearray()
    while data := os.read(reader, 30_000):
        written += data
        time.sleep(0.0005)  # the pipe is mostly full
    os.close(reader)
    assert [process.wait() for process in writers] == [0] * 4
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == 4 * 80
    assert {len(line["text"]) for line in lines} == {20_000}


def test_a_process_that_stops_while_it_writes_does_not_stop_the_others(monkeypatch):
    from functions.core import file_lock

    monkeypatch.setattr(file_lock, "WAIT_SECONDS", 0.05)
    reader, writer = os.pipe()
    holds = (
        "import fcntl, time; fcntl.lockf(1, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", holds], stdout=writer)
    output = os.fdopen(reader)
    assert output.readline() == "1\n"
    with file_lock.held(writer):
        os.write(writer, b"2\n")
    assert output.readline() == "2\n"
    holder.kill()
    holder.wait()
    output.close()
    os.close(writer)
