"""The key and the URL are checked before the first call: the client takes anything."""

import time

import pytest

from functions.errors import StoreError
from functions.store.supabase_key import check_key, check_url
from tests.supabase.stack import ANON_JWT, PUBLISHABLE_KEY, SECRET_KEY, SERVICE_JWT, jwt


@pytest.mark.parametrize("key", [SECRET_KEY, SERVICE_JWT, jwt("service_role")])
def test_a_key_that_may_do_the_work_is_taken(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "not set"),
        (PUBLISHABLE_KEY, "publishable"),
        (ANON_JWT, "role 'anon'"),
        (jwt("authenticated"), "role 'authenticated'"),
        ("garbage", "no key of Supabase"),
        ("a.b.c", "no key of Supabase"),
        ("eyJhbGciOiJub25lIn0.W10.x", "no key of Supabase"),
        ("sb_secret_", "no key of Supabase"),
        (jwt("service_role", exp=int(time.time()) - 1), "expired"),
        (SECRET_KEY[:20] + "\n" + SECRET_KEY[20:], "line end"),
        (SECRET_KEY + "\ufeff", "sign in it"),
        (SECRET_KEY + "\0", "sign in it"),
    ],
)
def test_any_other_is_refused_with_the_next_step_and_not_shown(key, says):
    with pytest.raises(StoreError, match=says) as refused:
        check_key(key)
    assert "API Keys" in str(refused.value)
    assert len(key) < 12 or key not in str(refused.value)
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://ref.supabase.co", "https://ref.supabase.co"),
        ("https://ref.supabase.co/", "https://ref.supabase.co"),
        ("https://ref.supabase.co/rest/v1/", "https://ref.supabase.co"),
        ("http://127.0.0.1:54321", "http://127.0.0.1:54321"),
    ],
)
def test_the_url_of_a_project_is_taken_as_people_copy_it(url, taken):
    assert check_url(url) == taken


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u@h/db", "DATABASE_URL"),
        ("ref.supabase.co", "https://REF"),
        ("", "https://REF"),
        ("https://ref.supabase.co:port", "https://REF"),
        ("https://user:word@ref.supabase.co", "https://REF"),
    ],
)
def test_any_other_url_is_refused(url, says):
    with pytest.raises(StoreError, match=says):
        check_url(url)
