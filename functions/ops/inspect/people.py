"""Whether a table is for people (to-do lists, boards, adverts) or for goods and money, rather than
for workers. Pure.

Ending rows of such a table is damage that nobody asked for: of 10 public repositories that create a
table `public.tasks`, all 10 meant a to-do list."""

from functions.core.states import State
from functions.ops.inspect import columns as by_name
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.mapping import Mapping
from functions.ops.inspect.sentences import joined
from functions.ops.inspect.sentences import refusal as say
from functions.ops.inspect.status import Status
from functions.ops.inspect.vocabulary import names, squashed, tokens
from functions.ops.inspect.words import trades

PROOF = 3
"""What one kind of column counts that only workers have."""
_WORKERS_ONLY = {"queued", "processing", "running", "failed", "enqueued", "deadletter"}

_PEOPLE_SAY = {"todo", "open", "active", "draft", "backlog", "published", "new"}


def refusal(table: Facts, status: Status, mapping: Mapping) -> str | None:
    """Why this is no table of tasks for workers; None where it is one, as far as one can tell."""
    words = list(status.reading.states)
    proof = _proof(table, mapping)
    sure_of_workers = proof >= 2 * PROOF
    if status.closed and State.RUNNING not in status.reading.strong and not sure_of_workers:
        return say("no_running", words=joined(words))
    fails = status.flag or State.FAILED in status.reading.strong
    if status.closed and not fails and not sure_of_workers:
        return say("no_failed", words=joined(words))
    return _trade(table, words) or _people(table, status, proof) or _unproven(table, status, proof)


def _proof(table: Facts, mapping: Mapping) -> int:
    """How much the columns tell of workers: an error, a holder, a beat or a lease, tries and their
    limit, what goes in and out, a queue. What only sounds so proves nothing."""
    columns = [column for column in table.columns.values() if column.name != mapping.status]
    reasons = [column for column in columns if by_name.says_why(column)]
    reasons += [
        table.columns[name] for name in by_name.exact(columns, "error", by_name.takes_notes)
    ]
    signs = [
        bool(reasons),
        bool(mapping.locks or mapping.clock("lease")),
        bool(mapping.silences or mapping.timeouts),
        bool(by_name.exact(columns, "heartbeat", by_name.is_time)),
        bool(mapping.columns.get("limit")),
        bool(mapping.columns.get("attempts")),
        any(squashed(column.name) in names("proofs") for column in columns),
    ]
    return PROOF * sum(signs)


def _unproven(table: Facts, status: Status, proof: int) -> str | None:
    """A person's attempt, exam, quiz, interview or session has the words of a task. Only something
    that no person has proves workers: a column, or a word or a name that is said of machines
    alone."""
    words = {squashed(word) for word in status.reading.states}
    worker = proof
    worker += 2 * bool(words & names("machine_words").keys())
    worker += 2 * (_head(table) == "worker_names")
    person = 2 * any(part in names("people_parts") for part in tokens(table.name))
    telling = [
        name
        for name in table.columns
        if any(part in names("people_parts") for part in tokens(name))
    ]
    person += min(len(telling), 3)
    if worker > person:
        return None
    return say("unproven", columns=joined(telling) or joined(table.columns), words=joined(words))


def _trade(table: Facts, words: list[object]) -> str | None:
    sold, head = trades(words), _head(table)
    money = [name for name in table.columns if squashed(name) in names("trade_columns")]
    if len(sold) >= 2 or (sold and head == "trade_names"):
        return say("trade_words", words=joined(sold))
    if head == "trade_names" and money and by_name.points(table.columns, "workers")[0] < 6:
        return say("trade", columns=joined(money))
    return None


def _people(table: Facts, status: Status, proof: int) -> str | None:
    human, telling = by_name.points(table.columns, "people")
    worker = by_name.points(table.columns, "workers")[0]
    worker += by_name.bears(table.name, "worker_names")
    if (status.closed or status.whole) and not status.flag:
        is_for_people = human >= 3 and human > 2 * worker
        return say("people", columns=joined(telling)) if is_for_people else None
    if not _WORKERS_ONLY.isdisjoint(squashed(word) for word in status.reading.states):
        worker += 2
    if by_name.makes_something(table.columns):
        worker += 2
    if status.flag:  # its words tell nothing
        worker += proof
    if squashed(status.default or "") in _PEOPLE_SAY:
        human += 2
    if _head(table) in {"people_names", "trade_names"}:
        worker -= 4
    if worker > human:
        return None
    name = status.column.name
    if status.flag:
        return say("flag_people", name=name)
    if telling:
        return say("free_people", name=name, columns=joined(telling))
    return say("nobody", name=name)


def _head(table: Facts) -> str:
    """The section of the last noun of the name: an `orders_queue` is a queue, `queue_orders` are
    orders."""
    for part in reversed(tokens(table.name)):
        for section in ("worker_names", "trade_names", "people_names"):
            if part in names(section):
                return section
    return ""
