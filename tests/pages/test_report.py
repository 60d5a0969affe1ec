"""The report page, opened in a real browser: nothing is loaded, nothing fails, nothing that a message says runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_builds import CONVERSATIONS, TOKENIZER, build, sftprep, write

from sftprep.errors import ConfigError, DatasetError, TokenizerError
from sftprep.pages.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
EVIL = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'><!-- {{7*7}} \u202e ]]>"
PHONE, SCREEN = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def chat(*turns: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * len(turns)
    return {"messages": [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)], **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("report")
    records = [
        chat("Who?", EVIL, source="<b>evil</b>"),
        chat(EVIL, "No.", source="a"),
        chat("שלום, מה שלומך?", "טוב, תודה 🧑‍🚀", source="rtl"),
        chat("Long?", "Yes. " * 400, source="a"),
        chat("Forged <|im_end|>", "It is text.", source="a"),
    ]
    source = write(at / "<i>&evil'\".jsonl", *records, {"messages": [{"role": "<u>who</u>", "content": "x"}]})
    build(at / "out", str(CONVERSATIONS), source, max_length=256, by="source", validation="20%")
    return at / "out"


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    path = folder.parent / "report.html"
    write_report(folder, path, TOKENIZER)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[("light", SCREEN), ("dark", PHONE)], ids=["light screen", "dark phone"])
def tab(browser: Any, page: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    scheme, size = request.param
    context = browser.new_context(color_scheme=scheme, viewport=size, offline=True)
    opened = context.new_page()
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("request", lambda each: opened.asked.append(each.url))
    opened.goto(page.as_uri())
    yield opened
    context.close()


def shown(tab: Any) -> list[Any]:
    return [each for each in tab.query_selector_all("#list > details") if each.is_visible()]


@needs_chromium
def test_the_page_loads_nothing_fails_in_nothing_and_runs_nothing_that_is_said(tab: Any, page: Path) -> None:
    tab.click("#open")
    assert tab.evaluate("window.owned") is None
    assert "</script><script>window.owned" in tab.inner_text("#list")
    assert "{{7*7}}" in tab.inner_text("#list")
    assert "<i>&evil'\".jsonl" in tab.inner_text("main")
    assert tab.query_selector("main i, main u, main b, main img") is None
    assert tab.said == []
    assert [each for each in tab.asked if not each.startswith(("file:", "data:"))] == []
    width = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page is wider than the screen"
    if shots := os.environ.get("SFTPREP_SCREENSHOTS"):
        tab.screenshot(path=f"{shots}/{tab.viewport_size['width']}.png", full_page=True)


@needs_chromium
def test_filter_and_search_work_together(tab: Any) -> None:
    everything = len(shown(tab))
    assert 40 <= everything <= 50
    tab.click("button[data-tag='truncated']")
    truncated = shown(tab)
    assert 0 < len(truncated) < everything
    assert all("truncated" in each.inner_text() for each in truncated)
    assert tab.inner_text("#count") == f"{len(truncated)} of {everything} shown"
    tab.fill("#search", "no such words anywhere")
    assert shown(tab) == []
    tab.click("button[data-tag='']")
    tab.fill("#search", "OWNED")
    assert len(shown(tab)) == 2
    tab.fill("#search", "")
    assert len(shown(tab)) == everything


@needs_chromium
def test_a_token_says_its_place_and_id_to_mouse_and_keys(tab: Any, folder: Path) -> None:
    first = shown(tab)[0]
    first.query_selector("summary").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert re.fullmatch(r"position 1 · id \d+ · not trained", tab.inner_text("#told"))
    first.query_selector(".text span.trained").hover()
    assert re.fullmatch(r"positions? [\d, to]+ · id [\d ]+ · trained", tab.inner_text("#told"))
    background, dim = (
        first.eval_on_selector(f".text span.{kind}", "token => getComputedStyle(token).backgroundColor")
        for kind in ("trained", "prompt")
    )
    assert background != dim


@needs_chromium
def test_axe_finds_no_fault(tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    for each in shown(tab)[:3]:
        each.query_selector("summary").click()
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_without_text_no_message_is_in_the_page(folder: Path, tmp_path: Path) -> None:
    write_report(folder, tmp_path / "report.html", TOKENIZER, text=False)
    page = (tmp_path / "report.html").read_text()
    said = [message["content"] for line in CONVERSATIONS.read_text().splitlines() for message in _messages(line)]
    assert [each for each in said if len(each) > 20 and each in page] == []
    assert "Forged" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data) > 40
    assert all(isinstance(count, int) for each in data for count in each["ids"])


def _messages(line: str) -> list[dict[str, str]]:
    record = json.loads(line)
    some = record.get("messages") or record.get("conversations") or []
    return [each for each in some if isinstance(each.get("content"), str)]


def test_the_page_is_the_same_every_time_and_says_where_nothing_lies(folder: Path, page: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    write_report(folder, again, TOKENIZER)
    assert again.read_bytes() == page.read_bytes()
    assert str(folder.parent) not in page.read_text()


def test_the_command(folder: Path, tmp_path: Path) -> None:
    done = sftprep("report", str(folder), "-o", str(tmp_path / "r.html"), "-t", TOKENIZER)
    assert (done.returncode, done.stderr) == (0, "")
    assert "r.html" in done.stdout
    assert (tmp_path / "r.html").stat().st_size < 3e6


def test_what_cannot_be_is_refused_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        write_report(tmp_path, tmp_path / "r.html", None)
    with pytest.raises(ConfigError, match="folder"):
        write_report(folder, tmp_path, None)
    with pytest.raises(TokenizerError):
        write_report(folder, tmp_path / "r.html", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
