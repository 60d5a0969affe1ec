"""Numbers that one step of a job leaves for the next: a file in the folder where it works, whole or not there.

A file is a sha256 and then the numbers. The hash is over the fingerprint of the plan, too, so that what was left by another
plan, or is damaged, is as good as missing.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.safe_open import open_file
from sftprep.dataset.staged import publish_bytes
from sftprep.errors import DatasetError

Numbers = npt.NDArray[np.int64]
_HEAD = hashlib.sha256().digest_size


def publish_numbers(path: Path, fingerprint: str, numbers: Numbers) -> None:
    """Write them durably."""
    body = numbers.tobytes()
    publish_bytes(path, _hash(fingerprint, body) + body)


def read_numbers(path: Path, fingerprint: str, columns: int, *, trusted: bool = False) -> Numbers | None:
    """(n, columns), mapped; None where they are not there, damaged, or of another plan.

    trusted: they were read before, and their hash is not looked at again.
    """
    try:
        with open_file(path) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        numbers = np.frombuffer(mapped, np.int64, offset=_HEAD)
        if not trusted and mapped[:_HEAD] != _hash(fingerprint, numbers):
            return None
        return numbers.reshape(-1, columns)
    except (DatasetError, ValueError):
        return None


def _hash(fingerprint: str, body: Any) -> bytes:
    digest = hashlib.sha256(fingerprint.encode())
    digest.update(body)
    return digest.digest()
