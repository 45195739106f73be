"""A real headless Chromium, and what the tests ask of a page in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from chromium import driver as driver
from forkright._why import page as page_of

# The pixels of a rectangle of the window as the timeline's canvas has them: a copy is read, since reading a canvas
# makes the browser complain.
PIXELS = """
function pixels(x, y, width, height) {
  const canvas = document.querySelector(".u-wrap canvas"), box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  const copy = new OffscreenCanvas(width * scale, height * scale).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, Math.round((box.left - x) * scale), Math.round((box.top - y) * scale));
  const all = copy.getImageData(0, 0, width * scale, height * scale).data, colours = [];
  for (let i = 0; i < all.length; i += 4) colours.push(all[i + 3] ? `rgb(${all[i]}, ${all[i + 1]}, ${all[i + 2]})` : "");
  return colours;
}
"""
# Where a lane lies, in pixels of the window, and what colours are in a few pixels of it.
LOOK = """
const [name, number, share] = arguments;
document.getElementById("timeline").scrollIntoView({ block: "nearest" });
const rows = [...document.querySelectorAll(".row")].filter((row) => row.querySelector(".name").textContent === name);
const row = rows[number].getBoundingClientRect(), over = document.querySelector(".u-over").getBoundingClientRect();
const x = over.left + share * over.width;
return { x, y: (row.top + row.bottom) / 2, top: row.top, bottom: row.bottom, colours: pixels(x - 4, row.bottom - 12, 8, 8) };
"""
# Two frames: the first draws what was asked for, the second comes after it.
SETTLE = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));"


class Tab:
    """The browser's one tab with a page in it."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver = driver
        self._folder = folder
        self._numbers = count()

    def open(
        self, data: dict[str, Any], *, width: int = 1200, height: int = 900, scale: int = 1, dark: bool = False
    ) -> None:
        """Make the page, open it, and wait until its timeline is drawn or has said why it is not."""
        self.run(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self.prefer("dark" if dark else "light")
        file = self._folder / f"{next(self._numbers)}.html"
        file.write_text(page_of.render(data), encoding="utf-8")
        self.complaints()
        self.driver.get(file.as_uri())
        ready = "return document.getElementById('timeline').dataset.ready || !document.getElementById('timeline-note').textContent.includes('JavaScript')"
        WebDriverWait(self.driver, 60, 0.02).until(lambda driver: driver.execute_script(ready))
        self.settle()

    def run(self, command: str, **arguments: Any) -> Any:
        """A command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def prefer(self, scheme: str) -> None:
        """What the system's setting for colours says."""
        self.run("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def ask(self, script: str, *arguments: Any) -> Any:
        """The result of a script."""
        return self.driver.execute_script(script, *arguments)

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.driver.execute_async_script(SETTLE)

    def find(self, selector: str) -> Any:
        """The first element."""
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """The text of an element, seen or not."""
        return str(self.ask("return document.querySelector(arguments[0]).innerText", selector))

    @property
    def window(self) -> tuple[float, float]:
        """What the timeline shows, in microseconds."""
        self.settle()
        begin, end = self.ask("const { from, to } = document.getElementById('timeline').dataset; return [from, to]")
        return float(begin), float(end)

    def look(self, lane: str, share: float, number: int = 0) -> dict[str, Any]:
        """A place of a lane, as a share of the timeline's width: where it is in the window, its pixels' colours."""
        return dict(self.ask(PIXELS + LOOK, lane, number, share))

    def mouse(self) -> ActionChains:
        """Moves of the mouse and keys held with it."""
        return ActionChains(self.driver, duration=20)

    def pixels(self, x: float, y: float, width: int, height: int) -> list[str]:
        """The colours of the timeline's canvas in a rectangle of the window; empty where nothing is drawn."""
        return list(self.ask(PIXELS + "return pixels(...arguments)", x, y, width, height))

    @property
    def tip(self) -> list[str]:
        """The lines of the tip."""
        return list(self.ask("return [...document.querySelectorAll('#tip p')].map((line) => line.textContent)"))

    def hover(self, lane: str, share: float) -> list[str]:
        """Put the mouse there; what the tip says."""
        place = self.look(lane, share)
        mouse = self.mouse()
        mouse.w3c_actions.pointer_action.move_to_location(round(place["x"]), round(place["y"]))
        mouse.perform()
        self.settle()
        assert self.find("#tip").is_displayed()
        return self.tip

    def wheel(self, lane: str, share: float, *, x: int = 0, y: int = 0, control: bool = False) -> None:
        """Turn the wheel there."""
        place = self.look(lane, share)
        mouse = self.mouse()
        if control:
            mouse.key_down(Keys.CONTROL)
        mouse.scroll_from_origin(ScrollOrigin.from_viewport(round(place["x"]), round(place["y"])), x, y)
        if control:
            mouse.key_up(Keys.CONTROL)
        mouse.perform()

    def drag(self, lane: str, begin: float, end: float, *, shift: bool = False) -> None:
        """Drag from a share of the width to another."""
        first, last = self.look(lane, begin), self.look(lane, end)
        mouse = self.mouse()
        pointer = mouse.w3c_actions.pointer_action
        if shift:
            mouse.key_down(Keys.SHIFT)
        pointer.move_to_location(round(first["x"]), round(first["y"])).pointer_down()
        pointer.move_to_location(round((first["x"] + last["x"]) / 2), round(first["y"]))
        pointer.move_to_location(round(last["x"]), round(first["y"])).pointer_up()
        mouse.perform()
        if shift:
            self.mouse().key_up(Keys.SHIFT).perform()

    def press(self, *keys: str) -> None:
        """Press keys in whatever has the focus."""
        self.mouse().send_keys(*keys).perform()
        self.settle()

    def complaints(self) -> list[str]:
        """What the console got since last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was loaded since last asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]


@pytest.fixture
def tab(driver: webdriver.Chrome, tmp_path: Path) -> Iterator[Tab]:
    """A tab; afterwards its console must be empty, and nothing but the page itself may have been loaded."""
    tab = Tab(driver, tmp_path)
    tab.requests()
    yield tab
    assert tab.complaints() == []
    # What the browser's own pages load is none of ours.
    own = (tmp_path.as_uri(), "data:", "chrome:")
    assert [url for url in tab.requests() if not url.startswith(own)] == []
