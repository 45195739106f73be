"""Every page of the site, in a browser: nothing is missing, nothing complains, nothing sticks out.

`make test-docs` builds the site and runs this.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from selenium.webdriver.support.wait import WebDriverWait

from waiting import LIMIT

ROOT = Path(__file__).parents[2]
PAGES = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
PHONE, DESK = 390, 1280
# What sticks out of the page to the right, other than in what scrolls by itself.
STICKS_OUT = """
const scrolls = (e) => e && e !== document.body && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
return [...document.querySelectorAll('main article *, header *, footer *')]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement))
  .map((e) => e.outerHTML.slice(0, 100));
"""
PLAIN_CODE = """
return [...document.querySelectorAll('.highlight.language-python code, .language-python.highlight code')]
  .filter((code) => !code.querySelector('.k, .kn, .nb, .n')).map((code) => code.textContent.slice(0, 80));
"""


def place(page: str) -> str:
    """Where a page of the repository is on the site."""
    folder, _, name = page.rpartition("/")
    parts = [folder, "" if name == "README.md" else name.removesuffix(".md")]
    return "".join(f"{part}/" for part in parts if part)


def open_page(driver: Any, url: str, width: int, scheme: str = "light") -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(url)


def wait(driver: Any, script: str) -> Any:
    return WebDriverWait(driver, LIMIT, 0.02).until(lambda _: driver.execute_script(script))


def missing(driver: Any, address: str) -> list[str]:
    """What the page asked for elsewhere, or in vain."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {it["params"]["requestId"]: it["params"]["request"]["url"] for it in _of("requestWillBeSent", messages)}
    assert asked
    elsewhere = [url for url in asked.values() if not url.startswith((address, "data:"))]
    answers = [it["params"]["response"] for it in _of("responseReceived", messages)]
    refused = [answer["url"] for answer in answers if answer["status"] >= 400]
    failed = [asked.get(it["params"]["requestId"], "?") for it in _of("loadingFailed", messages)]
    return elsewhere + refused + failed


def _of(kind: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["method"] == f"Network.{kind}"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_on_a_desk_and_on_a_phone(page: str, driver: Any, address: str) -> None:
    for width in (DESK, PHONE):
        open_page(driver, address + place(page), width)
        wait(driver, "return document.readyState === 'complete'")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.execute_script(STICKS_OUT) == []
        assert driver.execute_script(PLAIN_CODE) == []
        assert driver.get_log("browser") == []
        assert missing(driver, address) == []


def test_every_page_that_is_built_is_looked_at(site: Path) -> None:
    built = {file.parent.relative_to(site).as_posix() for file in site.rglob("index.html")}
    assert built == {place(page).rstrip("/") or "." for page in PAGES}


class Anchors(HTMLParser):
    """The ids of a page and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.ids.add(told.get("id") or told.get("name") or "")
        if tag in ("a", "img", "link", "script"):
            self.links.add(told.get("href") or told.get("src") or "")


def test_all_links_within_the_site_lead_somewhere(site: Path) -> None:
    pages = {}
    for file in site.rglob("*.html"):
        if file.name != "404.html":
            pages[file] = Anchors()
            pages[file].feed(file.read_text())
    dead = []
    for file, anchors in pages.items():
        for link in anchors.links:
            target, fragment = urldefrag(urljoin(file.as_uri(), link))
            if urlsplit(target).scheme != "file":
                continue
            there = Path(urlsplit(target).path)
            there = there / "index.html" if there.is_dir() else there
            if not there.exists() or (fragment and fragment not in pages[there].ids):
                dead.append((file.relative_to(site).as_posix(), link))
    assert dead == []


def test_search_finds_a_function_and_leads_there(driver: Any, address: str) -> None:
    open_page(driver, address, DESK)
    driver.find_element("css selector", ".md-search__input").click()
    box = driver.find_element("css selector", ".md-search__input")
    box.send_keys("imap_unordered")
    link = "return document.querySelector('.md-search-result__link[href*=\"reference/maps/\"]')"
    wait(driver, link + "?.checkVisibility()")
    driver.execute_script(link + ".click()")
    wait(driver, "return location.pathname.endsWith('/reference/maps/') && document.readyState === 'complete'")


def test_colours_follow_the_system_and_the_switch(driver: Any, address: str) -> None:
    light, dark = (_ground(driver, address, scheme) for scheme in ("light", "dark"))
    assert sum(light) > 600 > 200 > sum(dark)
    driver.execute_script(
        "document.querySelector('label[for=__palette_0]:not([hidden]), label[for=__palette_1]:not([hidden])').click()"
    )
    wait(driver, "return document.body.dataset.mdColorScheme === 'default'")
    driver.execute_script("localStorage.clear()")


def _ground(driver: Any, address: str, scheme: str) -> list[int]:
    open_page(driver, address, DESK, scheme)
    # What was chosen before is kept.
    driver.execute_script("localStorage.clear()")
    driver.refresh()
    wait(driver, f"return document.body.dataset.mdColorScheme === '{'slate' if scheme == 'dark' else 'default'}'")
    colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    return [int(float(part)) for part in re.findall(r"[\d.]+", colour)[:3]]


def test_figures_and_timelines_are_of_this_machine_and_drawn(driver: Any, address: str) -> None:
    open_page(driver, address + "threads-or-processes/", DESK)
    text = driver.execute_script("return document.querySelector('article').innerText")
    assert text.count("Measured when this page was built") == 5
    assert "start the first" in text and "memory each" in text  # of `forkright doctor`
    assert "3 threads in 1 process, 1 GIL" in text and "3 threads in 3 processes, 3 GILs" in text
    pictures = driver.execute_script(
        "return [...document.querySelectorAll('.timeline svg')].map((svg) => [...svg.querySelectorAll('rect')].map((r) => [r.getAttribute('class'), r.getBoundingClientRect().width, getComputedStyle(r).fill]))"
    )
    kinds = [{kind for kind, width, _ in picture if width > 1} for picture in pictures]
    assert {"held", "gil_wait"} <= kinds[0]
    assert "held" in kinds[1] and "io" in kinds[2] and "off_gil" in kinds[3]
    colours = {kind: fill for picture in pictures for kind, _, fill in picture}
    assert len(set(colours.values())) == len(colours)
    for link in driver.execute_script("return [...document.querySelectorAll('.timeline a')].map((a) => a.href)"):
        open_page(driver, link, DESK)
        assert wait(driver, "return document.getElementById('timeline').dataset.ready")
        assert driver.get_log("browser") == []
