"""What a dataset was built from, found again: its tokenizer, its options, its inputs.

Where they lay is remembered on the machine that built it; elsewhere it has to be said. Whatever is found has to be what the
manifest says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from sftprep.config import BuildConfig
from sftprep.containers.files import find_sources
from sftprep.containers.splits import SourceInfo, Split, plan_splits
from sftprep.dataset.manifest import Manifest
from sftprep.errors import ConfigError, InputError, TokenizerError
from sftprep.stores.places import remembered_places
from sftprep.tokens.resolve import ResolvedTokenizer, resolve_tokenizer


def tokenizer_again(manifest: Manifest, given: str | None) -> tuple[str, ResolvedTokenizer]:
    """The tokenizer that a dataset was built with, and its name. Raises ConfigError where it is not known, TokenizerError
    where it is another one or has another template."""
    name = given or remembered_places(manifest.fingerprint).get("tokenizer")
    if name is None:
        raise ConfigError("where its tokenizer lies is not known on this machine; give it with -t")
    resolved = resolve_tokenizer(name)
    if resolved.sha256 != manifest.tokenizer.get("sha256"):
        raise TokenizerError(f"{name}: not the tokenizer that the dataset was built with; its sha256 differs")
    template = manifest.config.get("chat_template") or resolved.chat_template() or ""
    if hashlib.sha256(template.encode()).hexdigest() != manifest.tokenizer.get("chat_template_sha256"):
        raise TokenizerError(f"{name}: its chat template is not the one that the dataset was built with")
    return name, resolved


def inputs_again(
    manifest: Manifest,
    config: BuildConfig,
    given: Sequence[str],
    begin: Callable[[str, int, str], None],
    advance: Callable[[int], None],
) -> tuple[list[SourceInfo], list[Split]]:
    """The inputs of a dataset, hashed, and splits of them. begin, advance: are told how many bytes are hashed, and of files
    that are done. Raises ConfigError where they are not known, InputError where they are others."""
    places = {} if given else remembered_places(manifest.fingerprint)
    paths = given or [*places.get("inputs", ()), *places.get("validation_input", ())]
    if not paths:
        raise ConfigError("where its inputs lie is not known on this machine; give them with --input")
    sources = find_sources(paths).sources
    begin("hashing the inputs", sum(source.bytes for source in sources), "bytes")
    infos, splits = plan_splits(sources, selection=config.selection, advance=advance)
    stated = {each.name: each.sha256 for each in manifest.inputs}
    found = {each.name: each.sha256 for each in infos}
    for name in sorted(stated.keys() | found.keys()):
        if name not in found:
            raise InputError(f"{name}: was read for this dataset, and is not among the inputs; name all with --input")
        if name not in stated:
            raise InputError(f"{name}: was not read for this dataset")
        if stated[name] != found[name]:
            raise InputError(f"{name}: is not the file that was read for this dataset: its sha256 differs")
    return infos, splits
