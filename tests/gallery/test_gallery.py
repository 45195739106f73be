"""The programs of examples/gallery do what they say, run as their readers run them, and leave no process.

`make test-gallery` installs what these need; without a library its tests are skipped and say so.
"""

from __future__ import annotations

import importlib.util
import re
import socket
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from scripts import run_command, start_command
from waiting import until

GALLERY = Path(__file__).parents[2] / "examples" / "gallery"
NEEDS = {
    "aggregator": ["fastapi", "httpx", "uvicorn"],
    "crawler": [],
    "grid_search": ["joblib", "sklearn"],
    "logs": [],
    "options": ["numpy"],
    "thumbnails": ["PIL"],
}


def program(name: str, folder: Path, *options: object) -> str:
    """What a program of the gallery prints."""
    need(name)
    return "\n".join(run_command([str(GALLERY / f"{name}.py"), *map(str, options)], folder))


def need(name: str) -> None:
    for library in NEEDS[name]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed; `make test-gallery` does that")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program of the gallery as a module, for a look at its parts."""
    need(name)
    monkeypatch.syspath_prepend(str(GALLERY))
    return importlib.import_module(name)


def test_every_program_has_a_test_and_a_verdict() -> None:
    programs = {file.stem for file in GALLERY.glob("[a-z]*.py")}
    assert programs == set(NEEDS)


# Thumbnails


def test_thumbnails_are_small_upright_and_do_without_the_torn_file(tmp_path: Path) -> None:
    out = program("thumbnails", tmp_path, "--count", 9, "--width", 600, "--to", tmp_path / "small", "--edge", 96)
    assert re.search(r"^photograph-008\.jpg: image file is truncated", out, re.MULTILINE)
    assert "8 thumbnails of 9 files" in out
    assert "9 tasks, 1 of them failed" in out
    from PIL import Image

    small = sorted((tmp_path / "small").iterdir())
    assert [file.name for file in small] == [f"photograph-{number:03}.jpg" for number in range(8)]
    sizes = []
    for file in small:
        with Image.open(file) as thumbnail:
            thumbnail.load()
            sizes.append(thumbnail.size)
    # Every third and fourth photograph was taken with the camera on its side.
    assert sizes == [(96, 64), (96, 64), (64, 96), (64, 96)] * 2


def test_thumbnails_of_a_folder_that_is_given(tmp_path: Path) -> None:
    need("thumbnails")
    from PIL import Image

    (tmp_path / "mine").mkdir()
    Image.new("RGBA", (300, 500), "red").save(tmp_path / "mine" / "logo.png")
    (tmp_path / "mine" / "notes.txt").write_text("no picture")
    out = program("thumbnails", tmp_path, tmp_path / "mine", "--to", tmp_path / "small")
    assert "1 thumbnails of 1 files" in out
    with Image.open(tmp_path / "small" / "logo.jpg") as thumbnail:
        assert thumbnail.size == (154, 256)


# Crawler


def test_the_crawler_keeps_its_manners(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    out = program("crawler", tmp_path, "--log", log, "--at-once", 2, "--pause", 0.02, "--pages", 45)
    requests = defaultdict(list)
    for line in log.read_text().splitlines():
        host, path, began, ended = line.split()
        assert not path.startswith("/private/")
        requests[host].append((path, float(began), float(ended)))
    assert set(requests) == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}
    for host, answered in requests.items():
        paths = [path for path, _, _ in answered]
        assert paths[0] == "/robots.txt"
        assert len(set(paths)) == len(paths), "a page was fetched twice"
        # A place is free again when an answer has come and the pause is over: so many begin later than that.
        at_once, pause = (1, 0.1) if host == "127.0.0.3" else (2, 0.02)
        pages = answered[1:]
        begins = sorted(began for _, began, _ in pages)
        ends = sorted(ended for _, _, ended in pages)
        for begin, end in zip(begins[at_once:], ends, strict=False):
            assert begin >= end + pause
    assert sum(map(len, requests.values())) == 45 + 3
    assert "pages of 3 hosts" in out
    assert "`visit`, 45 tasks" in out


def test_the_crawler_names_pages_that_are_not_there(tmp_path: Path) -> None:
    out = program("crawler", tmp_path, "--pages", 1000, "--pause", 0, "--size", 15)
    assert len(re.findall(r"^http://127\.0\.0\.\d:\d+/missing: HTTP Error 404", out, re.MULTILINE)) == 3
    assert out.startswith("45 pages of 3 hosts")


# Options


def test_prices_agree_with_the_closed_form(tmp_path: Path) -> None:
    out = program("options", tmp_path, "--paths", 200_000)
    off = [float(sigma) for sigma in re.findall(r" ([+-]\d+\.\d) ", out)]
    assert len(off) == 5
    assert max(map(abs, off)) < 4  # of a normal distribution, one in 16,000 is beyond
    errors = [float(error) for error in re.findall(r"± (\d\.\d+)  ", out)]
    assert 0.01 < max(errors) < 0.06
    assert "`simulate`, 10 tasks" in out


def test_prices_are_the_same_wherever_they_are_computed(tmp_path: Path) -> None:
    tables = set()
    for plan in ("serial", "threads", "processes"):
        out = program("options", tmp_path, "--paths", 40_000, "--chunk", 5000, "--plan", plan)
        lines = out.splitlines()
        assert lines[7].endswith(", as asked")
        tables.add("\n".join(lines[:7]))
    assert len(tables) == 1


def test_the_closed_form_is_what_textbooks_say(monkeypatch: pytest.MonkeyPatch) -> None:
    options = load("options", monkeypatch)
    # Hull, Options, Futures and Other Derivatives: S = 42, K = 40, r = 10 %, volatility 20 %, half a year.
    market = options.Market(spot=42.0, rate=0.1, volatility=0.2, years=0.5)
    assert options.black_scholes(market, 40.0) == pytest.approx(4.76, abs=0.005)


# Logs


def test_logs_are_counted_once_however_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = load("logs", monkeypatch)
    first, second = tmp_path / "one.log", tmp_path / "two.log"
    logs.write_log(first, 0.5)
    logs.write_log(second, 0.25, seed=2)
    out = program("logs", tmp_path, "--chunk", 0.01, first, second)
    lines = [line for file in (first, second) for line in file.read_text().splitlines()]
    good = [line.split() for line in lines if "Mozilla" in line]
    assert f"{len(lines):,} lines, {len(lines) - len(good)} of them not understood" in out
    searches = sorted(round(float(line[-1]) * 1000) for line in good if line[6] == "/search")
    at = searches[-(-95 * len(searches) // 100) - 1]
    assert re.search(rf"^/search +{len(searches):,} .* {at} ms ", out, re.MULTILINE)
    assert re.search(rf"^ +{len(searches):,}  /search$", out, re.MULTILINE)
    failed = sum(line[8] == "503" for line in good if line[6] == "/search") / len(searches)
    assert re.search(rf"^/search .* {failed:.2%}$", out, re.MULTILINE)


@pytest.mark.parametrize("size", [1, 7, 40, 41, 1000])
def test_a_line_belongs_to_the_range_in_which_it_begins(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = load("logs", monkeypatch)
    file = tmp_path / "short.log"
    file.write_bytes(b"short\n" * 3 + b"\n" + b"x" * 40 + b"\nno newline at the end")
    total = logs.Tally()
    for part in logs.ranges([file], size):
        total.add(logs.count(*part))
    assert total.lines == 6


# scikit-learn


def test_a_grid_search_finds_what_it_finds_without_forkright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = program("grid_search", tmp_path, "--folds", 3, "--workers", 2)
    assert "12 candidates, 3 folds each, on 2 workers" in out
    assert "36 tasks on 2 worker processes" in out or "2 processes, as asked" in out
    best = re.search(r"^(0\.\d{4}) ± 0\.\d{4}  (\{.*\})$", out, re.MULTILINE)
    assert best is not None
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    grid = load("grid_search", monkeypatch).GRID
    images, _, digits, _ = train_test_split(*load_digits(return_X_y=True), random_state=0)
    alone = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=3).fit(images, digits)
    assert best[2] == str(alone.best_params_)
    assert float(best[1]) == pytest.approx(alone.best_score_, abs=0.00005)
    right = re.search(r"the best is right about (\d+\.\d)%", out)
    assert right is not None and float(right[1]) > 95


# FastAPI


def test_the_aggregator_answers_without_shops_that_are_late_or_broken(tmp_path: Path) -> None:
    out = program("aggregator", tmp_path, "--requests", 6, "--rounds", 2000)
    assert "6 of 6 requests were answered" in out
    assert re.search(r"product 1: \d+ from shop [01], missing: \['HTTPStatusError', 'TaskTimeoutError'\]", out)
    assert "`rank`, 6 tasks" in out


def test_the_aggregator_ranks_what_all_shops_have(monkeypatch: pytest.MonkeyPatch) -> None:
    aggregator = load("aggregator", monkeypatch)
    cheap, dear = {"price": 1, "stock": 5, "days": 2}, {"price": 9, "stock": 5, "days": 2}
    ranked = aggregator.rank([dear, cheap], 100)
    assert [offer["price"] for offer in ranked] == [1, 9]
    assert ranked[0]["score"] > ranked[1]["score"]


def test_the_aggregator_serves_under_uvicorn(tmp_path: Path) -> None:
    need("aggregator")
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(GALLERY / "aggregator.py"), "--serve", str(port), "--shop", "http://127.0.0.1:9"]
    with start_command(command, tmp_path) as script:

        def answer() -> Any:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/offers/1").json()
            except httpx.ConnectError:
                assert script.process.poll() is None, "the server ended"
                return None

        until(answer, "the server answers")
        # No shop is there: it is missing, nothing is ranked, and the answer is an answer.
        assert answer() == {"offers": [], "missing": {"http://127.0.0.1:9": "ConnectError"}}
        assert httpx.get(f"http://127.0.0.1:{port}/offers/three").status_code == 422
        script.process.send_signal(2)
        script.wait()
        script.until_gone()
