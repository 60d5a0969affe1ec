"""Writes a dataset in another trainer's form: the folder is whole, or not there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sftprep.dataset.folders import make_folder
from sftprep.dataset.staged import naming, sync_folder
from sftprep.errors import DatasetError
from sftprep.exports.examples import Exported, OpenedRows
from sftprep.exports.kinds import export_to


def export_dataset(
    folder: Path, form: str, output: Path, progress: Callable[[int], None] = lambda conversations: None
) -> Exported:
    """Write the dataset in `folder` in a form of EXPORTS to the new folder `output`.

    progress: is told how many conversations were just written. Raises DatasetError where there is no sound dataset or the
    output is there already, ConfigError where the form cannot hold what the dataset does, StorageError where it cannot be
    written.
    """
    rows = OpenedRows(folder, progress)
    with naming(output):
        if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(output.iterdir()))):
            raise DatasetError(f"{output}: there already; an export goes into a new folder")
    make_folder(output.parent)
    with naming(output):
        staged = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        done = export_to(form)(rows, staged)
        with naming(output):
            staged.chmod(0o755)  # as any folder is made; that of a temporary one is for its maker only
            staged.rename(output)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(staged)
        raise
    sync_folder(output.parent)
    return done
