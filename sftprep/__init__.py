"""Chat data to training shards, once: exact ids, true loss masks, memory-mapped X, Y and mask.

    from sftprep import BuildConfig, build_dataset

    manifest = build_dataset(BuildConfig(("chat.jsonl",), "path/to/tokenizer"), Path("dataset"))

`sftprep.reader` trains from what it makes. All but the errors is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sftprep.errors import (
    BusyError,
    ConfigError,
    ConversationError,
    DatasetError,
    InputError,
    SftprepError,
    StorageError,
    TemplateError,
    TokenizerError,
    WorkerError,
)

if TYPE_CHECKING:
    from sftprep.config import BuildConfig
    from sftprep.dataset.manifest import Manifest, load_manifest
    from sftprep.jobs.build import build_dataset
    from sftprep.jobs.plan import Watch

__version__ = "0.1.0"
FORMAT_VERSION = 2  # of datasets, plans and receipts

__all__ = [
    "BuildConfig",
    "BusyError",
    "ConfigError",
    "ConversationError",
    "DatasetError",
    "InputError",
    "Manifest",
    "SftprepError",
    "StorageError",
    "TemplateError",
    "TokenizerError",
    "Watch",
    "WorkerError",
    "build_dataset",
    "load_manifest",
]

_LAZY = {
    "BuildConfig": "sftprep.config",
    "Manifest": "sftprep.dataset.manifest",
    "Watch": "sftprep.jobs.plan",
    "build_dataset": "sftprep.jobs.build",
    "load_manifest": "sftprep.dataset.manifest",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sftprep' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
