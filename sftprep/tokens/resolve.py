"""The tokenizer that Transformers really uses, resolved once.

`AutoTokenizer` can change what a tokenizer.json says, so it is asked; but importing it takes seconds, and its files come
from strangers. So it runs in a process of its own (`ask_transformers.py`) under limits of time and memory, and what it
finds is cached, keyed by the contents of the tokenizer's files: a second job imports no Transformers at all, and the first
one imports the rest of the program meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import orjson

from sftprep.cache import read_entry, write_entry
from sftprep.errors import TokenizerError, typed_errors
from sftprep.tokens.hostile_texts import hostile_texts, texts_sha256
from sftprep.visible import visible

_log = logging.getLogger(__name__)
_ENTRY_FORMAT = b"3"  # changes with the meaning of a cached ResolvedTokenizer
_PANIC = re.compile(r"thread .* panicked at .*:$")
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_FILE_KINDS = {".json", ".jinja", ".model", ".txt", ".tiktoken", ".codes", ".tokenizer"}  # all that Transformers reads
_NO_TOKENIZER = {"config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"}
_TEMPLATE_FOLDER = "additional_chat_templates"
_MEMORY = 4 << 30  # bytes of address space; ten times what a tokenizer of 128,000 ids takes
_CACHED_BYTES = 256 << 20  # a folder with more than that under such names is not worth hashing


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is found in the text before the model sees it."""

    id: int
    content: str
    special: bool
    lstrip: bool  # takes the white space before it, too
    rstrip: bool
    normalized: bool  # is looked for in the normalized text
    single_word: bool  # only between word boundaries


@dataclass(frozen=True, slots=True)
class ResolvedTokenizer:
    """A tokenizer as Transformers uses it. Plain data: it pickles, and two are equal if their text is."""

    backend: str  # tokenizer.json, without truncation and padding, its merges as short as they can be written
    sha256: str  # of the tokenizer.json as Transformers writes it
    chat_templates: Mapping[str, str]  # by name; {"default": ...} where there is only one
    special_tokens: Mapping[str, str]  # what a template sees as bos_token, eos_token, ...
    added_tokens: tuple[AddedToken, ...]  # by id
    bos_id: int | None
    eos_id: int | None
    pad_id: int  # of the pad token, else of EOS, else 0
    size: int  # largest id + 1, added tokens included
    versions: Mapping[str, str]  # of tokenizers and transformers
    hostile_texts: str  # sha256 of those that were made for it
    hostile_ids: str  # sha256 of the ids that Transformers gives for them

    def chat_template(self, *, tools: bool = False) -> str | None:
        """The template for a conversation with or without tools, chosen as `get_chat_template` does; None: it has none.

        Raises TokenizerError where there are several and none of them is meant for it.
        """
        if tools and "tool_use" in self.chat_templates:
            return self.chat_templates["tool_use"]
        if self.chat_templates and "default" not in self.chat_templates:
            names = ", ".join(sorted(self.chat_templates))
            raise TokenizerError(
                f"several chat templates ({names}) and none is the default; name a file to use instead"
            )
        return self.chat_templates.get("default")

    def steps(self) -> dict[str, list[dict[str, Any]]]:
        """What "normalizer" and "pre_tokenizer" in `backend` do, step by step; a sequence is its steps. The model, nearly all
        of the backend, is not parsed where it stands last."""
        names = ("normalizer", "pre_tokenizer")
        stated, _ = head_and_model(self.backend)
        if not stated.keys() >= set(names):
            stated = orjson.loads(self.backend)
        return {name: _steps_of(stated[name]) for name in names}

    def control_tokens(self) -> frozenset[str]:
        """The added tokens that are special, or named as such (bos_token, eos_token, ...)."""
        named = set(self.special_tokens.values())
        return frozenset(token.content for token in self.added_tokens if token.special or token.content in named)


def head_and_model(text: str) -> tuple[dict[str, Any], str]:
    """A tokenizer.json without its model, and the text of that, where it stands last: it is nearly all of it, and is not
    parsed. Else nothing."""
    head, _, model = text.partition('"model":')  # inside of strings, quotes have a backslash
    try:
        return orjson.loads(head.rstrip(", \n") + "}"), model.rstrip()[:-1]
    except orjson.JSONDecodeError:
        return {}, ""


def _steps_of(part: Any) -> list[dict[str, Any]]:
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for each in part.get("normalizers", part.get("pretokenizers")) for step in _steps_of(each)]


class Resolving:
    """A tokenizer that Transformers is being asked about, or that was known before."""

    def __init__(
        self,
        name_or_folder: str,
        *,
        trust_remote_code: bool = False,
        time_limit: float | None = None,
        memory_limit: int = _MEMORY,
    ) -> None:
        """Look whether it is known, else ask. As `resolve_tokenizer`."""
        is_folder, exists = look_at(name_or_folder)
        if is_folder:
            name = str(Path(name_or_folder).resolve())  # Transformers may look at the name: make it one from everywhere
            files = _tokenizer_files(name_or_folder)
        elif _HUB_NAME.fullmatch(name_or_folder) and not exists:
            name, files = name_or_folder, []
        else:
            what = "is a file" if exists else "does not exist"
            raise TokenizerError(
                f"{name_or_folder}: {what}; expected a folder with a tokenizer in it, or a name on the hub"
            )
        offline = is_folder and not trust_remote_code
        self.name, self._seen = name_or_folder, _look_into(files) if offline else None
        self.known = read_entry("tokenizer", self._seen.digest, _from_json) if self._seen else None
        if self.known is None:
            limit = time_limit or (120 if offline else 300)
            if is_folder:
                kept = "; the answer is kept for the next time" if self._seen else ""
                _log.info("asking Transformers about the tokenizer%s", kept)
            else:
                _log.info("%s is no folder here: trying the hub (for %g s at most)", name, limit)
            ask = {"name": name, "hub": not is_folder, "trust_remote_code": trust_remote_code, "memory": memory_limit}
            self._answer = _ask_transformers(ask, name_or_folder, offline=offline, time_limit=limit)

    def result(self) -> ResolvedTokenizer:
        """The tokenizer, once it is known. Raises as `resolve_tokenizer`."""
        if self.known is None:
            contents = self._answer()
            with typed_errors(f"{self.name}: Transformers makes something of it that is no tokenizer"):
                self.known = _from_json(contents)
            if self._seen and _is_still(self._seen, self.name):
                write_entry("tokenizer", self._seen.digest, contents)
            elif self._seen:
                _log.warning("%s: changed while it was read; what was found is not kept", self.name)
        return self.known


def resolve_tokenizer(
    name_or_folder: str,
    *,
    trust_remote_code: bool = False,
    time_limit: float | None = None,
    memory_limit: int = _MEMORY,
) -> ResolvedTokenizer:
    """What `AutoTokenizer.from_pretrained` makes of a folder, or of a name on the hub.

    A folder is read without the network, and comes from the cache if its files have not changed. Never cached: hub names
    (a name may mean another commit tomorrow), anything with `trust_remote_code`, whose code may read anything, and a
    folder that changes while it is read.
    time_limit: seconds, by default 120 for a folder and 300 where a download may be needed. memory_limit: bytes of
    address space, where the system knows such a limit; trusted code has none.
    Raises TokenizerError where there is no tokenizer, or none that works on a backend of the `tokenizers` library.
    """
    limits: dict[str, Any] = {"time_limit": time_limit, "memory_limit": memory_limit}
    return Resolving(name_or_folder, trust_remote_code=trust_remote_code, **limits).result()


def last_words(stderr: bytes) -> str:
    """Why a process died, of all that it printed: of Rust what follows its first panic, else the last line."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("note: ")]
    panics = (said for line, said in pairwise(lines) if _PANIC.match(line))
    return visible(next(panics, lines[-1] if lines else "it said nothing")[:300])


def to_json(resolved: ResolvedTokenizer) -> bytes:
    """Every field, for the cache and for the way between processes."""
    return orjson.dumps(asdict(resolved))


def _from_json(contents: bytes) -> ResolvedTokenizer:
    """The inverse of `to_json`. Raises an exception of some kind for anything else."""
    resolved = msgspec.json.decode(contents, type=ResolvedTokenizer)
    resolved.steps()
    if resolved.hostile_texts != texts_sha256(hostile_texts([token.content for token in resolved.added_tokens])):
        raise ValueError("it was asked about other texts")
    return resolved


def look_at(name: str) -> tuple[bool, bool]:
    """Whether a tokenizer's name is that of a folder, and whether it is there at all. Raises TokenizerError."""
    try:
        return bool(name) and Path(name).is_dir(), bool(name) and Path(name).exists()  # Path("") is the working folder
    except (OSError, ValueError) as error:  # too long, no permission, a NUL in it
        raise TokenizerError(f"{name[:200]!r}: {error}; expected a folder with a tokenizer in it") from error


def _tokenizer_files(folder: str) -> list[Path]:
    """Every file that Transformers may read for a tokenizer, by name."""
    root = Path(folder)
    try:
        files = [path for path in root.iterdir() if path.suffix in _FILE_KINDS or path.name.startswith("tokenizer.")]
        files += (root / _TEMPLATE_FOLDER).glob("*.jinja")
        files = sorted(path for path in files if path.is_file())
    except OSError as error:
        raise TokenizerError(f"{folder}: cannot be read: {error.strerror}") from error
    if all(path.name in _NO_TOKENIZER for path in files):
        raise TokenizerError(f"{folder}: holds no tokenizer; expected tokenizer.json and tokenizer_config.json in it")
    return files


class _Seen(NamedTuple):
    """Files of a tokenizer as they were at one time."""

    digest: str  # of their names, their contents and the libraries that read them
    states: tuple[tuple[int, ...], ...]  # which file each was, and when it last changed


def _look_into(files: list[Path]) -> _Seen | None:
    """The files as they are now; None where what they resolve to is not worth caching."""
    digest = hashlib.sha256(_ENTRY_FORMAT)
    try:
        statuses = [path.stat() for path in files]
        if sum(status.st_size for status in statuses) > _CACHED_BYTES:
            return None
        for path in files:
            place = f"{path.parent.name}/{path.name}" if path.parent.name == _TEMPLATE_FOLDER else path.name
            digest.update(os.fsencode(place) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    except OSError as error:
        raise TokenizerError(f"{error.filename}: cannot be read: {error.strerror}") from error
    for package in ("tokenizers", "transformers"):
        digest.update(f"{package} {version(package)}\n".encode())
    states = tuple((each.st_dev, each.st_ino, each.st_mtime_ns, each.st_ctime_ns) for each in statuses)
    return _Seen(digest.hexdigest(), states)


def _is_still(seen: _Seen, folder: str) -> bool:
    """Whether a folder's files are the same, and were not others meanwhile."""
    try:
        return _look_into(_tokenizer_files(folder)) == seen
    except TokenizerError:
        return False


def _ask_transformers(ask: dict[str, Any], shown_name: str, *, offline: bool, time_limit: float) -> Callable[[], bytes]:
    """Start ask_transformers.py. What is returned waits for its answer: the JSON of the ResolvedTokenizer that it finds."""
    # Isolated, so that no file in the working folder is taken for a module; then it searches where this process does.
    start = "import json, sys; ask = json.loads(sys.argv[1]); sys.path[:] = ask['path']; "
    start += "from sftprep.tokens.ask_transformers import answer; answer(ask); import os; os._exit(0)"  # frees nothing
    one_thread = {"TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"}  # each thread reserves memory
    environment = os.environ | one_thread | {"RUST_BACKTRACE": "0"} | ({"HF_HUB_OFFLINE": "1"} if offline else {})
    end = monotonic() + time_limit
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", start, orjson.dumps(ask | {"path": sys.path})],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def wait() -> bytes:
        try:
            contents, said = process.communicate(timeout=max(0.0, end - monotonic()))
        except subprocess.TimeoutExpired:
            raise TokenizerError(f"{shown_name}: took more than {time_limit:g} seconds to load") from None
        finally:
            _end(process)
        if process.returncode or not contents:
            from sftprep.workers.trial import how_it_ended

            how = f"the process that loads it {how_it_ended(process.returncode)}: {last_words(said)}"
            raise TokenizerError(f"{shown_name}: {how}")
        if contents.startswith(b'{"error":'):
            raise TokenizerError(f"{shown_name}: {orjson.loads(contents)['error']}")
        return contents

    weakref.finalize(wait, _end, process)  # nobody may ever want to know
    return wait


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it if it is still there, and forget it."""
    with process:  # closes its pipes, and waits for it
        process.kill()
