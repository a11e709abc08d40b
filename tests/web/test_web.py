"""The page in a real Chromium: what is shown and how it lives, what is sent, who may come in, and hostile words.

Pictures of the pages are kept in build/pictures.
"""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest

from dormouse_host.address import lan_addresses
from dormouse_host.desk.report import Asked, build
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.alerts import Rules, Seen
from support import desk
from support.certificates import Authority
from support.desk import EVIL, HOSTILE, HOUR, Desk
from support.pages_in_browser import Browser, Web, picture

HOURS = 16
PASSWORD = "correct horse battery"
ROWS = "td.c-device a"


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> Iterator[Desk]:
    """A fleet whose last hour has just passed."""
    where = tmp_path_factory.mktemp("web") / "ledger.db"
    with desk.lived(str(where), HOURS, begin=time.time() - HOURS * HOUR - 300) as made:
        made.fleet.ledger.judge([Seen(EVIL, "app", made.time.now, True, HOSTILE)], Rules())
        made.fleet.rollout(made.names, [1, 4], command=("water", {"s": 3}), approve=True)
        yield made


@pytest.fixture(scope="module")
def web(lived) -> Iterator[Web]:
    with Web(lived.where) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture
def page(browser):
    return browser.page


def devices(page) -> list[str]:
    return list(page.locator(ROWS).all_inner_texts())


def wait(page, expression: str) -> None:
    page.wait_for_function(expression)


def test_the_fleet_is_shown_sorted_and_filtered_by_keyboard(web, lived, browser, page):
    page.goto(web.url)
    page.wait_for_selector(ROWS)
    assert devices(page) == [*lived.names, EVIL]
    assert page.locator("h1").inner_text() == "Fleet: 5 devices"
    wait(page, "document.querySelector('td.c-seen').innerText.includes('ago')")
    assert page.locator("svg.spark").count() == 5
    picture(page, "fleet")
    page.get_by_role("button", name="Seen", exact=True).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    wait(page, "document.querySelector('td.c-device a').innerText.startsWith('bed-04')")
    assert page.locator("th[aria-sort=descending]").inner_text() == "Seen"
    page.keyboard.press("/")
    page.keyboard.type("garden")
    wait(page, "document.querySelectorAll('td.c-device a').length === 2")
    assert sorted(devices(page)) == ["bed-01", "bed-02"]
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Overdue").click()
    wait(page, "document.querySelectorAll('td.c-device a').length === 1")
    assert devices(page) == ["bed-04"]


def test_a_wake_shows_without_reloading(web, lived, page):
    page.goto(web.url)
    page.wait_for_selector(ROWS)
    page.evaluate("window.mine = 1")
    before = page.locator("tr:has-text('bed-03') td.c-battery span").inner_text()
    lived.time.now = time.time()
    lived.fleet.ledger.take([lived.report("bed-03")], "c0")
    page.wait_for_function(
        "before => [...document.querySelectorAll('tr')].find(r => r.innerText.includes('bed-03'))"
        ".querySelector('td.c-battery span').innerText !== before",
        arg=before,
    )
    assert page.evaluate("window.mine") == 1


def test_a_device_s_life_is_zoomed(web, page):
    page.goto(f"{web.url}device/bed-01")
    page.wait_for_selector("svg.lanes")
    names = page.locator("svg.lanes > text.label").all_text_contents()
    assert {"wakes", "commands", "results", "telemetry"} <= set(names)
    assert page.locator("svg.chart").count() >= 6
    many = page.locator("svg.lanes rect.wake").count()
    assert many > 10
    page.get_by_role("button", name="6 h", exact=True).click()
    page.wait_for_function("many => document.querySelectorAll('svg.lanes rect.wake').length < many", arg=many)
    box = page.get_by_label("The life of this device")
    box.focus()
    page.keyboard.press("ArrowUp")
    wait(page, "document.querySelector('.ways').innerText.includes(', 3 h.')")
    page.keyboard.press("ArrowLeft")
    wait(page, "document.querySelector('button[aria-pressed=true]') === null")
    page.get_by_role("button", name="All", exact=True).click()
    page.wait_for_function("many => document.querySelectorAll('svg.lanes rect.wake').length >= many", arg=many)
    picture(page, "device")


def test_a_command_is_sent_by_its_form_followed_and_cancelled(web, lived, page):
    page.goto(f"{web.url}device/bed-01")
    page.wait_for_selector("svg.lanes")
    page.get_by_label("s: int").fill("soon")
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_selector(".q-notification:has-text('water:')")
    assert not any(each.args.get("s") == "soon" for each in lived.fleet.latest("bed-01"))
    page.get_by_label("s: int").fill("7")
    page.get_by_role("checkbox", name="dry: bool").click()
    page.get_by_role("button", name="Send", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector('.waiting :text("queued")')
    sent = lived.fleet.latest("bed-01", 1)[0]
    assert (sent.do, sent.args) == ("water", {"s": 7, "dry": True}), "what is as by default is left out"
    lived.time.now = time.time()
    lived.hour("bed-02", "bed-03", "bed-04", EVIL)
    page.wait_for_selector(f"tr:has-text('{sent.name}') .word-good")
    page.wait_for_selector(".waiting", state="hidden")
    page.get_by_role("button", name="Send", exact=True).click()
    page.wait_for_selector('.waiting :text("queued")')
    again = lived.fleet.latest("bed-01", 1)[0]
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.wait_for_selector(f"tr:has-text('{again.name}'):has-text('cancelled')")
    assert lived.fleet.result(again.name).status == "cancelled"


def test_alerts_show_as_they_open_and_close(web, lived, page):
    page.goto(f"{web.url}alerts")
    page.wait_for_selector("tr:has-text('app') .word-bad")
    page.wait_for_selector("a:text-is('Alerts (1)')")
    lived.fleet.ledger.judge([Seen("bed-04", "overdue", lived.time.now, True, "silent for 12 h")], Rules(calm=0.0))
    page.wait_for_selector("tr:has-text('bed-04') .word-bad")
    page.wait_for_selector("a:text-is('Alerts (2)')")
    picture(page, "alerts")
    for _ in range(2):
        lived.time.now += 1
        lived.fleet.ledger.judge([Seen("bed-04", "overdue", lived.time.now, False)], Rules(calm=0.0))
    page.wait_for_selector("a:text-is('Alerts (1)')")
    assert page.locator("tr:has-text('bed-04') .word-bad").count() == 0


def test_groups_and_rollouts(web, lived, page):
    page.goto(f"{web.url}groups")
    page.wait_for_selector("td:has-text('garden')")
    page.get_by_label("Group", exact=True).last.fill("shed")
    page.get_by_label("Devices, apart by spaces; none dissolves it").fill("bed-03 bed-04")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("td:has-text('shed')")
    assert lived.fleet.groups() == {"garden": 2, "shed": 2}
    picture(page, "groups")
    page.goto(f"{web.url}rollouts")
    page.wait_for_selector(":text('wave 1 of 2')")
    page.get_by_role("button", name="Abort").click()
    page.wait_for_selector(":text('aborted')")
    assert lived.fleet.rollouts()[0].status == "aborted"
    picture(page, "rollouts")


@pytest.mark.parametrize("path", ["nope", "..%2f", "a%00b", "%3Cb%3E", "bed-01%20"])
def test_an_id_that_is_no_device_is_not_found(web, path):
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(f"{web.url}device/{path}", timeout=20)
    assert "No such device" in caught.value.read().decode()
    with urllib.request.urlopen(f"{web.url}device/bed-01", timeout=20) as answer:
        assert answer.status == 200


def test_the_report_is_drawn(lived, browser):
    page = browser.new(viewport={"width": 1000, "height": 1200})
    page.set_content(build(lived.fleet, Asked(None, None, None, ZoneInfo("UTC"), 3.3)))
    page.wait_for_selector("svg.lanes")
    assert page.locator("section.device").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    picture(page, "report")


def test_no_word_of_a_device_can_script_a_page(web, lived, browser):
    page = browser.new()
    for path in (
        "",
        f"device/{EVIL}",
        "alerts",
        "groups",
        "rollouts",
        "device/%3Cimg%20src=x%20onerror=document.title=1%3E",
    ):
        page.goto(web.url + path)
        page.wait_for_selector(".page .card")
        page.wait_for_timeout(300)
        assert "owned" not in page.title()
        assert page.locator(".page img, .page script, .page iframe").count() == 0
    page.goto(f"{web.url}device/{EVIL}")
    page.wait_for_selector("svg.lanes")
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("combobox", name="Command").click()
    page.get_by_role("option", name=re.compile("img src=x")).click()
    page.wait_for_selector(f"label:has-text({json.dumps(HOSTILE[:12])})")
    page.wait_for_timeout(300)
    text = page.locator(".page").inner_text()
    for words in (HOSTILE, "{{7*7}}"):
        assert words in text
    assert "owned" not in page.title()
    picture(page, "hostile")


def test_the_page_fits_a_phone_and_the_dark(web, browser):
    page = browser.new(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, is_mobile=True)
    for path, what in (
        ("", ROWS),
        ("device/bed-01", "svg.lanes"),
        ("groups", ".page .card"),
        ("rollouts", ".page .card"),
    ):
        page.goto(web.url + path)
        page.wait_for_selector(what)
        page.wait_for_timeout(200)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{path} is {wide} pixels wide"
        picture(page, f"phone-{path.partition('/')[0] or 'fleet'}")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light == "rgb(16, 21, 29)"
    page.get_by_role("button", name="Dark or light").click()
    page.get_by_role("button", name="Dark or light").click()
    page.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(246, 247, 249)'")
    page.goto(web.url)
    page.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(246, 247, 249)'")


def test_only_this_machine_hears_it_and_by_its_own_name(web):
    port = urlsplit(web.url).port
    for address in lan_addresses():
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex((address, port)) != 0
    request = urllib.request.Request(web.url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=20)


def test_nothing_came_from_elsewhere_and_nothing_went_wrong(web, browser):
    """After the tests above, in the same browser."""
    assert {host.partition(":")[0] for host in browser.asked} == {"127.0.0.1"}
    missing = "error: Failed to load resource: the server responded with a status of 404 (Not Found)"
    assert browser.said in ([], [missing]), "once: an address of hostile words is no device"


def test_with_https_a_password_and_read_only(lived, browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("https")
    pair = Authority(folder).sign("127.0.0.1")
    options = ("--cert", str(pair.cert), "--key", str(pair.key), "--read-only")
    with Web(lived.where, *options, DORMOUSE_WEB_PASSWORD=PASSWORD) as web:
        assert web.url.startswith("https://")
        page = browser.new()
        page.goto(f"{web.url}device/bed-01")
        page.get_by_label("Password or token").fill("wrong one")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        page.get_by_label("Password or token").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("svg.lanes")
        assert page.get_by_role("button", name="Send", exact=True).count() == 0
        assert page.get_by_role("button", name="Cancel", exact=True).count() == 0
        cookie = next(each for each in page.context.cookies() if each["name"] == "dormouse_desk")
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_selector("#password")
        page.goto(web.url)
        page.wait_for_selector("#password")
        code, said = web.stop()
    assert code == 0
    assert PASSWORD not in said


def test_the_server_ends_in_order_and_says_nothing(web, lived, browser):
    code, said = web.stop()
    assert (code, said) == (0, "")
    with Fleet(lived.where) as fleet:
        assert fleet.status()
