"""The chat page in headless Chromium, on models of two layers: `make test-all` insists on it, and on chromedriver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests import personas

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
HOSTILE = "<b>bold</b> <script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> &amp; \\(x\\) **no**"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[str]:
    """`serve` in a process of its own, ended by Ctrl-C."""
    with personas.cast(tmp_path_factory.mktemp("many"), tiny_model):
        command = [sys.executable, "-m", "runner", "serve", "many", "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
            lines = []
            for line in server.stderr or ():
                lines.append(line)
                if " is the page, " in line:
                    yield line.split()[0]
                    server.send_signal(signal.SIGINT)
                    break
            rest = server.stderr.read() if server.stderr else ""
    assert server.returncode == 0 and "Traceback" not in rest, "".join([*lines, rest])


class Page:
    """The page as a visitor has it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def find(self, css: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", css))

    def until(self, what: Callable[[], T]) -> T:
        """What a question gives once it gives something; elements that change meanwhile are looked up again."""
        from selenium.common.exceptions import WebDriverException

        waits = time.monotonic() + 60
        while True:
            try:
                if found := what():
                    return found
            except (WebDriverException, IndexError):
                pass
            assert time.monotonic() < waits, "the page does not get there"
            time.sleep(0.1)

    def open(self) -> None:
        self.driver.get(self.address)
        self.until(lambda: self.find("#text textarea"))
        self.until(lambda: self.find("#entry input")[0].get_attribute("value"))
        time.sleep(1)  # what the load event sets comes in

    def said(self, where: str = "talk") -> list[str]:
        return [one.text for one in self.find(f"#{where} .message")]

    def say(self, text: str, more: int = 2, where: str = "talk") -> list[str]:
        """Send a message and wait until its answer has come to its end."""
        before = len(self.said(where))
        box = self.find("#text textarea")[0]
        self.driver.execute_script(
            "const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set;"
            "set.call(arguments[0], arguments[1]); arguments[0].dispatchEvent(new Event('input', {bubbles: true}));",
            box,
            text,
        )
        box.send_keys("\n")
        self.until(lambda: len(self.said(where)) >= before + more)
        return self.settled(where)

    def settled(self, where: str = "talk") -> list[str]:
        held, since = self.said(where), time.monotonic()
        while time.monotonic() < since + 1.5:
            time.sleep(0.1)
            now = self.said(where)
            if now != held:
                held, since = now, time.monotonic()
        return held

    def choose(self, drop_down: str, option: str) -> None:
        self.find(f"#{drop_down} input")[0].click()
        self.until(lambda: [one for one in self.find("[role=option]") if option in one.text])[0].click()
        time.sleep(1.5)

    def click(self, css: str) -> None:
        self.find(css)[0].click()
        time.sleep(0.5)

    def kept(self) -> dict[str, Any]:
        """What the last download holds."""
        held: dict[str, Any] = self.driver.execute_script("return window.kept")
        return held


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        if os.environ.get("PERSONA_INSIST"):
            pytest.fail("Chromium or its driver is not here: apt-get install chromium chromium-driver")
        pytest.skip("Chromium or its driver is not here")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1200,860",
    ):
        options.add_argument(argument)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield made
    made.quit()


@pytest.fixture
def page(driver: Any, address: str) -> Page:
    made = Page(driver, address)
    driver.set_window_size(1200, 860)
    driver.get(address)
    driver.execute_script("localStorage.clear()")
    made.open()
    return made


def test_nothing_is_fetched_from_elsewhere(page: Page) -> None:
    page.say("Hello")
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith((page.address, "data:", "blob:")) for url in asked)
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_an_answer_grows_and_is_there_after_a_reload(page: Page) -> None:
    page.choose("entry", "slow")
    box = page.find("#text textarea")[0]
    box.send_keys("Tell me everything.\n")
    lengths = set()
    page.until(lambda: len(page.said()) == 2)
    waits = time.monotonic() + 3
    while time.monotonic() < waits and len(lengths) < 4:
        lengths.add(len(page.said()[1]))
    page.click("#stop")
    said = page.settled()
    assert len(lengths) > 1 and said[0] == "Tell me everything."
    page.open()
    assert page.until(page.said) == said


def test_hostile_words_are_shown_as_they_are(page: Page) -> None:
    said = page.say(HOSTILE)
    assert said[0] == HOSTILE and page.driver.title == "Supporter & <seeker>"
    assert page.find("#talk .message b, #talk .message script, #talk .message img") == []
    assert page.say("\x00a\x1b[2J\x7fb\u202ec")[2].startswith("\u2400a\u241b[2J")
    assert page.find("h1")[0].text == "Supporter & <seeker>"


def test_a_hundred_kilobytes_are_answered_or_refused_and_the_page_lives_on(page: Page) -> None:
    box = page.find("#text textarea")[0]
    page.driver.execute_script(
        "const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set;"
        "set.call(arguments[0], 'Mud. '.repeat(20000)); arguments[0].dispatchEvent(new Event('input', {bubbles: true}));",
        box,
    )
    box.send_keys("\n")
    told = page.until(lambda: page.find(".toast-body, [data-testid=toast-body]")[0].text)
    assert "leaves no room in its context of 512 tokens" in told
    page.open()
    assert len(page.say("Hello")) == 2


def test_somebody_else_answers_with_their_memory_beside_it(page: Page) -> None:
    page.choose("entry", "supporter")
    assert page.said() == ["What troubles you?"]
    page.choose("person", "Ada <b>")
    said = page.say("I fear the rain.")
    assert "\nmemory, " in said[2] and ("You play chess." in said[2] or "You work at mill 0." in said[2])
    page.choose("entry", "direct")
    page.say("Who keeps bees?")
    page.click(".memory summary")
    assert "You are " in page.find("details.memory")[0].text


def test_whoever_suits_the_visitor_is_found(page: Page) -> None:
    page.choose("entry", "supporter")
    assert page.find("#person input")[0].get_attribute("value") == "whoever suits your first words"
    page.find("#match textarea, #match input")[0].send_keys("I sail.\n")
    best = page.until(lambda: page.find("#matched textarea")[0].get_attribute("value"))
    assert len(best.splitlines()) == 3
    assert page.find("#person input")[0].get_attribute("value") == best.split(": ")[0]


def test_sliders_steer_and_the_plain_model_answers_beside(page: Page) -> None:
    page.choose("entry", "steer")
    labels = [one.text.splitlines()[0] for one in page.find("[id^=alpha]") if one.is_displayed()]
    assert labels == ["alpha warm", "alpha cold"]
    for slider, value in (("temperature", "0.8"), ("alpha0", "0"), ("alpha1", "0")):
        number = page.find(f"#{slider} input[type=number]")[0]
        number.clear()
        number.send_keys(value + "\t")
    page.click("#side input")
    said = page.say("Hello", where="beside")
    assert page.settled() == said  # steered by nothing, both are the same model
    number = page.find("#alpha0 input[type=number]")[0]
    number.clear()
    number.send_keys("4\t")
    page.say("Hello", where="beside")
    assert page.said()[3] != page.said("beside")[3]


def test_two_who_talk_take_turns(page: Page) -> None:
    page.choose("entry", "both")
    page.find("#text textarea")[0].send_keys("Good evening.\n")
    page.until(lambda: len(page.said()) >= 2)
    said = page.settled()
    assert said[0].startswith("seeker (bo): Good evening.") and said[1].startswith("supporter (")
    page.click("#more button, button#more")
    page.until(lambda: len(page.said()) >= 7)


def test_an_answer_is_given_again_and_the_talk_begins_anew(page: Page) -> None:
    first = page.say("Hello")
    page.click("#again button, button#again")
    page.until(lambda: page.settled() != first)
    assert len(page.settled()) == 2
    page.click("#clear button, button#clear")
    page.until(lambda: page.said() == [])


def test_the_talk_can_be_saved(page: Page) -> None:
    said = page.say("Hello & <b>")
    page.driver.execute_script(
        "const click = HTMLAnchorElement.prototype.click;"
        "HTMLAnchorElement.prototype.click = function () { if (!this.download) return click.call(this);"
        "  fetch(this.href).then(r => r.text()).then(text => { window.kept = {name: this.download, text}; }); };"
    )
    page.click("#save button, button#save")
    kept = page.until(page.kept)
    assert kept["name"] == "holmes.txt" and "Hello & <b>" in kept["text"] and "**holmes**" in kept["text"]
    page.driver.execute_script("window.kept = null")
    page.click("#save-json button, button#save-json")
    rows = [json.loads(line) for line in page.until(page.kept)["text"].splitlines()]
    assert [row["role"] for row in rows] == ["user", "assistant"] and rows[0]["content"] == said[0]


def test_the_page_fits_a_phone(page: Page) -> None:
    page.driver.set_window_size(390, 844)
    page.say("Hello " + "x" * 300)
    width, window = page.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= window
    assert page.find("#text textarea")[0].is_displayed()
