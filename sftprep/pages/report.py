"""The page: what a dataset holds, in numbers and in conversations worth a look, as one HTML file that needs no network.

Nothing in it is trusted: text is escaped by Jinja or arrives as JSON and becomes text nodes, and the page's own policy lets a browser
run no script but the one that is named by its hash.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sftprep.dataset.manifest import Manifest, load_manifest
from sftprep.dataset.staged import publish_bytes
from sftprep.errors import ConfigError
from sftprep.pages.numbers import MOST_ROWS, Table, page_numbers
from sftprep.pages.shown import shown_conversation
from sftprep.pages.telling import TAGS, Chooser
from sftprep.statistics.gather import statistics_of
from sftprep.views.conversations import OpenSet
from sftprep.views.pieces import Decode, find_decoder, open_decoder
from sftprep.visible import visible

_LONGEST_OPTION = 200  # characters


def write_report(
    folder: Path,
    path: Path,
    tokenizer: str | None,
    *,
    text: bool = True,
    progress: Callable[[int], None] = lambda shards: None,
) -> str | None:
    """Write the page of the dataset in `folder` to the file `path`, whole or not at all; why it has ids instead of text, if it does.

    tokenizer: gives ids their text; None: the one that the dataset was built with, where that is still found. text: whether the page may hold what messages say. progress: is told how many more shards were read. Raises DatasetError
    where the dataset is damaged, TokenizerError where the tokenizer is another one, ConfigError where `path` cannot be a file.
    """
    manifest = load_manifest(folder)
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of a file")
    decode, why = None, None
    if text and tokenizer is not None:
        decode, _ = open_decoder(tokenizer, str(manifest.tokenizer.get("sha256")))
    elif text:
        decode, why = find_decoder(manifest)
    publish_bytes(path, _page(folder, manifest, decode, progress, text=text).encode())
    return why


def _page(
    folder: Path, manifest: Manifest, decode: Decode | None, progress: Callable[[int], None], *, text: bool
) -> str:
    chooser = Chooser()
    found = statistics_of(folder, progress, chooser.add)
    shown = _shown(folder, manifest, chooser, decode, text=text)
    counts = Counter(tag for each in shown for tag in each["tags"])
    style, script = (_asset(f"report.{kind}") for kind in ("css", "js"))
    page: str = _template().render(
        title=visible(folder.resolve().name),
        style=Markup(style),  # noqa: S704 - a file of the package, as the next
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=_as_data(shown),
        tags={tag: counts[tag] for tag in TAGS if counts[tag]},
        told=_told(decode, text=text),
        origin=_origin(manifest, text=text),
        **page_numbers(manifest, found),
    )
    return page


def _told(decode: Decode | None, *, text: bool) -> str:
    if not text:
        return "What was said is left out of this page."
    if decode is None:
        return "The tokenizer was not found, so ids are shown instead of text."
    return "Point to a token, or go from one to the next with the arrow keys, to see its position and id."


def _shown(
    folder: Path, manifest: Manifest, chooser: Chooser, decode: Decode | None, *, text: bool
) -> list[dict[str, Any]]:
    """What report.js says of its conversations, in the order of what they are examples of."""
    sets = [OpenSet(folder, name, manifest) for name in dict.fromkeys(each.set for each in manifest.shards)]
    shards = [(opened, index) for opened in sets for index in range(len(opened.shards))]
    shown = []
    for telling in chooser.chosen():
        opened, index = shards[telling.shard]
        found = shown_conversation(opened.shard(index).conversation(telling.segment), decode, text=text)
        shown.append({**found, "set": opened.name, "tags": telling.tags})
    return shown


def _origin(manifest: Manifest, *, text: bool) -> list[Table]:
    """Options, tokenizer and inputs."""
    options = {name: _option(value, text=text) for name, value in sorted(manifest.config.items())}
    tokenizer = {name.replace("_", " "): str(value) for name, value in manifest.tokenizer.items()}
    inputs = [
        (each.name, f"{each.set}, {each.records:,} records, {each.bytes:,} bytes, sha256 {each.sha256}")
        for each in manifest.inputs
    ]
    program = [("sftprep", manifest.sftprep), ("fingerprint", manifest.fingerprint), ("layout", manifest.layout)]
    return [
        Table((), program, "Dataset"),
        Table((), [*tokenizer.items()], "Tokenizer and chat template"),
        Table((), [(visible(name), value) for name, value in inputs[:MOST_ROWS]], "Inputs"),
        Table((), [(name.replace("_", "-"), value) for name, value in options.items()], "Options"),
    ]


def _option(value: Any, *, text: bool) -> str:
    """An option's value; of a long text, such as a template, what it hashes to."""
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(said) <= _LONGEST_OPTION and text:
        return visible(said)
    return f"{len(said):,} characters, sha256 {hashlib.sha256(said.encode()).hexdigest()}"


def _as_data(value: Any) -> Markup:
    """JSON inside of a script element, which nothing in it can end."""
    escaped = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(escaped)  # noqa: S704 - without < it is text to a browser


def _hash(source: str) -> str:
    """By which a page's policy admits a style or a script."""
    return f"sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return (files("sftprep.pages") / name).read_text(encoding="utf-8")


def _template() -> Any:
    environment = Environment(autoescape=True, loader=FunctionLoader(_asset), undefined=StrictUndefined)
    return environment.get_template("report.html")
