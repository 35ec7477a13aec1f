"""The page in a real Chromium, against the real server with the engine of talking_engine.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import playwright.sync_api as playwright
import pytest
import uvicorn
from playwright.sync_api import expect

from ecr_jax.serving.app import create_app
from ecr_jax.serving.callers import Callers, add_key, read_keys
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import Store
from tests.serving.talking_engine import FILMS, TalkingEngine

pytestmark = pytest.mark.slow
PATIENCE_MS = 30_000
"""How long an expectation is waited for: the machine may be busy."""
expect.set_options(timeout=PATIENCE_MS)

AXE = "axe-core@4.14.1"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
HELLO = "Hi! I loved Moneyball, but no horror please."
AGAIN = "Something else?"


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("ECR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium); ECR_CHROMIUM may name it")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class Served:
    """A server of the page, its engine and its address."""

    def __init__(self, url: str, keys=None):
        self.engine = TalkingEngine()
        app = create_app(self.engine, Store.open(url), Callers(keys, None), Limits())
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", lifespan="on", log_level="error"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server ended"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/"

    def close(self):
        self.engine.gate.set()
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    served = Served(f"sqlite:///{tmp_path_factory.mktemp('page')}/page.sqlite")
    yield served
    served.close()


class Reader:
    """A person at the page: each has a browser profile, and so conversations, of their own."""

    def __init__(self, browser, served, **options):
        self.served, self.engine = served, served.engine
        self.context = browser.new_context(base_url=served.address, reduced_motion="reduce", **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto("")
        self.message = self.page.get_by_role("textbox", name="Your message", exact=True)
        self.send, self.stop = self.button("Send"), self.button("Stop writing")
        self.replies, self.questions = self.page.locator(".reply"), self.page.locator(".question")
        self.chips, self.rows = self.page.locator(".chip"), self.page.locator("#conversations a")
        self.trouble = self.page.locator(".trouble")

    def _heard(self, message):
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.problems.append(message.text)

    def button(self, name, exact=True):
        return self.page.get_by_role("button", name=name, exact=exact)

    def say(self, text, wait=True):
        count = self.replies.count()
        self.message.fill(text)
        self.message.press("Enter")
        if wait:
            expect(self.replies).to_have_count(count + 1)
            self.done()

    def done(self):
        """Waits for the whole reply."""
        expect(self.stop).to_be_hidden()
        expect(self.replies.last).not_to_have_class(re.compile("turn"))

    @property
    def id(self):
        return re.search(r"#c=([\w-]+)", self.page.url)[1]

    def feedback(self, *wanted):
        """Waits until the server has just this feedback on the first reply, as (kind, item)."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while True:
            given = self.kept(f"/{self.id}")["messages"][1]["feedback"]
            if sorted((one["kind"], one["item"]) for one in given) == sorted(wanted):
                return
            assert time.monotonic() < deadline, given
            self.page.wait_for_timeout(50)

    def kept(self, place=""):
        """What the server has at a place below /conversations, as this person."""
        answer = self.page.request.get(f"conversations{place}")
        assert answer.ok, answer.text()
        return answer.json()


@pytest.fixture
def reader(browser, shared):
    shared.engine.gate.set()
    shared.engine.queries.clear()
    person = Reader(browser, shared)
    yield person
    person.context.close()
    assert person.problems == []


@pytest.fixture
def phone(browser, shared):
    person = Reader(browser, shared, **PHONE)
    yield person
    person.context.close()
    assert person.problems == []


# --------------------------------------------------------------------------------------------------------- conversation


def test_a_starter_begins_a_conversation_whose_reply_has_a_card_with_reasons(reader):
    expect(reader.page.get_by_role("heading", name="What are you in the mood for?")).to_be_visible()
    expect(reader.chips).to_have_count(0)
    reader.button("I loved Moneyball", exact=False).press("Enter")
    reader.done()
    expect(reader.message).to_be_focused()
    expect(reader.questions).to_contain_text("I loved Moneyball. What should I watch next?")
    expect(reader.replies.locator("strong")).to_have_text("Hoosiers (1986)")
    card = reader.page.get_by_role("article", name="Hoosiers (1986)")
    expect(card.get_by_role("heading")).to_have_text("Hoosiers 1986")
    expect(card.locator("p")).to_have_text(["drama · sport", "Gene Hackman, Barbara Hershey, Dennis Hopper"])
    why = [
        "Heard in your words: happy (71%), curious (18%)",
        "You liked Moneyball (2011)",
        "Stars Gene Hackman",
        "Is a drama about sport",
    ]
    expect(card.locator("dd")).to_have_text(why)
    expect(reader.rows).to_have_text(["I loved Moneyball. What should I watch next?"])
    expect(reader.page).to_have_title(re.compile("^I loved Moneyball"))
    expect(reader.chips).to_have_text("likesMoneyball (2011)")
    expect(reader.page.get_by_role("status").first).to_contain_text("Recommended: Hoosiers (1986).")


def test_a_reply_is_written_word_by_word(browser, shared):
    person = Reader(browser, shared)
    person.page.emulate_media(reduced_motion="no-preference")
    person.page.evaluate("""() => {
        window.lengths = [];
        new MutationObserver(() => {
            const text = document.querySelector(".turn .text")?.textContent;
            if (text) window.lengths.push(text.length);
        }).observe(document.getElementById("thread"), { childList: true, subtree: true });
    }""")
    person.say(HELLO)
    lengths = person.page.evaluate("window.lengths")
    words = len(person.replies.locator(".text").inner_text().split())
    assert lengths == sorted(lengths) and len(set(lengths)) == words
    person.context.close()
    assert person.problems == []


def test_what_is_said_goes_on_and_is_there_after_a_reload(reader):
    reader.say(HELLO)
    reader.say(AGAIN)
    assert [turn.text for turn in reader.engine.queries[-1].turns][::2] == [HELLO, AGAIN]
    before = reader.page.locator("#thread").inner_text()
    reader.page.reload()
    expect(reader.replies).to_have_count(2)
    assert reader.page.locator("#thread").inner_text() == before
    expect(reader.chips).to_have_text(["likesMoneyball (2011)", "wantsno horror"])
    reader.say("And two more?")
    assert len(reader.kept(f"/{reader.id}")["messages"]) == 6


def test_enter_sends_and_shift_enter_begins_a_line(reader):
    expect(reader.message).to_be_focused()
    expect(reader.send).to_be_disabled()
    reader.page.keyboard.type("one")
    reader.page.keyboard.press("Shift+Enter")
    reader.page.keyboard.type("two")
    expect(reader.message).to_have_value("one\ntwo")
    reader.page.keyboard.press("Enter")
    reader.done()
    expect(reader.message).to_have_value("")
    expect(reader.message).to_be_focused()
    expect(reader.questions.locator(".bubble")).to_have_text("one\ntwo", use_inner_text=True)
    reader.page.keyboard.press("Enter")  # an empty message is none
    expect(reader.questions).to_have_count(1)


def test_browsers_keep_the_files_of_the_page_alone(reader):
    first = reader.page.request.get("assets/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = reader.page.request.get("assets/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status == 304
    assert reader.page.request.get("conversations").headers["cache-control"] == "no-store"


def test_text_is_never_markup(reader):
    evil = "<img src=x onerror=document.title=1> & <b>bold</b>"
    reader.say(evil)
    expect(reader.questions.locator(".bubble")).to_have_text(evil)
    expect(reader.rows).to_have_text(evil)
    assert reader.page.locator("main img, main b, #sidebar img").count() == 0


def test_details_say_how_a_reply_was_made(reader):
    reader.say(HELLO)
    how = reader.button("How this reply was made")
    expect(how).to_have_attribute("aria-expanded", "false")
    how.press("Enter")
    expect(how).to_have_attribute("aria-expanded", "true")
    expect(how).to_be_focused()
    panel = reader.page.get_by_role("region", name="How this reply was made")
    for text in ("happy", "71 %", "curious", "The Social Network (2010)", "12 %", "react", "recommend", "talking"):
        expect(panel).to_contain_text(text)
    managed = panel.locator("section", has=reader.page.get_by_role("heading", name="Sub-task")).locator("li")
    expect(managed).to_have_text(
        [
            "recommend, category: drama",
            "chosen by the manager",
            "done by ranking:run",
            re.compile(r"^found: .+\(\d{4}\)$"),
            "failed: ranking:elsewhere: no answer within 5 seconds",
        ]
    )
    widths = panel.locator(".bar > span").evaluate_all("bars => bars.map((bar) => bar.style.width)")
    assert widths == ["71%", "18%", "21.4%", "16.2%", "12.1%"]
    how.press("Enter")
    expect(panel).to_be_hidden()


def test_copying(reader):
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.say(HELLO)
    reader.button("Copy the reply").click()
    assert reader.page.evaluate("navigator.clipboard.readText()") == reader.replies.locator(".text").inner_text()


# ------------------------------------------------------------------------------------------------------------- branches


def test_editing_a_message_branches_and_the_branches_can_be_switched(reader):
    reader.say(HELLO)
    reader.say(AGAIN)
    first = reader.questions.first
    first.hover()
    first.get_by_role("button", name="Edit your message").click()
    field = reader.page.get_by_role("textbox", name="Edit your message")
    expect(field).to_be_focused()
    expect(field).to_have_value(HELLO)
    field.fill("I found Drive boring.")
    field.press("Enter")
    reader.done()
    expect(reader.questions).to_have_count(1)
    expect(reader.chips).to_have_text("dislikesDrive (2011)")
    assert [turn.text for turn in reader.engine.queries[-1].turns] == ["I found Drive boring."]
    expect(first.locator(".place")).to_have_text("2/2")
    back = reader.button("Previous version of your message")
    back.press("Enter")
    expect(reader.questions).to_have_count(2)
    expect(first.locator(".place")).to_have_text("1/2")
    expect(back).to_be_focused()
    expect(back).to_have_attribute("aria-disabled", "true")
    reader.page.reload()
    expect(reader.questions.locator(".bubble")).to_have_text([HELLO, AGAIN])
    reader.button("Next version of your message").click()
    expect(reader.questions.locator(".bubble")).to_have_text(["I found Drive boring."])
    assert "&m=" not in reader.page.url


def test_escape_leaves_a_message_as_it_was(reader):
    reader.say(HELLO)
    reader.button("Edit your message").press("Enter")
    reader.page.keyboard.type(" More")
    reader.page.keyboard.press("Escape")
    expect(reader.questions.locator(".bubble")).to_have_text(HELLO)
    expect(reader.button("Edit your message")).to_be_focused()
    assert len(reader.kept(f"/{reader.id}")["messages"]) == 2


def test_another_reply_is_another_version(reader):
    reader.say(HELLO)
    reader.button("Another reply").click()
    reader.done()
    expect(reader.replies.locator("strong")).to_have_text("Rudy (1993)")
    expect(reader.questions.locator(".place")).to_have_count(0)
    expect(reader.replies.locator(".place")).to_have_text("2/2")
    reader.button("Previous version of the reply").click()
    expect(reader.replies.locator("strong")).to_have_text("Hoosiers (1986)")
    reader.say(AGAIN)
    assert "Hoosiers" in reader.engine.queries[-1].turns[1].text
    assert [message["role"] for message in reader.kept(f"/{reader.id}")["messages"]].count("seeker") == 2


# ------------------------------------------------------------------------------------------------- feedback and beliefs


def test_films_are_liked_disliked_and_marked_as_seen(reader):
    reader.say(HELLO)
    uri = FILMS[0].uri
    like, dislike, seen = (reader.button(f"{name}: Hoosiers (1986)") for name in ("Like", "Not for me", "Seen"))

    like.press("Enter")
    expect(like).to_be_focused()
    reader.feedback(("like", uri))
    seen.click()
    dislike.click()
    expect(like).to_have_attribute("aria-pressed", "false")
    reader.feedback(("dislike", uri), ("seen", uri))
    dislike.click()
    reader.feedback(("seen", uri))
    reader.page.reload()
    expect(seen).to_have_attribute("aria-pressed", "true")
    expect(dislike).to_have_attribute("aria-pressed", "false")
    reader.say(AGAIN)
    expect(reader.chips.nth(2)).to_have_text("has seenHoosiers (1986)")


def test_thumbs(reader):
    reader.say(HELLO)
    up, down = reader.button("Good reply"), reader.button("Bad reply")
    up.click()
    down.click()
    expect(up).to_have_attribute("aria-pressed", "false")
    reader.feedback(("down", None))
    reader.page.reload()
    expect(down).to_have_attribute("aria-pressed", "true")
    down.click()
    reader.feedback()


def test_feedback_that_cannot_be_kept_is_taken_back_and_can_be_tried_again(reader):
    reader.say(HELLO)
    reader.page.route("**/feedback", lambda route: route.abort(), times=1)
    up = reader.button("Good reply")
    up.click()
    notice = reader.page.locator(".notice")
    expect(notice).to_contain_text("The server cannot be reached")
    expect(up).to_have_attribute("aria-pressed", "false")
    notice.get_by_role("button", name="Try again").click()
    expect(up).to_have_attribute("aria-pressed", "true")
    expect(notice).to_have_count(0)


def test_a_belief_is_forgotten_with_the_next_message(reader):
    reader.say(HELLO)
    reader.button("Forget: likes Moneyball (2011)").press("Enter")
    expect(reader.chips.first.locator("del")).to_have_text("Moneyball (2011)")
    keep = reader.button("Keep: likes Moneyball (2011)")
    expect(keep).to_be_focused()
    keep.press("Enter")
    expect(reader.chips.locator("del")).to_have_count(0)
    reader.button("Forget: likes Moneyball (2011)").click()
    reader.say(AGAIN)
    assert reader.engine.queries[-1].turns[-1].forgotten == ("liked:moneyball",)
    expect(reader.chips).to_have_text(["wantsno horror"])
    reader.page.reload()
    expect(reader.chips).to_have_text(["wantsno horror"])


def test_a_reply_can_be_had_again_without_a_belief(reader):
    reader.say(HELLO)
    reader.button("Forget: wants no horror").click()
    reader.button("Reply again without").click()
    reader.done()
    expect(reader.questions.locator(".bubble")).to_have_text([HELLO])
    expect(reader.questions.locator(".place")).to_have_text("2/2")
    expect(reader.chips).to_have_text(["likesMoneyball (2011)"])
    reader.button("Previous version of your message").click()
    expect(reader.chips).to_have_count(2)


# ----------------------------------------------------------------------------------------------------- stops and errors


def test_escape_stops_and_the_message_can_be_tried_again(reader):
    reader.engine.gate.clear()
    reader.say(HELLO, wait=False)
    expect(reader.stop).to_be_visible()
    expect(reader.page.locator("#thread")).to_have_attribute("aria-busy", "true")
    expect(reader.rows).to_have_count(1)
    reader.page.keyboard.press("Escape")
    expect(reader.trouble).to_contain_text("Stopped.")
    expect(reader.message).to_be_focused()
    reader.engine.gate.set()
    reader.button("Try again").click()
    reader.done()
    expect(reader.replies.locator("strong")).to_be_visible()
    roles = [message["role"] for message in reader.kept(f"/{reader.id}")["messages"]]
    assert roles.count("seeker") == 1


def test_a_stop_between_two_words_leaves_those_that_were_written(reader):
    reader.page.emulate_media(reduced_motion="no-preference")
    reader.page.evaluate("""() => new MutationObserver(() => {
        if (document.querySelector(".turn .text")?.textContent.length > 12) document.getElementById("stop").click();
    }).observe(document.getElementById("thread"), { childList: true, subtree: true })""")
    reader.say(HELLO, wait=False)
    expect(reader.trouble).to_contain_text("Stopped.")
    expect(reader.replies.locator(".text")).to_have_text("That sounds like")
    reader.page.wait_for_timeout(200)
    expect(reader.replies.locator(".text")).to_have_text("That sounds like")
    reader.page.reload()
    expect(reader.replies.locator("strong")).to_have_text("Hoosiers (1986)")


def test_after_a_stop_the_conversation_goes_on_from_what_was_kept(reader):
    reader.say(HELLO)
    reader.engine.gate.clear()
    reader.say(AGAIN, wait=False)
    expect(reader.stop).to_be_visible()
    reader.stop.click()
    expect(reader.trouble).to_contain_text("Stopped.")
    reader.engine.gate.set()
    reader.say("Two, please.")
    said = [turn.text for turn in reader.engine.queries[-1].turns if turn.role == "seeker"]
    assert said == [HELLO, AGAIN, "Two, please."]


def test_a_busy_server_is_asked_again_when_it_said(reader):
    busy = {"error": {"message": "3 requests wait already; try again later", "type": "rate_limit_error", "code": "x"}}
    reader.page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(status=429, headers={"Retry-After": "5"}, json=busy),
        times=1,
    )
    begun = time.monotonic()
    reader.say(HELLO, wait=False)
    expect(reader.trouble.get_by_role("alert")).to_have_text("3 requests wait already; try again later.")
    expect(reader.trouble.locator(".seconds")).to_have_text(re.compile(r"^[0-5] s$"))
    reader.done()
    expect(reader.replies.locator("strong")).to_be_visible()
    assert time.monotonic() - begun > 5
    assert len(reader.kept(f"/{reader.id}")["messages"]) == 2


def test_waiting_for_a_busy_server_can_be_cancelled(reader):
    reader.page.route("**/v1/chat/completions", lambda route: route.fulfill(status=503, headers={"Retry-After": "60"}))
    reader.say(HELLO, wait=False)
    expect(reader.trouble).to_contain_text("The server answered 503")
    reader.button("Cancel").click()
    expect(reader.trouble).to_contain_text("Stopped.")
    reader.page.unroute_all()
    reader.button("Try again").click()
    reader.done()
    expect(reader.replies.locator("strong")).to_be_visible()


def test_a_failure_is_readable_and_nothing_is_lost(reader):
    reader.say("Please fail.", wait=False)
    expect(reader.trouble.get_by_role("alert")).to_have_text("The engine failed on this request.")
    expect(reader.questions.locator(".bubble")).to_have_text("Please fail.")
    reader.page.reload()
    expect(reader.trouble).to_contain_text("There is no reply to this message.")
    reader.button("Edit your message").press("Enter")
    reader.page.keyboard.press("Control+A")
    reader.page.keyboard.type(HELLO)
    reader.page.keyboard.press("Enter")
    reader.done()
    expect(reader.questions.locator(".place")).to_have_text("2/2")


def test_a_lost_connection_leaves_one_message(reader):
    reader.say(HELLO)
    reader.page.route("**/v1/chat/completions", lambda route: route.abort(), times=1)
    reader.say(AGAIN, wait=False)
    expect(reader.trouble.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    reader.button("Try again").click()
    reader.done()
    expect(reader.replies).to_have_count(2)
    said = [one["text"] for one in reader.kept(f"/{reader.id}")["messages"] if one["role"] == "seeker"]
    assert said == [HELLO, AGAIN]


def test_a_stream_that_breaks_off_is_told(reader):
    reader.page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            content_type="text/event-stream", body='data: {"choices": [{"delta": {"content": "Half a"}}]}\n\n'
        ),
        times=1,
    )
    reader.say(HELLO, wait=False)
    expect(reader.trouble.get_by_role("alert")).to_have_text("The connection ended before the reply was whole.")
    expect(reader.replies.locator(".text")).to_have_text("Half a")
    reader.button("Try again").click()
    reader.done()
    expect(reader.replies.locator("strong")).to_be_visible()


def test_a_conversation_that_is_gone_is_told(reader):
    reader.page.goto("#c=nothing")
    expect(reader.page.locator(".notice")).to_contain_text("There is no conversation 'nothing'.")
    reader.say(HELLO)
    assert reader.id != "nothing"


def test_nothing_is_sent_to_a_conversation_that_is_not_there_yet(reader):
    reader.say(HELLO)
    reader.button("New conversation").click()
    held = []
    reader.page.route("**/conversations/*", lambda route: held.append(route))
    reader.rows.first.click()
    reader.message.fill(AGAIN)
    reader.message.press("Enter")
    expect(reader.message).to_have_value(AGAIN)
    held[0].continue_()
    expect(reader.questions.locator(".bubble")).to_have_text([HELLO])
    reader.message.press("Enter")
    reader.done()
    expect(reader.replies).to_have_count(2)
    assert len(reader.kept()) == 1


# -------------------------------------------------------------------------------------------------------- conversations


def test_several_conversations(reader):
    reader.say(HELLO)
    reader.button("New conversation").click()
    expect(reader.page.get_by_role("heading", name="What are you in the mood for?")).to_be_visible()
    reader.say("I saw Saw.")
    expect(reader.rows).to_have_text(["I saw Saw.", HELLO])
    expect(reader.page.locator("#conversations [aria-current]")).to_have_text("I saw Saw.")
    reader.rows.nth(1).click()
    expect(reader.questions.locator(".bubble")).to_have_text([HELLO])
    reader.page.go_back()
    expect(reader.questions.locator(".bubble")).to_have_text(["I saw Saw."])


def test_a_reply_goes_on_while_another_conversation_is_read(reader):
    reader.say(HELLO)
    reader.engine.gate.clear()
    reader.say(AGAIN, wait=False)
    expect(reader.page.get_by_role("img", name="A reply is being written")).to_be_visible()
    reader.button("New conversation").click()
    reader.engine.gate.set()
    expect(reader.page.locator(".notice")).to_contain_text("There is a reply in")
    reader.rows.first.click()
    expect(reader.replies).to_have_count(2)


def test_searching_with_the_keyboard(reader):
    reader.say(HELLO)
    reader.button("New conversation").click()
    reader.say("I saw Saw.")
    reader.page.keyboard.press("Control+K")
    search = reader.page.get_by_role("searchbox", name="Search conversations")
    expect(search).to_be_focused()
    reader.page.keyboard.type("moneyball")
    expect(reader.rows).to_have_text([HELLO])
    expect(reader.page.locator("mark")).to_have_text("Moneyball")
    reader.page.keyboard.press("ArrowDown")
    expect(reader.rows.first).to_be_focused()
    reader.page.keyboard.press("Enter")
    expect(reader.questions.locator(".bubble")).to_have_text([HELLO])
    search.fill("nothing of the kind")
    expect(reader.page.locator("#conversations")).to_have_text("Nothing found for “nothing of the kind”.")
    search.press("Escape")
    expect(reader.rows).to_have_count(2)


def test_renaming(reader):
    reader.say(HELLO)
    reader.rows.first.hover()
    reader.button(f"Rename: {HELLO}").click()
    reader.page.keyboard.type("Friday night")
    reader.page.keyboard.press("Enter")
    expect(reader.rows).to_have_text(["Friday night"])
    expect(reader.page.get_by_role("heading", level=1)).to_have_text("Friday night")
    expect(reader.button("Rename: Friday night")).to_be_focused()
    assert reader.kept()[0]["title"] == "Friday night"
    reader.page.keyboard.press("Enter")
    reader.page.keyboard.type("no")
    reader.page.keyboard.press("Escape")
    expect(reader.rows).to_have_text(["Friday night"])


def test_deleting_asks_first(reader):
    reader.say(HELLO)
    reader.rows.first.hover()
    delete = reader.button(f"Delete: {HELLO}")
    delete.click()
    dialog = reader.page.get_by_role("dialog", name="Delete this conversation?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    reader.page.keyboard.press("Escape")
    expect(reader.rows).to_have_count(1)
    delete.click()
    dialog.get_by_role("button", name="Delete").click()
    expect(reader.rows).to_have_count(0)
    expect(reader.page.get_by_role("heading", name="What are you in the mood for?")).to_be_visible()
    assert reader.kept() == []


def test_all_is_exported_deleted_and_imported_again(reader, tmp_path):
    reader.say(HELLO)
    reader.say(AGAIN)
    reader.button("New conversation").click()
    reader.say("I saw Saw.")
    reader.button("Settings and data").click()
    with reader.page.expect_download() as download:
        reader.button("Export all conversations").click()
    file = tmp_path / "all.jsonl"
    download.value.save_as(file)
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 2
    reader.button("Delete all my data…").click()
    reader.button("Delete everything").click()
    expect(reader.rows).to_have_count(0)
    assert reader.kept() == []
    reader.page.locator("#import-file").set_input_files(file)
    expect(reader.page.locator(".notice").last).to_contain_text("Imported 2 conversations.")
    expect(reader.rows).to_have_count(2)
    expect(reader.replies.first).to_contain_text("How about")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("not a conversation\n")
    reader.page.locator("#import-file").set_input_files(bad)
    expect(reader.page.locator(".notice.bad")).to_be_visible()
    expect(reader.rows).to_have_count(2)


def test_one_conversation_is_exported(reader):
    reader.say(HELLO)
    reader.rows.first.hover()
    with reader.page.expect_download() as download:
        reader.button(f"Export: {HELLO}").click()
    assert download.value.suggested_filename == "Hi-I-loved-Moneyball-but-no-horror-please.jsonl"
    assert HELLO in Path(download.value.path()).read_text()


# ------------------------------------------------------------------------------------------------- keys, themes, phones


def test_a_server_with_keys_asks_for_one(browser, tmp_path):
    key = add_key(tmp_path / "keys.json", "ann")
    served = Served(f"sqlite:///{tmp_path}/keys.sqlite", read_keys(tmp_path / "keys.json"))
    person = Reader(browser, served)
    dialog = person.page.get_by_role("dialog", name="API key")
    dialog.get_by_label("API key").fill("another")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("The server does not know the key")
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    person.say(HELLO)
    person.page.reload()
    expect(person.replies).to_have_count(1)
    person.context.close()
    served.close()
    assert person.problems == []


def test_the_theme_follows_the_system_unless_one_is_chosen(reader):
    body = reader.page.locator("body")
    light, dark = "rgb(253, 252, 250)", "rgb(24, 23, 26)"
    expect(body).to_have_css("background-color", light)
    reader.page.emulate_media(color_scheme="dark")
    expect(body).to_have_css("background-color", dark)
    reader.button("Settings and data").click()
    reader.page.get_by_role("radio", name="Light").check()
    expect(body).to_have_css("background-color", light)
    reader.page.reload()
    expect(body).to_have_css("background-color", light)
    reader.button("Settings and data").click()
    reader.page.get_by_role("radio", name="System").check()
    expect(body).to_have_css("background-color", dark)


def test_a_phone_has_everything_in_its_width(phone):
    def fits():
        assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
        wide = phone.page.evaluate("""() => [...document.querySelectorAll("main *:not(#beliefs *)")]
            .filter((element) => element.getBoundingClientRect().right > 391)
            .map((element) => element.className)""")
        assert wide == []

    fits()
    phone.say(f"{HELLO} Two of them, and {'a' * 200}.")
    fits()
    phone.button("How this reply was made").click()
    phone.button("Forget: likes Moneyball (2011)").click()
    fits()
    expect(phone.page.locator("#sidebar")).to_be_hidden()
    phone.button("Open the list of conversations").click()
    expect(phone.rows).to_be_visible()
    assert phone.page.evaluate("document.getElementById('main').inert")
    expect(phone.button(re.compile("^Delete: Hi!"))).to_be_visible()
    phone.page.keyboard.press("Escape")
    expect(phone.page.locator("#sidebar")).to_be_hidden()
    phone.button("New conversation").last.click()
    expect(phone.page.get_by_role("heading", name="What are you in the mood for?")).to_be_visible()


def test_the_focus_goes_from_the_list_to_the_conversation_to_the_message(reader):
    reader.say(HELLO)
    reader.page.locator("body").press("Tab")
    names = []
    reader.page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        reader.page.keyboard.press("Tab")
        names.append(reader.page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText"))
        if names[-1] == "Your message":
            break
    order = [
        "Skip to the message box",
        "New conversation",
        "Search conversations",
        "Edit your message",
        "Copy the reply",
    ]
    places = [names.index(name) for name in (*order, "Forget: likes Moneyball (2011)", "Your message")]
    assert places == sorted(places)


# ------------------------------------------------------------------------------------------------------------------ axe


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The source of axe-core: the file that ECR_AXE names, or from npm, which is asked once."""
    if named := os.environ.get("ECR_AXE"):
        return Path(named).read_text()
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, which fetches axe-core; ECR_AXE may name an axe.min.js")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {AXE}: {done.stderr.strip()[-200:]}")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def findings(person, axe):
    """Serious and critical findings, each as (rule, elements)."""
    person.page.evaluate(f"{axe}\n;0")
    result = person.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        (one["id"], [(node["target"], node["failureSummary"]) for node in one["nodes"]])
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_axe_finds_nothing_serious(browser, shared, axe, theme, width):
    person = Reader(browser, shared, color_scheme=theme, **(PHONE if width == "phone" else {}))
    assert findings(person, axe) == []
    person.say(f"{HELLO} Two of them.")
    person.button("Like: Hoosiers (1986)").click()
    person.button("Not for me: Rudy (1993)").click()
    person.button("Forget: likes Moneyball (2011)").click()
    person.button("How this reply was made").click()
    assert findings(person, axe) == []
    person.page.route("**/v1/chat/completions", lambda route: route.fulfill(status=429, headers={"Retry-After": "60"}))
    person.say(AGAIN, wait=False)
    expect(person.trouble).to_be_visible()
    assert findings(person, axe) == []
    person.page.unroute_all()
    person.page.route("**/v1/chat/completions", lambda route: route.abort())
    person.button("Try now").click()
    expect(person.trouble.get_by_role("alert")).to_be_visible()
    if width == "phone":
        person.button("Open the list of conversations").click()
    person.button("Settings and data").click()
    assert findings(person, axe) == []
    person.button("Delete all my data…").click()
    assert findings(person, axe) == []
    person.context.close()
    assert person.problems == []
