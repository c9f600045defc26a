"""Which state a word means: decided by the company that it keeps where it means different things in
different tables."""

import pytest

from functions.core.states import State
from functions.ops.inspect import word_lists
from functions.ops.inspect.vocabulary import vocabulary
from functions.ops.inspect.words import assumed, read, trades

SURE = [
    (state, word)
    for state, languages in vocabulary()["states"].items()
    for words in languages.values()
    for word in words
]


@pytest.mark.parametrize(
    "style",
    [
        str,
        str.upper,
        str.title,
        lambda word: word.replace(" ", "_"),
        lambda word: word.replace(" ", "-"),
    ],
)
def test_every_sure_word_is_read_in_every_spelling(style: object) -> None:
    for state, word in SURE:
        spelled = style(word)
        assert read([spelled]).states == {spelled: State(state)}, spelled


@pytest.mark.parametrize(
    ("words", "word", "state"),
    [
        ("ready running done dead", "ready", "pending"),
        ("pending processing ready failed", "ready", "completed"),
        ("uploading processing ready failed", "ready", "completed"),
        ("queued running ready done failed", "ready", "resting"),
        ("created retry active completed failed", "active", "running"),
        ("active inactive suspended", "active", "resting"),
        ("open in_progress resolved failed", "open", "pending"),
        ("queued starting running done failed", "starting", "running"),
        ("starting running done failed", "starting", "pending"),
        ("submitted pending running done failed", "submitted", "pending"),
        ("pending submitted running done failed", "submitted", "running"),
        ("pending sending sent failed", "sent", "completed"),
        ("pending sending sent delivered failed", "delivered", "completed"),
        ("pending processing transcribed completed failed", "transcribed", "resting"),
        ("uploaded processing completed failed", "uploaded", "pending"),
        ("pending running partial done failed", "partial", "resting"),
        ("pending running partial failed", "partial", "completed"),
        ("uploading pending processing done failed", "uploading", "resting"),
        ("pending uploading processing done failed", "uploading", "running"),
        ("pending running done failed expired", "expired", "cancelled"),
        ("pending running done expired", "expired", "failed"),
        ("pending running done failed rejected", "rejected", "failed"),
        ("pending running done failed aborted", "aborted", "cancelled"),
        ("pending running done failed aborted cancelled", "aborted", "failed"),
        ("pending running waiting done failed", "waiting", "resting"),
        ("pending running cancelling cancelled done failed", "cancelling", "running"),
        ("pending running done failed quux", "quux", "resting"),
        ("pending running rate_limited done failed", "rate_limited", "resting"),
        ("pending running awaiting_payment done failed", "awaiting_payment", "resting"),
        ("pending running waiting_for_worker done failed", "waiting_for_worker", "pending"),
        ("pending running failed_retryable done failed", "failed_retryable", "pending"),
        ("pending running done failed scheduled", "scheduled", "resting"),
    ],
)
def test_an_ambiguous_word_is_decided_by_its_company_and_a_person_is_told(
    words: str, word: str, state: str
) -> None:
    reading = read(words.split())
    assert reading.states[word] == state
    assert repr(word) in reading.doubts[word]


@pytest.mark.parametrize(
    ("words", "word", "state"),
    [
        ("waiting active completed failed", "waiting", "pending"),
        ("pending processing_ocr done failed", "processing_ocr", "running"),
        ("pending rendering done failed", "rendering", "running"),
        ("pending running done done_with_errors failed", "done_with_errors", "completed"),
        ("pending running done ocr_failed", "ocr_failed", "failed"),
        ("pending running done timed_out", "timed_out", "failed"),
        ("NotStarted InProgress Succeeded Failed", "NotStarted", "pending"),
        ("pending in_review running done failed", "in_review", "resting"),
    ],
)
def test_a_word_that_tells_by_itself_is_not_doubted(words: str, word: str, state: str) -> None:
    reading = read(words.split())
    assert (reading.states[word], word in reading.doubts) == (state, False)


def test_rows_that_are_born_with_a_word_wait() -> None:
    for word in ("ready", "available", "starting", "uploaded", "quux", "scheduled"):
        assert read([word, "running", "done", "failed"], word).states[word] == State.PENDING


def test_the_first_word_of_a_state_is_the_one_to_write() -> None:
    reading = read(
        ["DEAD_LETTER", "ERROR", "FAILED", "RETRY", "QUEUED", "PENDING", "RUNNING", "DONE"],
        "QUEUED",
    )
    assert reading.of(State.FAILED)[0] == "FAILED"
    assert reading.of(State.PENDING)[0] == "QUEUED"


@pytest.mark.parametrize(
    ("words_of_column", "state", "words"),
    [
        (["pending"], State.FAILED, ("failed", "error")),
        (["PENDING"], State.RUNNING, ("PROCESSING", "RUNNING", "IN_PROGRESS")),
        (["Queued", "In Progress"], State.FAILED, ("Failed", "Error")),
        (["na_fila"], State.RUNNING, ("processando", "em_processamento", "em_andamento")),
        ([], State.PENDING, ("pending", "queued")),
    ],
)
def test_words_are_assumed_in_the_language_and_case_of_those_that_are_known(
    words_of_column: list[str], state: State, words: tuple[str, ...]
) -> None:
    assert assumed(state, words_of_column) == words


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("CHECK ((status = ANY (ARRAY['a'::text, 'b''c'::text])))", ["a", "b'c"]),
        (
            (
                "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character "
                "varying])::text[])))"
            ),
            ["a", "b"],
        ),
        ("CHECK (((status = 'a'::text) OR (status = 'b'::text)))", ["a", "b"]),
        ("CHECK ((lower((status)::text) = ANY (ARRAY['a'::text, 'b'::text])))", ["a", "b"]),
        ("CHECK (((status IS NULL) OR (status = ANY (ARRAY['a'::text, 'b'::text]))))", ["a", "b"]),
        ("CHECK ((status = ANY (ARRAY[0, 1, 2])))", ["0", "1", "2"]),
        ("CHECK ((status ~ '^(a|b)$'::text))", ["a", "b"]),
        ("CHECK ((VALUE = ANY (ARRAY['a'::text, 'b'::text])))", ["a", "b"]),
        ("CHECK ((status <> 'a'::text))", None),
        ("CHECK ((length(status) < 20))", None),
        ("CHECK (((status <> 'failed'::text) OR (error IS NOT NULL)))", None),
        ("CHECK ((NOT (status = ANY (ARRAY['a'::text, 'b'::text]))))", None),
    ],
)
def test_a_closed_list_is_read_from_a_check(check: str, words: list[str] | None) -> None:
    assert word_lists.closed(check, "status") == words


def test_words_of_goods_and_money_are_known() -> None:
    assert trades(["pending", "paid", "Refunded", "failed"]) == ["paid", "Refunded"]


@pytest.mark.parametrize(
    ("comment", "meanings"),
    [
        ("enum: enqueued 0, working 1, done 2, broken 9", [0, 1, 2, 9]),
        ("0 enqueued / 1 working / 2 done / 9 broken", [0, 1, 2, 9]),
        ("see wiki page 3, added in 2019, by 4 people", []),
    ],
)
def test_a_comment_may_name_numbers_without_a_sign(comment: str, meanings: list[int]) -> None:
    assert sorted(word_lists.numbered(comment)) == meanings
