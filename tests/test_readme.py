"""What README and docs show works as it stands: their commands are run, their files, options and links exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_pages import PAGE, reference

from sftprep.cli.commands import main
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.forms import FORMS, SYSTEM_KEYS, TOOL_KEYS, form_of
from sftprep.records.messages import SPELLINGS, SWITCHES, Reading

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SAMPLE = Path(str(files("sftprep") / "sample"))
NAV = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
PAGES = [ROOT / "README.md", *(DOCS / name for name in NAV)]  # in the order in which a reader comes to them
TEXTS = {page: re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.S) for page in PAGES}
_PYTHON_LESS = () if find_spec("torch") else ("README.md", "dataset.md", "training.md")  # whose code needs torch


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], re.S | re.M)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a reader has in a clone, and what `make` has set up. What a page builds, the next ones find."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(SAMPLE, folder / "sftprep" / "sample")
    activate = folder / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    return folder


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """Lines that were run on an earlier page."""
    return set()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_commands_and_code_run_as_written(page: Path, clone: Path, ran: set[str]) -> None:
    """The blocks of a page, one after another, in one shell; no command twice that changes nothing."""
    text = "".join(block for block in blocks(page, "sh") if "make demo" not in block)
    lines = re.sub(r" +# .*", "", text).splitlines()
    script = ["set -e", ". .venv/bin/activate", *(line for line in lines if line not in ran)]
    ran.update(line for line in lines if line.startswith("sftprep "))
    code = blocks(page, "python")
    if code and page.name not in _PYTHON_LESS:
        (clone / "code.py").write_text("\n".join(code))
        script.append("python -P code.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # in the clone, a part of the package is another's
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_form_is_read_as_it_stands() -> None:
    """Each record of the table, the same conversation in all of them."""
    text = TEXTS[DOCS / "input.md"]
    said = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    rows = re.findall(r"^\| (.+?) \| `([{\[].+?[}\]])`(?:,.*)? \|$", text, re.M)
    for name, record in rows:
        key = re.search(r"--messages-key (\w+)", name)
        reading = Reading(messages_key=key and key[1])
        assert parse_conversation(record.encode(), reading) == Conversation(said, None, {}, None), name
        if name.strip("`") in FORMS:
            assert form_of(json.loads(record), reading)[0] == name.strip("`")
    assert {name.strip("`") for name, _ in rows} >= FORMS.keys() - {"sharegpt"}
    assert len(rows) == len(FORMS) + 3
    names = (*SWITCHES, *SYSTEM_KEYS, *TOOL_KEYS, *(name for names in SPELLINGS.values() for name in names))
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_options_and_files_that_are_named_exist(page: Path) -> None:
    text = TEXTS[page]
    known = {
        option
        for command in main.commands.values()
        for each in command.params
        for option in (*each.opts, *each.secondary_opts)
    }
    others = {"--array", "--wrap", "--help"}  # of Slurm, of every program
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known | others
    for command in re.findall(r"`make ([\w-]+)`", text):
        assert f"\n{command}:" in (ROOT / "Makefile").read_text()
    for place in re.findall(r"`(tests/[\w./]+)`", text):
        assert (ROOT / place).exists(), place
    for command in re.findall(r"^sftprep (\w+)", "\n".join(blocks(page, "sh")), re.M):
        assert command in main.commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", TEXTS[page]):
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        if anchor:
            assert anchor in map(_slug, re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.M)), anchor


def _slug(heading: str) -> str:
    """As the site and its readers make it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_every_page_and_picture_is_shown() -> None:
    assert sorted(NAV) == sorted(path.name for path in DOCS.glob("*.md"))
    named = set(re.findall(r"\(docs/([\w-]+\.md)\)", TEXTS[ROOT / "README.md"]))
    assert {*NAV} - {"index.md"} <= named
    shown = {name for text in TEXTS.values() for name in re.findall(r"pictures/([\w-]+\.(?:svg|png))", text)}
    assert shown == {path.name for path in (DOCS / "pictures").iterdir()}


def test_the_reference_of_commands_is_theirs() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "write it anew: python tests/command_pages.py"


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if find_spec("material") is None:
        pytest.skip("needs the extra docs: `make docs` builds the site, and checks it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_and_option_has_help() -> None:
    for name, command in main.commands.items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.param_type_name == "argument", (name, parameter.name)
