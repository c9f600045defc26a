"""Who may call: users by Supabase's tokens, workers and schedulers by Google's, each refused with
its reason."""

import base64
import hmac
import json
import threading
import time

import pytest
import requests
import responses
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.entry import public_keys as key_module
from functions.entry.auth import GOOGLE_KEYS
from functions.entry.public_keys import FRESH_SECONDS, PAUSE_SECONDS, Keys
from functions.errors import BadRequestError
from tests.entry.issuers import (
    EC,
    RSA,
    SECRET,
    STRANGER,
    USERS_KEYS,
    bearer,
    google,
    published,
    user,
)
from tests.entry.steps import error_code


def create(api, text, **more):
    return api.ask("create_task", json={"kind": "returns", **more}, headers=bearer(text))


def sweep(api, text):
    return api.ask("sweep", headers=bearer(text))


# -- users


@pytest.mark.parametrize(
    "text",
    [user(), user(key=EC, alg="ES256", kid="ec"), user(key=RSA, alg="RS256", kid="rsa")],
    ids=["HS256", "ES256", "RS256"],
)
def test_a_user_is_known_by_the_token(api, db, text):
    answer = create(api, text)
    assert answer.status_code == 201, answer.text
    assert db.execute("select owner from tasks").fetchall() == [{"owner": "ann"}]


NOW = int(time.time())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "no_token"),
        ("", "no_token"),
        ("garbage", "bad_token"),
        ("a.b.c", "bad_token"),
        ("é.é.é", "bad_token"),
        (user(exp=NOW - 60), "expired"),
        (user(nbf=NOW + 3000), "not_yet_valid"),
        (user(exp=None), "missing_claim"),
        (user(sub=None), "missing_claim"),
        (user(sub=" "), "no_subject"),
        (user(sub="ada\0"), "no_subject"),
        (user(sub="\ud800"), "no_subject"),
        (user(aud="somebody else"), "wrong_audience"),
        (user(aud=None), "missing_claim"),
        (user(iss="https://evil.example/auth/v1"), "wrong_issuer"),
        (user(iss=None), "missing_claim"),
        (user(key="another secret, that is long enough too"), "wrong_signature"),
        (user(key=STRANGER, alg="ES256", kid="ec"), "wrong_signature"),
        (user(key=STRANGER, alg="ES256", kid="nobody's"), "unknown_key"),
        (user(key=EC, alg="ES256"), "unknown_key"),
        (user(key=EC, alg="ES256", kid="rsa"), "wrong_algorithm"),
        (user(key="", alg="none"), "wrong_algorithm"),
        (user(alg="HS512"), "wrong_algorithm"),
        (user(role="anon", sub=None, aud=None), "anonymous"),
        (
            user(role="service_role", key="another secret, that is long enough too"),
            "wrong_signature",
        ),
        (user(role="service_role", exp=NOW - 60), "expired"),
    ],
)
def test_a_token_that_is_wrong_is_refused_with_the_reason(api, dump, capfd, text, code):
    before = dump()
    answer = create(api, text)
    assert (answer.status_code, error_code(answer)) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert dump() == before
    out = capfd.readouterr().out
    [line] = [json.loads(line) for line in out.splitlines()]
    assert (line["event"], line["entry"], line["status"], line["reason"]) == (
        "request_refused",
        "create_task",
        401,
        code,
    )
    assert not text or text not in out


def test_the_clocks_of_issuer_and_function_may_differ_by_seconds(api):
    assert create(api, user(exp=int(time.time()) - 2)).status_code == 201


def test_a_public_key_is_no_secret(api):
    """The attack on libraries that take the algorithm from the token: HS256 by what everybody can
    read."""
    readable = [
        json.dumps(published("ec", EC)).encode(),
        EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ]
    for key in readable:
        signed = user(kid="ec").rpartition(".")[0]
        forged = (
            base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), "sha256"))
            .decode()
            .rstrip("=")
        )
        assert error_code(create(api, f"{signed}.{forged}")) == "wrong_signature"


def test_without_the_secret_no_token_by_HS256_is_taken(api, monkeypatch):  # noqa: N802
    monkeypatch.delenv("SUPABASE_JWT_SECRET")
    monkeypatch.setenv("JWT_AUDIENCE", "authenticated")
    api.restart()
    assert error_code(create(api, user())) == "wrong_algorithm"
    assert create(api, user(key=EC, alg="ES256", kid="ec")).status_code == 201


def test_the_keys_may_be_elsewhere_and_the_audience_another(api, issuing, monkeypatch):
    monkeypatch.setenv("SUPABASE_JWKS_URL", "https://keys.example/jwks")
    monkeypatch.setenv("JWT_AUDIENCE", "our-app")
    api.restart()
    issuing.get("https://keys.example/jwks", json={"keys": [published("ours", STRANGER)]})
    assert (
        create(api, user(key=STRANGER, alg="ES256", kid="ours", aud="our-app")).status_code == 201
    )
    assert error_code(create(api, user(key=STRANGER, alg="ES256", kid="ours"))) == "wrong_audience"


def test_the_service_role_acts_for_any_user(api, db, task_of):
    text = user(sub=None, role="service_role", aud=None, iss="supabase")
    assert create(api, text, owner="bob").status_code == 201
    assert create(api, text).status_code == 201
    assert sorted(
        str(row["owner"]) for row in db.execute("select owner from tasks").fetchall()
    ) == ["None", "bob"]
    assert (
        api.ask("task_status", f"/?task_id={task_of('ann')}", headers=bearer(text)).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("issuer", "claims", "status"),
    [
        ("https://issuer.example/ours", {}, 201),
        ("https://issuer.example/ours", {"iss": "https://issuer.example/theirs"}, 401),
        ("https://issuer.example/ours", {"aud": "their-app"}, 401),
        ("https://issuer.example/ours", {"aud": None}, 401),
        (None, {}, 401),
    ],
)
def test_a_tenant_of_a_shared_issuer_is_no_service_role_of_ours(
    api, issuing, monkeypatch, issuer, claims, status
):
    """All tenants' tokens are signed by the same published keys, and each chooses its claims."""
    monkeypatch.delenv("SUPABASE_URL")
    monkeypatch.setenv("SUPABASE_JWKS_URL", "https://issuer.example/jwks")
    monkeypatch.setenv("JWT_AUDIENCE", "our-app")
    if issuer:
        monkeypatch.setenv("JWT_ISSUER", issuer)
    api.restart()
    issuing.get("https://issuer.example/jwks", json={"keys": [published("shared", STRANGER)]})
    ours = {"aud": "our-app", "iss": "https://issuer.example/ours", "role": "service_role"}
    text = user(key=STRANGER, alg="ES256", kid="shared", **ours | claims)
    assert create(api, text, owner="bob").status_code == status


def test_a_user_cannot_create_in_the_name_of_another(api, db):
    answer = create(api, user(), owner="bob")
    assert (answer.status_code, error_code(answer)) == (403, "another_owner")
    assert create(api, user(), owner="ann").status_code == 201
    assert db.execute("select owner from tasks").fetchall() == [{"owner": "ann"}]


@pytest.mark.parametrize("url", [None, "https://ref.supabase.co"])
def test_users_are_checked_unless_the_configuration_says_that_they_are_not(
    api, db, monkeypatch, url
):
    for name in ("SUPABASE_JWT_SECRET", "SUPABASE_URL", "OIDC_AUDIENCE", "OIDC_ACCOUNTS"):
        monkeypatch.delenv(name)
    if url:
        monkeypatch.setenv("SUPABASE_URL", url)
    api.restart()
    answer = create(api, None, owner="bob")
    assert (answer.status_code, error_code(answer)) == (
        (401, "no_token") if url else (500, "policy")
    )
    assert db.execute("select owner from tasks").fetchall() == []


def test_where_the_word_is_written_iam_has_checked_and_the_owner_is_given(api, db, monkeypatch):
    monkeypatch.delenv("SUPABASE_JWT_SECRET")
    monkeypatch.setenv("USERS", "none")
    for name in ("OIDC_AUDIENCE", "OIDC_ACCOUNTS"):
        monkeypatch.delenv(name)
    api.restart()
    assert create(api, None, owner="bob").status_code == 201
    assert sweep(api, None).status_code == 200
    assert db.execute("select owner from tasks").fetchall() == [{"owner": "bob"}]


# -- workers and schedulers


def test_the_account_that_may_call_passes(api):
    assert sweep(api, google()).status_code == 200
    assert sweep(api, google(iss="accounts.google.com")).status_code == 200


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (None, 401, "no_token"),
        ("garbage", 401, "bad_token"),
        (google(exp=NOW - 60), 401, "expired"),
        (google(aud="https://another.example.run.app"), 401, "wrong_audience"),
        (google(iss="https://evil.example"), 401, "wrong_issuer"),
        (google(key=STRANGER, alg="ES256"), 401, "wrong_algorithm"),
        (google(kid="nobody's"), 401, "unknown_key"),
        (google(key=SECRET, alg="HS256"), 401, "wrong_algorithm"),
        (google(key="", alg="none"), 401, "wrong_algorithm"),
        (google(email="another@project.iam.gserviceaccount.com"), 403, "wrong_account"),
        (google(email_verified=False), 403, "wrong_account"),
        (google(email_verified="true"), 403, "wrong_account"),
        (google(email=None), 401, "missing_claim"),
        (google().rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE", 401, "signature_removed"),
        (user(), 401, "unknown_key"),
        (user(key=RSA, alg="RS256", kid="google"), 401, "missing_claim"),
    ],
)
def test_a_machine_that_may_not_call_is_told_why(api, dump, text, status, code):
    before = dump()
    answer = sweep(api, text)
    assert (answer.status_code, error_code(answer)) == (status, code)
    assert dump() == before


def test_a_push_as_an_event_is_asked_too(api, dump, task_of, capfd):
    task_id = task_of("ann")
    before = dump()
    for headers, status in ((None, 401), (google(email="another@x"), 403)):
        answer = api.raw_event(pushed(task_id), headers=bearer(headers))
        assert answer.status_code == status, "so Pub/Sub delivers it again"
    assert dump() == before
    assert [json.loads(line)["reason"] for line in capfd.readouterr().out.splitlines()] == [
        "no_token",
        "wrong_account",
    ]
    assert api.raw_event(pushed(task_id), headers=bearer(google())).status_code == 200
    assert dump() != before


def pushed(task_id):
    return {
        "message": {"data": base64.b64encode(json.dumps({"task_id": task_id}).encode()).decode()}
    }


@pytest.mark.parametrize("left", ["OIDC_AUDIENCE", "OIDC_ACCOUNTS"])
def test_half_a_configuration_lets_nobody_pass(api, monkeypatch, capfd, left):
    """With the audience alone, anybody at Google could make a token that fits."""
    monkeypatch.delenv({"OIDC_AUDIENCE", "OIDC_ACCOUNTS"}.difference({left}).pop())
    api.restart()
    answer = sweep(api, google())
    assert (answer.status_code, error_code(answer)) == (500, "policy")
    assert "Set both" in capfd.readouterr().out


# -- the keys of an issuer

URL = "https://issuer.example/jwks"


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(key_module, "time", clock)
    return clock


@pytest.fixture
def issuer():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        mocked.get(URL, json={"keys": [published("old", EC)]})
        yield mocked


def rotated(issuer):
    issuer.replace("GET", URL, json={"keys": [published("new", EC)]})


def away(issuer, **how):
    issuer.replace("GET", URL, **(how or {"body": requests.ConnectTimeout()}))


def calls(issuer):
    return len(issuer.calls)


def test_keys_are_fetched_once_and_kept(issuer, clock):
    keys = Keys(URL)
    assert keys.find("old") is keys.find("old")
    clock.now += FRESH_SECONDS - 1
    keys.find("old")
    assert calls(issuer) == 1
    assert issuer.calls[0].request.req_kwargs["timeout"] == key_module.TIMEOUT_SECONDS


def test_keys_that_are_old_are_looked_after(issuer, clock):
    keys = Keys(URL)
    keys.find("old")
    rotated(issuer)
    clock.now += FRESH_SECONDS + 1
    assert keys.find("new") is not None
    assert keys.find("old") is None, "a key that was taken back is not believed for ever"


def test_a_new_key_is_fetched_at_once_and_made_up_ones_are_not_asked_for_again_and_again(
    issuer, clock
):
    keys = Keys(URL)
    keys.find("old")
    rotated(issuer)
    clock.now += PAUSE_SECONDS + 1
    assert keys.find("new") is not None
    for n in range(20):
        assert keys.find(f"made up {n}") is None
    assert calls(issuer) == 2


@pytest.mark.parametrize(
    "how",
    [
        {"body": requests.ConnectTimeout()},
        {"status": 500},
        {"body": "<html>"},
        {"json": []},
        {"json": {"keys": [7]}},
    ],
)
def test_when_the_issuer_is_away_what_is_kept_goes_on(issuer, clock, capfd, how):
    keys = Keys(URL)
    keys.find("old")
    away(issuer, **how)
    clock.now += FRESH_SECONDS + 1
    for _ in range(5):
        assert keys.find("old") is not None
    with keys._fetching:  # once the fetch has ended
        assert keys.find("old") is not None
    assert calls(issuer) == 2, "it is not asked again and again"
    assert json.loads(capfd.readouterr().out)["event"] == "keys_not_fetched"


def test_who_has_a_key_never_waits_for_an_issuer_that_hangs(issuer, clock):
    hangs, asked = threading.Event(), threading.Event()

    def hang(_request):
        asked.set()
        hangs.wait(30)
        return 500, {}, ""

    keys = Keys(URL)
    keys.find("old")
    issuer.remove("GET", URL)
    issuer.add_callback("GET", URL, callback=hang)
    clock.now += FRESH_SECONDS + 1
    assert all(keys.find("old") is not None for _ in range(100))
    assert asked.wait(20)
    assert keys._fetching.locked(), "it hangs still, and all were served"
    hangs.set()


def test_a_fetch_has_one_limit_however_slowly_the_answer_comes(issuer, monkeypatch):
    ends = threading.Event()
    monkeypatch.setattr(key_module, "TIMEOUT_SECONDS", 0.2)
    issuer.remove("GET", URL)
    issuer.add_callback("GET", URL, callback=lambda _request: ends.wait(30) and (500, {}, ""))
    begun = time.monotonic()
    with pytest.raises(BadRequestError):
        Keys(URL).find("old")
    assert time.monotonic() - begun < 5
    ends.set()


def test_without_any_key_callers_are_asked_to_come_again(issuer, clock):
    away(issuer)
    keys = Keys(URL)
    with pytest.raises(BadRequestError) as error:
        keys.find("old")
    assert (error.value.status, error.value.headers["Retry-After"]) == (503, "10")
    issuer.replace("GET", URL, json={"keys": [published("old", EC)]})
    clock.now += PAUSE_SECONDS + 1
    assert keys.find("old") is not None


def test_a_secret_or_a_key_to_encrypt_with_among_them_is_left_out(issuer):
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
    issuer.replace(
        "GET",
        URL,
        json={"keys": [secret, published("enc", RSA) | {"use": "enc"}, published("old", EC)]},
    )
    keys = Keys(URL)
    assert keys.find("secret") is keys.find("enc") is None
    assert keys.find("old") is not None


def test_the_two_issuers_do_not_mix(api, issuing):
    """A key of Google's signs no user, and the other way round."""
    assert error_code(create(api, user(key=RSA, alg="RS256", kid="google"))) == "unknown_key"
    assert error_code(sweep(api, google(kid="rsa"))) == "unknown_key"
    assert {call.request.url for call in issuing.calls} == {USERS_KEYS, GOOGLE_KEYS}
