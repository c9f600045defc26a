"""What is special to the store by Supabase's REST API."""

from functions.policy import load
from functions.store.supabase import SupabaseStore


def test_a_task_lives_and_ends_through_the_rest_api(supabase):
    store, watch = SupabaseStore(supabase.url, supabase.key), load().watch()
    store.create(watch, "image", {"n": 1})
    attempt = store.claim(watch, None, "w")
    assert store.beat(watch, attempt["task_id"], attempt["token"], {"part": 0.5}) == {"verdict": "held"}
    assert (
        store.settle(watch, attempt["task_id"], attempt["token"], "complete", result={"n": 2})["state"] == "completed"
    )
    assert store.status(watch, attempt["task_id"])["result"] == {"n": 2}
    store.close()
