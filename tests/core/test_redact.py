"""What people are shown and what is logged holds no secret of a known form."""

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core import events
from functions.core.redact import HIDDEN, redacted, redacted_text, shown
from functions.ops.cli.out import print_message, print_table

SECRET = "Zq7tulipcanal93"
TEXTS = [
    f"postgresql://ada:{SECRET}@db.test/app",
    f"could not connect to postgresql://ada:x/{SECRET}@db.test/app",
    f"https://ada:{SECRET}@api.test/x",
    f"https://api.test/x?api_key={SECRET}&page=2",
    f"https://api.test/x?password={SECRET}&sig={SECRET}",
    f"headers={{'Authorization': 'Bearer {SECRET}'}}",
    f"authorization: token {SECRET}",
    f'["Authorization","Bearer {SECRET}"]',
    f"Cookie: sid={SECRET}; theme=dark",
    f"Bearer\u00a0{SECRET}",
    f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
    f"the key sk-live-{SECRET} is wrong",
    f"sb_secret_{SECRET}",
    f"token={SECRET}",
    f"host=db.test password={SECRET}",
    f'see {{"password":"{SECRET}"}}',
    f'{{"password": "{SECRET}"}} and more',
    f'  \ufeff{{"password":"{SECRET}"}}',
    f"host=db.test password='two words {SECRET}' user=ada",
    rf'body: "{{\"password\": \"{SECRET}\"}}"',
    f"<password>{SECRET}</password>",
    f"psql --db-password {SECRET} --host db.test",
    f"password%3D{SECRET}%26user",
    f"amqp://ada:x/{SECRET}@queue.test",
    f"https://{SECRET}@git.test/x",
    f"SUPABASE_KEY={SECRET}",
    f"https://api.test/x?page=2&key={SECRET}",
    f"https://hooks.slack.com/services/T1/B2/{SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n{SECRET}==\n-----END RSA PRIVATE KEY-----",
    json.dumps({"password": SECRET}),
    json.dumps(json.dumps({"password": SECRET})),
    json.dumps({"iban": SECRET}),
    json.dumps([json.dumps({"x-customer": SECRET})]),
]
VALUES: list[Any] = [
    {"api_key": SECRET},
    {"nested": [{"passWord": SECRET}]},
    {"headers": [{"name": "Authorization", "value": SECRET}]},
    {"auth": SECRET},
    {"Private Key": SECRET},
    {"p\uff41ssword": SECRET},
    {"iban": SECRET},
]
MORE = ("iban", "x-customer")


@pytest.mark.parametrize("text", [*TEXTS, *(text.upper() for text in TEXTS), "-" * 60 + "--key x"])
def test_a_text_in_ascii_is_hidden_as_one_that_is_not(text: str) -> None:
    """Forms whose words an ASCII text lacks are not looked for."""
    assert redacted_text(f"é\n{text}")[1:] == redacted_text(f"e\n{text}")[1:]


def test_each_form_is_found_where_its_words_are() -> None:
    """All texts of three pieces: no word that a form needs is missing from its hints."""
    pieces = ("sig", "Key", "x_API_KEY", "passphrase", "=", ": ", " ", "sk-", "GHO_", "abcdefgh12")
    for text in map("".join, itertools.product(pieces, repeat=3)):
        assert redacted_text(f"é\n{text}") == f"é\n{redacted_text(text)}", text


@pytest.mark.parametrize("text", TEXTS)
def test_no_secret_of_a_known_form_is_left_in_a_text(text: str) -> None:
    hidden = redacted_text(text, MORE)
    assert SECRET not in hidden
    assert HIDDEN in hidden
    assert SECRET not in shown({"text": text}, MORE)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_is_hidden_by_its_key(value: Any) -> None:
    assert SECRET not in shown(value, MORE)


@pytest.mark.parametrize(
    "text",
    [
        "The image service is busy. Try again later.",
        "The token has expired. Get a new one and call again.",
        "Write postgresql://user:password@host:5432/database.",
        "http://127.0.0.1:8080/tasks/7?mail=ada@db.test",
        "postgresql://ada@db.test/app, ssh://git@git.test/x, https://web.test/@ada",
        "KeyError: 'key', DETAIL: Key (id)=(5), the pkey: tasks_pkey, key=5",
        "12:30: the worker stopped",
        "[not json",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redacted_text(text) == text


def test_the_log_a_message_and_a_table_hide_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"requests.get('https://api.test/?api_key={SECRET}')"
    events.emit(events.REQUEST_FAILED, entry="page", error=text, detail=f"Traceback\n {text}")
    events.emit(events.HANDLER_LOG, task_id="1", kind="k", number=1, text=text, logger="x")
    print_message(text)
    print_table(("error",), [(text,)])
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "api.test" in printed.out


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON)
def test_it_takes_any_json_and_keeps_its_shape(value: Any) -> None:
    assert type(redacted(value)) is type(value)


def test_deep_values_and_long_texts_are_neither_an_error_nor_slow() -> None:
    deep: Any = SECRET
    for _ in range(900):
        deep = [deep]
    assert SECRET not in json.dumps(redacted(deep))
    redacted_text("[" * 50_000)
    begun = time.process_time()
    for text in ("a:" * 50_000, "://a" * 50_000, "eyJ" * 50_000, "token" * 50_000, "a-" * 50_000):
        redacted_text(text)
    for text in ("-" * 50_000 + " key", "key " + "--" * 50_000):
        redacted_text(text)
    assert time.process_time() - begun < 5
