"""The deployed page in a real browser, and against those who are not one: filters, actions, undo,
and what it refuses."""

import base64
import contextlib
import json
import re
import threading
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import Error

from tests.page.axe import violations
from tests.sweep.steps import sweep
from tests.waiting import eventually

NOBODY = "00000000-0000-4000-8000-000000000000"
SAME = {"Sec-Fetch-Site": "same-origin"}


def token(email):
    """As Cloud Run hands it on: claims, and no signature."""
    claims = base64.urlsafe_b64encode(json.dumps({"email": email}).encode()).decode().rstrip("=")
    return f"Bearer e30.{claims}.SIGNATURE_REMOVED_BY_GOOGLE"


@pytest.fixture
def quiet(tab):
    """A tab whose console stays silent: the policy for scripts and styles refuses nothing that the
    page has."""
    messages = []
    tab.on("console", lambda message: messages.append(message.text))
    yield tab
    assert [text for text in messages if "Refused" in text or "violates" in text] == []


def lines_about(deployed, text):
    """The lines of the log about actions on what the text names."""
    return [line for line in deployed.log("operator_acted") if text in (line["wanted"] or "")]


# -- what it refuses


def test_a_page_that_is_read_only_refuses_a_forged_post_and_has_no_button(deployed):
    (task,) = deployed.failed(1)
    for path in ("act", "sweep-now"):
        answer = requests.post(
            f"{deployed.readonly}/{path}",
            data={"action": "retry", "id": task, "of": "1"},
            headers=SAME,
            timeout=20,
        )
        assert (answer.status_code, "PAGE_WRITE" in answer.text) == (403, True)
    assert deployed.states([task]) == {"failed": 1}
    for path in ("", f"tasks/{task}", "sweeps"):
        text = requests.get(f"{deployed.readonly}/{path}", timeout=20).text
        assert set(re.findall(r'<button[^>]* id="([^"]*)"', text)) <= {"fold"}
        assert text.count("<button") == ("fold" in text)
        assert "hx-post" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{url}"},
    ],
    ids=str,
)
def test_a_write_from_elsewhere_is_refused(deployed, headers):
    (task,) = deployed.failed(1)
    headers = {name: text.format(url=deployed.url) for name, text in headers.items()}
    answer = requests.post(
        f"{deployed.url}/act",
        data={"action": "retry", "id": task, "of": "1"},
        headers=headers,
        timeout=20,
    )
    assert answer.status_code == 403
    assert deployed.states([task]) == {"failed": 1}


def test_a_write_from_the_page_is_done_and_logged_with_who_did_it(deployed):
    (task,) = deployed.failed(1)
    forged = {"X-Goog-Authenticated-User-Email": "accounts.google.com:mallory@example.com"}
    headers = {"Origin": deployed.url, "Authorization": token("ann@example.com"), **forged}
    answer = requests.post(
        f"{deployed.url}/act",
        data={"action": "retry", "id": task, "of": "1"},
        headers=headers,
        timeout=20,
    )
    assert (answer.status_code, "1 of 1 started again" in answer.text) == (200, True)
    assert deployed.states([task]) == {"pending": 1}
    (line,) = lines_about(deployed, task)
    assert (line["who"], line["action"], line["watch"], line["count"]) == (
        "ann@example.com",
        "retry",
        "tasks",
        1,
    )


def test_a_kind_is_paused_and_resumed_by_a_script_and_the_page_says_so(deployed):
    headers = {"Origin": deployed.url, "Authorization": token("ann@example.com")}
    headers["Accept"] = "application/json"

    def post(path, **form):
        return requests.post(f"{deployed.url}/{path}", data=form, headers=headers, timeout=20)

    (pause,) = post("pause", **{"kind": "image", "for": "2h", "why": "it is down"}).json()["pauses"]
    assert (pause["kind"], pause["who"], pause["why"]) == (
        "image",
        "page: ann@example.com",
        "it is down",
    )
    assert "Paused: image (tasks)" in requests.get(deployed.url, timeout=20).text
    assert post("pause", **{"kind": "image", "for": "soon"}).status_code == 400
    assert post("resume", kind="image").json() == {"pauses": [], "pushed": 0, "error": None}
    del headers["Authorization"]
    (pause,) = post("pause", kind="image").json()["pauses"]
    assert pause["who"] == "somebody on the page"
    post("resume", kind="image")
    refused = requests.post(f"{deployed.readonly}/pause", headers=headers, timeout=20)
    assert refused.status_code == 403


def test_behind_iap_it_is_the_person_whom_iap_let_pass(deployed):
    (task,) = deployed.failed(1)
    headers = SAME | {
        "Authorization": token("service-1@gcp-sa-iap.iam.gserviceaccount.com"),
        "X-Goog-Authenticated-User-Email": "accounts.google.com:bo@example.com",
    }
    requests.post(
        f"{deployed.url}/act",
        data={"action": "retry", "id": task, "of": "1"},
        headers=headers,
        timeout=20,
    )
    assert [line["who"] for line in lines_about(deployed, task)] == ["bo@example.com"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "part/list",
        "sweeps",
        "tasks/00000000-0000-4000-8000-000000000000",
        "assets/page.css",
        "nothing",
    ],
)
def test_every_answer_has_the_headers_that_keep_others_out(deployed, path):
    answer = requests.get(f"{deployed.url}/{path}", timeout=20)
    policy = answer.headers["Content-Security-Policy"]
    assert {"script-src 'self'", "default-src 'none'", "frame-ancestors 'none'"} <= set(
        policy.split("; ")
    )
    assert "unsafe" not in policy
    assert (answer.headers["X-Frame-Options"], answer.headers["Referrer-Policy"]) == (
        "DENY",
        "same-origin",
    )
    assert answer.headers["Cache-Control"] == (
        "no-cache" if path.startswith("assets/") else "no-store"
    )


@pytest.mark.parametrize("path", ["", "tasks/{task}", "sweeps", "part/list?state=failed"])
def test_no_page_has_a_script_or_a_style_in_its_text(deployed, path):
    (task,) = deployed.failed(1)
    text = requests.get(f"{deployed.url}/{path.format(task=task)}", timeout=20).text
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text)


def test_what_a_task_says_of_itself_is_text_and_no_markup(deployed):
    evil = '<img src=x onerror="alert(1)">'
    (task,) = deployed.tasks(1, kind=evil, owner=evil, note=evil)
    deployed.store.operate(deployed.watch, "fail", [task], evil)
    for path in ("", f"tasks/{task}", f"payload/{task}", "?q=" + evil):
        assert evil not in requests.get(f"{deployed.url}/{path}", timeout=20).text


def test_secrets_are_hidden_and_the_list_has_no_payload(deployed):
    inside = {
        "prompt": "a red fox",
        "api_key": "k-123456",
        "in": [{"Authorization": "Bearer abcdefgh12345"}],
        "SSN": "078-05",
        "url": "https://x.example/f?X-Amz-Signature=abcdef&page=2",
        "note": "Bearer zyxwvuts98765",
    }
    (task,) = deployed.tasks(1, **inside)
    text = requests.get(f"{deployed.url}/payload/{task}", timeout=20).text
    assert {"a red fox", "page=2"} == {shown for shown in ("a red fox", "page=2") if shown in text}
    for secret in ("k-123456", "abcdefgh12345", "078-05", "Signature=abcdef", "zyxwvuts98765"):
        assert secret not in text
    assert "a red fox" not in requests.get(f"{deployed.url}/?q={task}", timeout=20).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tasks/nothing", 400),
        (f"tasks/{NOBODY}", 404),
        ("sweeps/999999", 404),
        ("?watch=none", 400),
        ("?after=rubbish", 200),
        ("?state=rubbish&q='", 200),
        ("sweeps?before=x", 200),
        ("confirm?action=drop", 400),
        ("act", 405),
    ],
)
def test_a_bad_address_is_answered_with_a_sentence(deployed, path, status):
    answer = requests.get(f"{deployed.url}/{path}", timeout=20)
    assert answer.status_code == status
    assert "Traceback" not in answer.text


# -- in the browser


def confirm(page):
    """What it says in passing, when all went well."""
    page.evaluate("document.getElementById('toast').hidden = true")
    page.click("#confirm")
    page.wait_for_selector("#toast:not([hidden])")
    page.wait_for_selector("dialog:not([open])", state="attached")
    return page.inner_text("#toast")


def test_a_filter_is_in_the_address_and_500_that_match_are_retried_after_a_count(deployed, quiet):
    tasks = deployed.failed(500, kind="bulk")
    others = deployed.failed(3, kind="other")
    quiet.goto(f"{deployed.url}/?kind=bulk")
    quiet.select_option("select[name=state]", "failed")
    quiet.wait_for_selector("#all-retry")
    assert parse_qs(urlsplit(quiet.url).query) == {"state": ["failed"], "kind": ["bulk"]}
    quiet.reload()
    assert quiet.input_value("select[name=state]") == "failed"
    quiet.click("#all-retry")
    quiet.wait_for_selector("dialog[open] #confirm")
    assert quiet.inner_text("#count") == "500"
    assert deployed.states(tasks) == {"failed": 500}, "a count writes nothing"
    assert confirm(quiet) == "500 of 500 started again."
    assert (deployed.states(tasks), deployed.states(others)) == ({"pending": 500}, {"failed": 3})
    quiet.wait_for_selector(".empty")
    counts = [line["count"] for line in lines_about(deployed, "kind=bulk")]
    assert (sum(counts), len(counts) >= 5) == (500, True), "in batches"
    deployed.store.operate(deployed.watch, "cancel", tasks)


def held_refreshes(page):
    """Those of the list, which are not answered from now on: one at least."""
    routes = []

    def hold(route):
        routes.append(route)

    page.route("**/part/list*", hold)
    eventually(lambda: page.wait_for_timeout(100) or routes, message="the list does not refresh")
    return routes


def test_a_click_while_a_refresh_is_on_its_way_is_done(deployed, quiet):
    deployed.failed(2, kind="clicked")
    quiet.goto(f"{deployed.url}/?kind=clicked&state=failed")
    held_refreshes(quiet)
    quiet.click("#all-retry")
    quiet.wait_for_selector("dialog[open] #confirm")
    assert confirm(quiet) == "2 of 2 started again."


def test_a_late_refresh_does_not_bring_back_what_was_shown_before_a_filter(deployed, quiet):
    deployed.failed(1, kind="late-list")
    deployed.tasks(1, kind="late-list")
    quiet.goto(f"{deployed.url}/?kind=late-list")
    refreshes = held_refreshes(quiet)
    quiet.select_option("select[name=state]", "failed")
    quiet.wait_for_selector("#all-retry")
    quiet.unroute("**/part/list*")
    for route in refreshes:
        with contextlib.suppress(Error):  # the browser has given it up
            route.continue_()
    quiet.wait_for_timeout(300)
    assert quiet.locator(".tasks tbody tr").count() == 1
    assert quiet.is_visible("#all-retry")


def test_a_task_is_cancelled_on_its_page_where_its_state_allows_it(deployed, quiet):
    (task,) = deployed.tasks(1)
    quiet.goto(f"{deployed.url}/tasks/{task}")
    buttons = quiet.query_selector_all(".task header .actions button")
    assert {button.inner_text().lower() for button in buttons} == {
        "cancel…",
        "fail…",
        "run with edited input…",
    }
    quiet.click("#do-cancel")
    quiet.fill("dialog [name=because]", "Not needed any more.")
    assert confirm(quiet) == "1 of 1 cancelled."
    quiet.wait_for_selector("#task[data-state=cancelled]")
    assert (
        deployed.db.execute(
            "select error from unstuck.attempts where task_id = %s", (task,)
        ).fetchone()["error"]
        == "Not needed any more."
    )
    quiet.wait_for_selector("#do-retry")
    assert quiet.query_selector("#do-cancel") is None


def test_the_ticked_are_moved_and_no_others(deployed, quiet):
    tasks = deployed.failed(4, kind="ticks")
    quiet.goto(f"{deployed.url}/?kind=ticks")
    for task in tasks[:2]:
        quiet.check(f"#x-{task}")
    quiet.click("#ticked-retry")
    quiet.wait_for_selector("dialog[open] #confirm")
    assert confirm(quiet) == "2 of 2 started again."
    assert (deployed.states(tasks[:2]), deployed.states(tasks[2:])) == (
        {"pending": 2},
        {"failed": 2},
    )


def test_the_ticked_are_offered_what_one_of_them_allows_and_stay_ticked(deployed, quiet):
    (failed,) = deployed.failed(1, kind="mixed")
    (waiting,) = deployed.tasks(1, kind="mixed")
    quiet.goto(f"{deployed.url}/?kind=mixed")

    def offered():
        buttons = quiet.locator("#ticked button:visible").all()
        return [button.get_attribute("value") for button in buttons]

    quiet.check(f"#x-{failed}")
    assert offered() == ["retry"]
    quiet.check(f"#x-{waiting}")
    assert offered() == ["retry", "cancel", "fail"]
    (another,) = deployed.tasks(1, kind="mixed")
    quiet.wait_for_selector(f"#x-{another}")
    assert quiet.is_checked(f"#x-{waiting}")
    assert offered() == ["retry", "cancel", "fail"]


def test_what_a_sweep_did_is_seen_and_undone(deployed, quiet):
    tasks = deployed.old(5, kind="swept")
    from functions.core.policy import load

    done = sweep(deployed.store, load(), by="test")
    assert deployed.states(tasks) == {"failed": 5}
    quiet.goto(f"{deployed.url}/sweeps")
    with quiet.expect_navigation():
        quiet.click(f"a[href$='/sweeps/{done.sweep_id}']")
    assert quiet.locator("tbody tr", has_text="never_claimed").count() == 5
    (again,) = tasks[:1]
    deployed.store.operate(deployed.watch, "retry", [again])
    deployed.store.operate(deployed.watch, "cancel", [again])
    quiet.click("#undo")
    quiet.wait_for_selector("dialog[open] #confirm")
    assert quiet.inner_text("#count") == "4", "one has been touched since"
    assert confirm(quiet) == "4 of 4 started again."
    assert deployed.states(tasks) == {"pending": 4, "cancelled": 1}


def test_the_number_rises_and_falls_with_what_is_stuck(deployed, quiet):
    quiet.goto(deployed.url)
    before = int(quiet.get_attribute("#stuck", "data-stuck"))
    tasks = deployed.old(3, kind="late")
    quiet.wait_for_selector(f"#stuck[data-stuck='{before + 3}']")
    quiet.wait_for_selector(f"#t-{tasks[0]}.is-stuck")
    quiet.click("#sweep-now")
    quiet.wait_for_selector("#toast:not([hidden])")
    quiet.wait_for_selector("#stuck[data-stuck='0']")
    assert deployed.states(tasks) == {"failed": 3}


def test_a_refresh_keeps_focus_ticks_open_details_and_place(deployed, quiet):
    tasks = deployed.failed(45, kind="kept")
    quiet.goto(f"{deployed.url}/?kind=kept")
    quiet.check(f"#x-{tasks[-1]}")
    first = quiet.locator(".tasks tbody tr a").nth(20)
    first.focus()
    quiet.evaluate("window.scrollTo(0, 400)")
    place, held = quiet.evaluate("window.scrollY"), first.get_attribute("id")
    for _ in range(2):
        with quiet.expect_response(re.compile(r"/part/list")):
            pass
    quiet.wait_for_timeout(50)
    assert quiet.evaluate("document.activeElement.id") == held
    assert quiet.evaluate("window.scrollY") == place
    assert quiet.is_checked(f"#x-{tasks[-1]}")
    quiet.goto(f"{deployed.url}/tasks/{tasks[0]}")
    quiet.click("#attempt-1 summary")
    with quiet.expect_response(re.compile(r"part=live")):
        pass
    quiet.wait_for_timeout(50)
    assert quiet.get_attribute("#attempt-1", "open") is not None


def test_nothing_is_asked_while_nobody_looks(deployed, quiet):
    quiet.goto(deployed.url)
    asked = []
    quiet.on(
        "request", lambda request: asked.append(request.url) if "/part/" in request.url else None
    )
    eventually(lambda: quiet.wait_for_timeout(100) or asked, message="the page does not refresh")
    quiet.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    quiet.wait_for_timeout(300)
    asked.clear()
    quiet.wait_for_timeout(2600)
    assert asked == []


def test_it_says_that_the_server_is_away_and_goes_on_when_it_is_back(deployed, quiet):
    quiet.goto(deployed.url)
    quiet.route("**/part/**", lambda route: route.abort())
    quiet.wait_for_selector("#away:not([hidden])")
    quiet.unroute("**/part/**")
    quiet.wait_for_selector("#away", state="hidden")


def test_pages_follow_one_another_without_a_gap(deployed, quiet):
    tasks = deployed.failed(120, kind="paged")
    seen = []
    quiet.goto(f"{deployed.url}/?kind=paged&state=failed")
    while True:
        seen += quiet.eval_on_selector_all("input[name=id]", "all => all.map(box => box.value)")
        following = quiet.query_selector("a[rel=next]")
        if following is None:
            break
        following.click()
        quiet.wait_for_load_state()
    assert (len(seen), set(seen)) == (120, set(tasks))


def test_the_keyboard_is_enough(deployed, quiet):
    deployed.failed(2, kind="keys")
    quiet.goto(f"{deployed.url}/?kind=keys")
    quiet.keyboard.press("/")
    assert quiet.evaluate("document.activeElement.id") == "q"
    quiet.keyboard.press("Escape")
    quiet.keyboard.press("j")
    quiet.keyboard.press("j")
    held = quiet.evaluate("document.activeElement.id")
    assert held == quiet.locator(".tasks tbody tr a").nth(1).get_attribute("id")
    assert quiet.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    quiet.keyboard.press("x")
    assert quiet.is_visible("#ticked")
    quiet.keyboard.press("Enter")
    quiet.wait_for_selector("#task")


@contextlib.contextmanager
def in_halves(url, seam):
    """A server before the page that holds back what follows `seam` until it is told to go on."""
    goes_on = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = requests.get(f"{url}{self.path}", timeout=30)
            first, rest = answer.content.split(seam, 1) if seam in answer.content else (b"", b"")
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            if rest:
                self.wfile.write(first)
                goes_on.wait(30)
                self.wfile.write(seam + rest)
            else:
                self.wfile.write(answer.content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", goes_on
    finally:
        goes_on.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
@pytest.mark.parametrize("path", ["/", "/?state=failed"])
def test_nothing_jumps_while_the_list_comes_in_late(deployed, chromium, size, path):
    deployed.failed(1)
    deployed.old(3)
    width, height = size
    with (
        in_halves(deployed.url, b'<form\n  id="filter"') as (url, goes_on),
        chromium.new_context(viewport={"width": width, "height": height}) as context,
    ):
        tab = context.new_page()
        tab.add_init_script(
            """window.shifts = [];
            new PerformanceObserver((list) => {
              for (const { value, sources } of list.getEntries())
                window.shifts.push([value, ...sources.map(({ node }) => node?.className)]);
            }).observe({ type: "layout-shift", buffered: true });"""
        )
        tab.goto(url + path, wait_until="commit")
        tab.wait_for_selector(".figure")
        tab.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))"
        )
        goes_on.set()
        tab.wait_for_selector("#failures")
        shifts = tab.evaluate("window.shifts")
    assert sum(shift[0] for shift in shifts) < 0.02, shifts


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(deployed, chromium, scheme):
    (task,) = deployed.failed(1)
    deployed.old(1)
    deployed.store.claim(deployed.watch, deployed.tasks(1)[0], "worker-1")
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        for path in ("", f"tasks/{task}", "sweeps?idle=1", "reasons"):
            page.goto(f"{deployed.url}/{path}")
            assert violations(page) == []
        page.goto(f"{deployed.url}/?state=failed")
        page.wait_for_selector("#total-failed:not(:empty)")
        page.wait_for_selector("#failures li")
        page.click("#more-filters summary")
        page.click("#counted summary")
        assert violations(page) == []
        assert not page.is_visible("dialog")
        page.goto(f"{deployed.url}/tasks/{task}")
        page.click("#do-retry")
        page.wait_for_selector("dialog[open] #confirm")
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.click("#do-again")
        page.wait_for_selector("dialog[open] #again")
        assert violations(page) == []


TOO_WIDE = """
[...document.querySelectorAll("body *")]
  .filter((node) => document.documentElement.scrollWidth > innerWidth && node.checkVisibility())
  .filter((node) => node.getBoundingClientRect().right > innerWidth)
  .map((node) => node.outerHTML.slice(0, 200))
"""
"""What makes the page wider than the screen."""


@pytest.mark.parametrize("path", ["", "sweeps?idle=1", "tasks/{task}"])
def test_it_fits_a_phone(deployed, chromium, path):
    (task,) = deployed.failed(1)
    deployed.old(1)
    with chromium.new_context(viewport={"width": 360, "height": 700}) as context:
        page = context.new_page()
        page.goto(f"{deployed.url}/{path.format(task=task)}")
        page.eval_on_selector_all(".age", "all => all.forEach(age => age.textContent = '59m 59s')")
        assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_the_list_begins_on_the_first_screen_when_much_is_wrong(deployed, chromium, size):
    deployed.failed(1)
    deployed.old(1)
    width, height = size
    with chromium.new_context(viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        deployed.store.pause(deployed.watch, "image", "ann", "the provider is down", 60.0)
        page.goto(deployed.url)
        page.wait_for_selector("#failures")
        top = page.locator(".tasks tbody tr").first.bounding_box()["y"]
        deployed.store.resume(deployed.watch, "image", "ann")
        assert top < 0.7 * height


def test_a_phone_has_the_filter_behind_a_button_that_counts_what_is_chosen(deployed, chromium):
    deployed.failed(1)
    with chromium.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.goto(deployed.url)
        assert not page.is_visible("select[name=state]")
        page.get_by_role("button", name="Filters").focus()
        page.keyboard.press("Enter")
        page.select_option("select[name=state]", "failed")
        page.get_by_role("button", name="Filters 1 chosen", expanded=True).wait_for()
        assert violations(page) == []
        page.get_by_role("link", name="Clear the filter").click()
        page.get_by_role("button", name="Filters", exact=True, expanded=False).wait_for()


def test_moments_are_those_of_the_reader_and_utc_on_hover(deployed, chromium):
    (task,) = deployed.failed(1)
    with chromium.new_context(timezone_id="Asia/Tokyo") as context:
        page = context.new_page()
        page.goto(f"{deployed.url}/tasks/{task}")
        time = page.locator(".times time").first
        utc = datetime.fromisoformat(time.get_attribute("datetime"))
        here = f"{utc + timedelta(hours=9):%Y-%m-%d %H:%M:%S}"
        assert time.inner_text() == here
        assert time.get_attribute("title") == f"{utc:%Y-%m-%d %H:%M:%S} UTC"
        with page.expect_response(lambda response: "part=live" in response.url):
            page.evaluate("htmx.trigger(document.body, 'tick')")
        assert time.inner_text() == here


def test_a_phone_shows_the_whole_moment_beside_a_long_kind(deployed, chromium):
    deployed.tasks(1, kind="a kind of many words")
    with chromium.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.goto(f"{deployed.url}/?kind=a+kind+of+many+words")
        cell = page.locator("td.c-since")
        assert cell.is_visible()
        assert cell.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_a_click_on_a_moment_copies_it_in_utc(deployed, chromium):
    (task,) = deployed.failed(1)
    with chromium.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(f"{deployed.url}/tasks/{task}")
        time = page.locator(".times time").first
        time.click()
        page.wait_for_selector("#toast:not([hidden])")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == time.get_attribute("datetime")


def test_the_form_of_a_pause_covers_nothing_that_moves_and_closes_when_it_is_done(deployed, quiet):
    quiet.goto(deployed.url)
    place = quiet.locator("#list").bounding_box()["y"]
    quiet.click("#pause-kind summary")
    assert quiet.locator("#list").bounding_box()["y"] == place
    quiet.fill("#pause-kind [name=kind]", "image")
    quiet.click("#pause-kind button")
    quiet.wait_for_selector("#pause-kind:not([open])")
    assert "Paused: image (tasks)" in quiet.inner_text("#summary")
    quiet.click("#summary .warn button")
    quiet.locator("#summary", has_text="Paused").wait_for(state="detached")


def test_id_json_and_curl_are_copied_from_the_page_of_a_task(deployed, chromium):
    (task,) = deployed.failed(1)
    with chromium.new_context() as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(f"{deployed.url}/tasks/{task}")

        def copied(label):
            page.get_by_role("button", name=label).click()
            page.get_by_role("button", name="Copied").wait_for()
            text = page.evaluate("navigator.clipboard.readText()")
            page.get_by_role("button", name=label).wait_for()
            return text

        assert copied("Copy id") == task
        assert json.loads(copied("Copy as JSON"))["status"]["task_id"] == task
        assert copied("Copy as curl") == f"curl '{deployed.url}/json/{task}'"


def test_the_buttons_that_copy_outlive_what_a_task_becomes(deployed, quiet):
    (task,) = deployed.old(1)
    quiet.goto(f"{deployed.url}/tasks/{task}")
    quiet.wait_for_selector(".copy button")
    assert quiet.query_selector(".task .next") is None
    deployed.db.execute("update public.tasks set scheduled_at = now() where id = %s", (task,))
    quiet.wait_for_selector(".task .next")
    assert quiet.locator(".copy button").count() == 3


def test_a_prometheus_reads_the_metrics(deployed):
    answer = requests.get(f"{deployed.readonly}/metrics", timeout=20)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    overdue = re.findall(
        r"^unstuck_overdue_tasks\{watch=\"(\w+)\"\} \d+$", answer.text, re.MULTILINE
    )
    assert "tasks" in overdue
