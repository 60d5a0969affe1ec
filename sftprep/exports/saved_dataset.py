"""Folders as `datasets.Dataset.save_to_disk` makes them: a file of Arrow batches a shard, and two of JSON.

`datasets.load_from_disk` reads them, and so do the trainers that take conversations as they are tokenized already.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sftprep.dataset.folders import make_folder
from sftprep.dataset.manifest import ShardEntry
from sftprep.dataset.staged import naming, publish_bytes, sync_folder
from sftprep.errors import ConfigError
from sftprep.exports.examples import Examples, Exported, OpenedRows

_COLUMNS: dict[str, tuple[str, Callable[[Examples], npt.NDArray[Any]]]] = {  # one entry an id, of that Arrow type
    "input_ids": ("int32", lambda examples: examples.ids),
    "attention_mask": ("int8", lambda examples: np.ones(len(examples.ids))),  # nothing is padded
    "labels": ("int32", Examples.labels),
    "loss_weights": ("float32", lambda examples: examples.weights),
}
_MEDIA = ("images", "videos", "audios")  # columns of nulls


def hf(rows: OpenedRows, folder: Path) -> Exported:
    """For Transformers' Trainer; with a column of weights where the dataset has them."""
    names = ["input_ids", "attention_mask", "labels"]
    return _save(rows, folder, [*names, "loss_weights"] if rows.weighted else names)


def trl(rows: OpenedRows, folder: Path) -> Exported:
    """For TRL's SFTTrainer, which tokenizes nothing where it finds `input_ids`."""
    return _save(_unweighted(rows, "trl"), folder, ["input_ids", "labels"])


def axolotl(rows: OpenedRows, folder: Path) -> Exported:
    """For Axolotl, which takes a dataset of exactly these columns for one that is tokenized."""
    return _save(_unweighted(rows, "axolotl"), folder, ["input_ids", "attention_mask", "labels"])


def llama_factory(rows: OpenedRows, folder: Path) -> Exported:
    """For LLaMA-Factory's `tokenized_path`: a dictionary of sets, with columns for what is not text."""
    columns = ["input_ids", "attention_mask", "labels", *_MEDIA]
    return _save_sets(_unweighted(rows, "llama-factory"), folder, columns)


def _unweighted(rows: OpenedRows, name: str) -> OpenedRows:
    if rows.weighted:
        raise ConfigError(f"{rows.folder}: its mask holds weights, for which {name} has no column; --to hf keeps them")
    return rows


def _save(rows: OpenedRows, folder: Path, columns: Sequence[str]) -> Exported:
    """Write a dataset, or a dictionary of them where there is a validation set."""
    if len(rows.sets) > 1:
        return _save_sets(rows, folder, columns)
    return _save_set(rows, folder, columns, "train", Exported())


def _save_sets(rows: OpenedRows, folder: Path, columns: Sequence[str]) -> Exported:
    """Write a dictionary of datasets, by the name of the set."""
    done = Exported()
    for name in rows.sets:
        make_folder(folder / name)
        _save_set(rows, folder / name, columns, name, done)
    publish_bytes(folder / "dataset_dict.json", _json({"splits": list(rows.sets)}))
    return done


def _save_set(rows: OpenedRows, folder: Path, columns: Sequence[str], of: str, done: Exported) -> Exported:
    """Write a set into a folder, a file a shard, and count it."""
    features = {name: _feature(name) for name in columns}
    types = {name: pa.null() if name in _MEDIA else pa.list_(pa.type_for_alias(_COLUMNS[name][0])) for name in columns}
    schema = pa.schema(types, {"huggingface": json.dumps({"info": {"features": features}})})
    shards = rows.manifest.shards_of(of, rows.folder)
    names = [f"data-{number:05d}-of-{len(shards):05d}.arrow" for number in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        _write_file(folder / name, schema, rows, shard, done)
    sync_folder(folder)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": rows.manifest.fingerprint[:16]}
    unused: dict[str, Any] = {
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
    }
    publish_bytes(folder / "state.json", _json({**state, **unused, "_split": of}))
    publish_bytes(folder / "dataset_info.json", _json({"features": features}))
    return done


def _write_file(path: Path, schema: pa.Schema, rows: OpenedRows, shard: ShardEntry, done: Exported) -> None:
    with naming(path), path.open("xb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for examples in rows.examples(shard):
                writer.write_batch(pa.record_batch([_column(examples, field) for field in schema], schema))
                done.add(examples)
        file.flush()
        os.fsync(file.fileno())


def _column(examples: Examples, field: pa.Field) -> pa.Array:
    if field.name in _MEDIA:
        return pa.nulls(len(examples.offsets) - 1)
    values = _COLUMNS[field.name][1](examples)
    return pa.ListArray.from_arrays(
        pa.array(examples.offsets, pa.int32()), pa.array(values).cast(field.type.value_type)
    )


def _feature(name: str) -> dict[str, Any]:
    """A column as `datasets` describes it, in words that all its versions know."""
    if name in _MEDIA:
        return {"dtype": "null", "_type": "Value"}
    return {"feature": {"dtype": _COLUMNS[name][0], "_type": "Value"}, "_type": "Sequence"}


def _json(stated: dict[str, Any]) -> bytes:
    return json.dumps(stated, indent=2).encode() + b"\n"
