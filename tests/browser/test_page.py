"""The page of `forkright why` in a real browser: what people see and do there.

Each test also shows that the console stays empty and that nothing is loaded from anywhere: see the fixture `tab`.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from selenium.webdriver.common.keys import Keys

import why_data

HELD, GIL_WAIT, LOCK_WAIT = "rgb(0, 114, 178)", "rgb(240, 180, 41)", "rgb(204, 121, 167)"
ALL = [
    why_data.taking_turns,
    why_data.three_processes,
    why_data.nothing,
    why_data.unknown_gil,
    why_data.hostile,
]
# Each text with the colours it is drawn in, which may be an ancestor's; hidden ones and images left out.
TEXTS = """
const parse = (colour) => { const pen = new OffscreenCanvas(1, 1).getContext("2d"); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
const found = {};
for (const element of document.querySelectorAll("body *")) {
  if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) || !element.checkVisibility()) continue;
  if (element.closest("script, style, .swatch")) continue;
  let ground = element;
  while (ground !== document.documentElement && parse(getComputedStyle(ground).backgroundColor)[3] < 255) ground = ground.parentElement;
  const colours = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(parse);
  found[colours.join("|")] = [...colours, `${element.tagName}.${element.className}`];
}
return Object.values(found);
"""


@pytest.mark.parametrize("scale", [1, 2])
def test_lanes_are_drawn_in_the_colours_of_their_states(tab, scale):
    tab.open(why_data.taking_turns(seconds=0.1), scale=scale)
    # Pieces of 5 ms, of which the first begins at 1 ms: the middle of the second and of the third.
    assert _most(tab.look("Thread-1 (calc)", 0.085)) == HELD
    assert _most(tab.look("Thread-2 (calc)", 0.085)) == GIL_WAIT
    assert _most(tab.look("Thread-1 (calc)", 0.135)) == GIL_WAIT
    assert _most(tab.look("Thread-2 (calc)", 0.135)) == HELD
    assert _most(tab.look("MainThread", 0.5)) == LOCK_WAIT


def test_a_column_of_many_pieces_is_divided_among_their_states(tab):
    at = list(range(0, 10_000_000, 1000))
    states = [why_data.HELD if index % 2 else why_data.IO for index in range(len(at))]
    thread = why_data.thread(0, "MainThread", at, states, [-1] * len(at), 10.0)
    tab.open(why_data.document([why_data.process(1, "x", [thread], 10.0)], [], 10.0, sentence=""))
    place = tab.look("MainThread", 0.5)
    column = tab.pixels(place["x"], place["top"], 1, 28)
    drawn = [colour for colour in column if colour]
    assert set(drawn[-8:]) == {HELD}
    assert HELD not in drawn[:8]
    mostly, pieces, thread = tab.hover("MainThread", 0.5)
    assert "GIL held" in mostly and "I/O, sleep" in mostly
    assert pieces.endswith("at 5.00 s") and thread == "MainThread"


def test_the_states_differ_without_colour(tab):
    step = 1000
    at = [step * number for number in range(len(why_data.STATES))]
    thread = why_data.thread(0, "MainThread", at, list(range(len(at))), [-1] * len(at), step * len(at) / 1e6)
    tab.open(why_data.document([why_data.process(1, "x", [thread], thread["ended"])], [], thread["ended"], sentence=""))
    looks = []
    for number in range(len(at)):
        greys = [_luminance(colour) for colour in tab.look("MainThread", (number + 0.5) / len(at))["colours"]]
        middle = (min(greys) + max(greys)) / 2
        looks.append((sum(greys) / len(greys), "".join(str(int(grey > middle)) for grey in greys)))
    for (one, first), (other, second) in combinations(looks, 2):
        assert first != second or abs(one - other) > 0.1, (one, other, first)


def test_the_wheel_zooms_around_the_mouse_while_ctrl_is_held(tab):
    tab.open(why_data.taking_turns())
    tab.wheel("Thread-1 (calc)", 0.25, y=-240, control=True)
    begin, end = tab.window
    assert end - begin < 1_900_000
    assert begin + 0.25 * (end - begin) == pytest.approx(500_000, abs=5000)
    tab.wheel("Thread-1 (calc)", 0.25, y=2400, control=True)
    tab.wheel("Thread-1 (calc)", 0.25, y=2400, control=True)
    tab.wheel("Thread-1 (calc)", 0.25, y=2400, control=True)
    assert tab.window == (0, 2_000_000)


def test_the_wheel_alone_scrolls_the_page(tab):
    tab.open(why_data.taking_turns())
    before = tab.ask("return scrollY")
    tab.wheel("Thread-1 (calc)", 0.25, y=100)
    _wait_for(tab, f"return scrollY > {before} ? 'scrolled' : ''", "scrolled")
    tab.settle()
    assert tab.window == (0, 2_000_000)


def test_the_wheel_alone_zooms_once_the_timeline_was_clicked(tab):
    tab.open(why_data.taking_turns())
    tab.find(".u-over").click()
    tab.wheel("Thread-1 (calc)", 0.25, y=-100)
    begin, end = tab.window
    assert end - begin < 1_900_000


def test_dragging_pans(tab):
    tab.open(why_data.taking_turns())
    tab.find("[data-do=in]").click()
    assert tab.window == (500_000, 1_500_000)
    tab.drag("Thread-1 (calc)", 0.75, 0.25)
    begin, end = tab.window
    assert end - begin == pytest.approx(1_000_000)
    assert begin == pytest.approx(1_000_000, abs=5000)


def test_dragging_with_shift_zooms_to_what_was_selected(tab):
    tab.open(why_data.taking_turns())
    tab.drag("Thread-1 (calc)", 0.25, 0.5, shift=True)
    begin, end = tab.window
    assert (begin, end) == (pytest.approx(500_000, abs=5000), pytest.approx(1_000_000, abs=5000))


def test_a_double_click_and_the_button_show_everything(tab):
    tab.open(why_data.taking_turns())
    for leave in ("double click", "button"):
        tab.find("[data-do=in]").click()
        assert tab.window != (0, 2_000_000)
        if leave == "button":
            tab.find("[data-do=whole]").click()
        else:
            tab.mouse().double_click(tab.find(".u-over")).perform()
        assert tab.window == (0, 2_000_000)


def test_two_fingers_pinch(tab):
    tab.open(why_data.taking_turns())
    place = tab.look("Thread-1 (calc)", 0.5)
    touch = lambda apart: [
        {"x": place["x"] - apart, "y": place["y"], "id": 1},
        {"x": place["x"] + apart, "y": place["y"], "id": 2},
    ]
    tab.run("Input.dispatchTouchEvent", type="touchStart", touchPoints=touch(50))
    for apart in (60, 80, 100):
        tab.run("Input.dispatchTouchEvent", type="touchMove", touchPoints=touch(apart))
    tab.run("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    begin, end = tab.window
    assert end - begin == pytest.approx(1_000_000, rel=0.1)
    assert (begin + end) / 2 == pytest.approx(1_000_000, abs=30_000)


def test_the_keyboard_alone_moves_everything(tab):
    tab.open(why_data.taking_turns())
    _tab_to_timeline(tab)
    tab.press("+")
    assert tab.window == (500_000, 1_500_000)
    tab.press(Keys.ARROW_RIGHT)
    assert tab.window == (600_000, 1_600_000)
    tab.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert tab.window == (400_000, 1_400_000)
    tab.press(Keys.HOME)
    assert tab.window == (0, 1_000_000)
    tab.press(Keys.END)
    assert tab.window == (1_000_000, 2_000_000)
    tab.press("-")
    assert tab.window == (0, 2_000_000)
    tab.press("+", "+", "0")
    assert tab.window == (0, 2_000_000)


def test_arrow_keys_reach_every_lane_and_a_live_region_says_what_is_there(tab):
    tab.open(why_data.taking_turns(seconds=0.1))
    _tab_to_timeline(tab)
    assert tab.text(".row.chosen") == "MainThread"
    tab.press(Keys.ARROW_DOWN)
    assert tab.text(".row.chosen") == "Thread-1 (calc)"
    said = _wait_for(tab, "return document.getElementById('live').textContent", "Thread-1 (calc)")
    assert said == (
        "calc, GIL held, 46.000 ms to 51.000 ms, 5 ms, /home/me/project/threads.py:12, Thread-1 (calc)."
        " Shown: 0.0 ms to 100.0 ms"
    )
    tab.press(Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP)
    assert tab.text(".row.chosen").startswith("threads.py")


def test_shift_and_arrow_keys_go_from_piece_to_piece(tab):
    tab.open(why_data.taking_turns(seconds=0.1))
    _tab_to_timeline(tab)
    tab.press(Keys.ARROW_DOWN, Keys.HOME)
    tips = []
    for _ in range(3):
        tab.mouse().key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
        tab.settle()
        tips.append(tab.tip[1:3])
    assert tips == [
        ["GIL wait", "1.000 ms to 6.000 ms, 5 ms"],
        ["GIL held", "6.000 ms to 11.000 ms, 5 ms"],
        ["GIL wait", "11.000 ms to 16.000 ms, 5 ms"],
    ]


def test_enter_goes_to_the_threads_table(tab):
    tab.open(why_data.taking_turns())
    _tab_to_timeline(tab)
    tab.press(Keys.ARROW_DOWN, Keys.ENTER)
    assert tab.ask("return document.activeElement.id") == "thread-0-1"


def test_focus_is_visible(tab):
    tab.open(why_data.taking_turns())
    _tab_to_timeline(tab)
    style = tab.ask(
        "const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement); return [outlineStyle, outlineWidth]"
    )
    assert style == ["solid", "3px"]


def test_hovering_tells_function_state_and_times(tab):
    tab.open(why_data.taking_turns(seconds=0.1))
    assert tab.hover("Thread-1 (calc)", 0.085) == [
        "calc",
        "GIL held",
        "6.000 ms to 11.000 ms, 5 ms",
        "/home/me/project/threads.py:12",
        "Thread-1 (calc)",
    ]
    assert tab.hover("GIL", 0.085) == ["Thread-1 (calc) holds the GIL", "6.000 ms to 11.000 ms, 5 ms"]


def test_handovers_are_drawn_between_lanes_once_there_is_room(tab):
    tab.open(why_data.taking_turns(seconds=2.0))
    assert _marks_between_lanes(tab) == 0
    for _ in range(6):
        tab.find("[data-do=in]").click()
    begin, end = tab.window
    # One every 5 ms, each one or two pixels wide.
    handovers = (end - begin) / 5000
    assert handovers - 1 <= _marks_between_lanes(tab) <= 2 * (handovers + 1)


def test_dark_follows_the_system_until_the_button_says_otherwise(tab):
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    tab.open(why_data.taking_turns())
    light = tab.ask(ground)
    tab.prefer("dark")
    tab.settle()
    dark = tab.ask(ground)
    assert _luminance(light) > 0.8 and _luminance(dark) < 0.05
    assert tab.text("#theme") == "Light"
    tab.find("#theme").click()
    assert tab.ask(ground) == light
    tab.find("#theme").click()
    tab.prefer("light")
    assert tab.ask(ground) == dark


def test_the_timeline_is_drawn_anew_in_the_other_colours(tab):
    thread = why_data.thread(0, "MainThread", [0], [why_data.IDLE], [-1], 1.0)
    data = why_data.document([why_data.process(1, "x", [thread], 1.0)], [], 1.0, sentence="")
    tab.open(data)
    assert _most(tab.look("MainThread", 0.5)) == "rgb(227, 230, 234)"
    tab.find("#theme").click()
    tab.settle()
    assert _most(tab.look("MainThread", 0.5)) == "rgb(46, 52, 60)"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("make", [why_data.taking_turns, why_data.three_processes])
def test_all_text_has_a_contrast_of_4_5_at_least(tab, make, dark):
    tab.open(make(), dark=dark)
    tab.hover("MainThread", 0.5)
    texts = tab.ask(TEXTS)
    assert len(texts) > 3
    for text, ground, element in texts:
        assert _contrast(text, ground) >= 4.5, (element, text, ground)


@pytest.mark.parametrize("dark", [False, True])
def test_names_inside_the_lanes_have_a_contrast_of_4_5_at_least(tab, dark):
    tab.open(why_data.taking_turns(), dark=dark)
    names = [*why_data.STATES, *(f"turn-{number}" for number in range(1, 5))]
    ask = """
const probe = document.body.appendChild(document.createElement("i"));
const read = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
const found = arguments[0].map((name) => [read(`on-${name}`), read(name)]);
probe.remove();
return found;
"""
    for name, (text, ground) in zip(names, tab.ask(ask, names), strict=True):
        assert _contrast(_numbers(text), _numbers(ground)) >= 4.5, (name, text, ground)


@pytest.mark.parametrize("make", ALL)
def test_a_narrow_phone_needs_no_horizontal_scrolling(tab, make):
    tab.open(make(), width=360, height=780)
    assert tab.ask("return document.documentElement.scrollWidth") <= 360
    out = "return [...document.querySelectorAll('main *, header *, footer *')].filter((e) => e.checkVisibility() && !e.closest('.unseen, .name, .u-wrap') && e.getBoundingClientRect().right > 361).map((e) => e.outerHTML.slice(0, 80))"
    assert tab.ask(out) == []


def test_names_of_the_program_run_nothing(tab):
    tab.open(why_data.hostile())
    tab.hover(why_data.HOSTILE[0], 0.5)
    tab.hover(why_data.HOSTILE[3], 0.5)
    _tab_to_timeline(tab)
    for _ in why_data.HOSTILE:
        tab.press(Keys.ARROW_DOWN)
    assert tab.ask("return window.stolen") is None
    assert tab.ask("return document.scripts.length") == 3
    assert tab.ask("return document.images.length") == 0


def test_an_unseen_gil_has_no_lane(tab):
    tab.open(why_data.unknown_gil())
    assert tab.ask("return document.querySelectorAll('.of-gil').length") == 0
    assert tab.hover("MainThread", 0.2)[:2] == ["<module>", "unknown"]


def test_a_program_that_showed_nothing_says_so_instead_of_a_timeline(tab):
    tab.open(why_data.nothing())
    assert tab.text("#timeline-note") == "No process was seen: there is nothing to draw."
    assert not tab.find("#timeline").is_displayed()


def test_over_a_million_pieces_are_drawn_without_a_node_for_each(tab):
    tab.open(why_data.worst_case())
    assert tab.ask("return document.querySelectorAll('*').length") < 3000
    assert tab.hover("Thread-3", 0.5)[0].startswith("GIL wait ")
    for _ in range(12):
        tab.find("[data-do=in]").click()
    begin, end = tab.window
    assert end - begin == pytest.approx(60e6 / 2**12)
    assert tab.hover("Thread-3", 0.5)[0].startswith("function_")


def test_more_lanes_than_fit_are_scrolled_to(tab):
    threads = [why_data.thread(n, f"Thread-{n}", [0], [n % 8], [-1], 1.0) for n in range(200)]
    tab.open(why_data.document([why_data.process(1, "x", threads, 1.0)], [], 1.0, sentence=""))
    assert tab.find("#timeline").size["height"] < 900
    _tab_to_timeline(tab)
    tab.press(*[Keys.PAGE_DOWN] * 21)
    assert tab.text(".row.chosen") == "Thread-199"
    assert tab.ask(
        "const box = document.querySelector('.row.chosen').getBoundingClientRect(), all = document.getElementById('timeline').getBoundingClientRect(); return box.bottom <= all.bottom + 1"
    )


def test_printing_is_light_and_leaves_the_theme_as_it_was(tab):
    tab.open(why_data.taking_turns(), dark=True)
    before = tab.look("MainThread", 0.5)
    tab.ask(
        "window.seen = []; addEventListener('beforeprint', () => seen.push(getComputedStyle(document.body).color, document.querySelector('.timeline').offsetWidth))"
    )
    assert tab.run("Page.printToPDF", printBackground=False)["data"]
    tab.settle()
    assert tab.ask("return seen") == ["rgb(26, 29, 33)", 680]
    assert tab.ask("return document.documentElement.dataset.theme ?? ''") == ""
    assert tab.look("MainThread", 0.5) == before


def _marks_between_lanes(tab):
    """How many dark pixels there are in the gap below a thread's lane, where only handovers are drawn."""
    left, right = tab.look("Thread-1 (calc)", 0), tab.look("Thread-1 (calc)", 1)
    line = tab.pixels(left["x"], left["bottom"], round(right["x"] - left["x"]), 1)
    return sum(bool(colour) and _luminance(colour) < 0.05 for colour in line)


def _tab_to_timeline(tab):
    """By the keyboard, as somebody without a mouse would."""
    for _ in range(12):
        tab.press(Keys.TAB)
        if tab.ask("return document.activeElement.id") == "timeline":
            return
    raise AssertionError("Tab did not come to the timeline")


def _wait_for(tab, script, part):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(tab.driver, 30, 0.02).until(lambda _: part in tab.ask(script) and tab.ask(script))


def _most(look):
    return max(set(look["colours"]), key=look["colours"].count)


def _numbers(colour):
    return [float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def _luminance(colour):
    parts = [part / 255 for part in (_numbers(colour) if isinstance(colour, str) else colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one, other):
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
