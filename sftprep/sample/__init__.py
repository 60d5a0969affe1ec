"""The built-in sample: conversations written for it, and a tokenizer trained on them."""

from importlib.resources import files
from pathlib import Path

_FOLDER = Path(str(files(__name__)))

CONVERSATIONS = _FOLDER / "conversations.jsonl"
TOKENIZER = _FOLDER / "tokenizer"
