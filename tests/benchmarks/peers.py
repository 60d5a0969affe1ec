"""What the whole job is compared with; each peer runs in a process of its own and prints its seconds.

    python tests/benchmarks/peers.py NAME SOURCE TOKENIZER TEXTS

SOURCE is JSONL of conversations, TOKENIZER a folder, TEXTS a pickle of the conversations ready rendered (for
`disk`, a number of bytes).
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_LENGTH = 1024


def peer_fastokens(source: Path, tokenizer: Path, texts: Path) -> float:
    """(a) bare fastokens.encode_batch_flat over ready-rendered texts, 2 threads."""
    os.environ["FASTOKENS_BPE_THREADS"] = "2"
    import fastokens

    engine = fastokens.Tokenizer.from_json_str(_backend(tokenizer).to_str())
    ready = pickle.loads(texts.read_bytes())
    begin = time.perf_counter()
    engine.encode_batch_flat(ready)
    return time.perf_counter() - begin


def peer_fastokens_cold(source: Path, tokenizer: Path, texts: Path) -> float:
    """(a) with what comes before it: seconds from the shell until a script of five lines has the ids."""
    script = "import sys, pickle, fastokens; from pathlib import Path\n"
    script += "engine = fastokens.Tokenizer.from_json_str(Path(sys.argv[1]).read_text(encoding='utf-8'))\n"
    script += "engine.encode_batch_flat(pickle.loads(Path(sys.argv[2]).read_bytes()))"
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", script, tokenizer / "tokenizer.json", texts],
        env=os.environ | {"FASTOKENS_BPE_THREADS": "2"},
        check=True,
    )
    return time.perf_counter() - begin


def peer_tokenizers(source: Path, tokenizer: Path, texts: Path) -> float:
    """(b) tokenizers.encode_batch_fast over ready-rendered texts, 2 threads, in batches of 1000."""
    os.environ["RAYON_NUM_THREADS"] = "2"
    engine = _backend(tokenizer)
    ready = pickle.loads(texts.read_bytes())
    begin = time.perf_counter()
    for start in range(0, len(ready), 1000):
        engine.encode_batch_fast(ready[start : start + 1000], add_special_tokens=False)
    return time.perf_counter() - begin


def peer_trl(source: Path, tokenizer: Path, texts: Path) -> float:
    """(c) TRL's way: datasets.map of apply_chat_template(return_assistant_tokens_mask=True), 2 processes."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    template = _with_generation_blocks(loaded.chat_template)
    rows = [{"messages": json.loads(line)["conversations"]} for line in source.open(encoding="utf-8")]
    dataset = datasets.Dataset.from_list(rows)

    def tokenize(example: dict) -> dict:
        return dict(
            loaded.apply_chat_template(
                example["messages"],
                chat_template=template,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
        )

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        dataset.map(tokenize, num_proc=2, cache_file_name=f"{cache}/map.arrow", load_from_cache_file=False)
        return time.perf_counter() - begin


def _with_generation_blocks(template: str) -> str:
    # the work of marking is the same wherever the blocks stand: a block around each assistant branch's output
    marked = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}{%- if message.role == 'assistant' %}"
    marked += "{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}{%- else %}"
    return marked + "{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}"


def peer_seed(source: Path, tokenizer: Path, texts: Path) -> float:
    """(d) the seed's per-item __getitem__: template, tokenizer, pad, mask loop in Python, tensors; one process."""
    import torch
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    begin_ids = loaded(f"{loaded.bos_token or '<|im_start|>'}assistant", add_special_tokens=False).input_ids
    end_ids = loaded(f"{loaded.eos_token}", add_special_tokens=False).input_ids
    pad = loaded.pad_token_id if loaded.pad_token_id is not None else loaded.eos_token_id
    rows = [json.loads(line)["conversations"] for line in source.open(encoding="utf-8")]
    begin = time.perf_counter()
    for conversation in rows:
        text = loaded.apply_chat_template(conversation, tokenize=False, add_generation_prompt=False)
        ids = loaded(text).input_ids[:MAX_LENGTH]
        ids += [pad] * (MAX_LENGTH - len(ids))
        mask = [0] * len(ids)
        i = 0
        while i < len(ids):
            if ids[i : i + len(begin_ids)] != begin_ids:
                i += 1
                continue
            start = stop = i + len(begin_ids)
            while stop < len(ids) and ids[stop : stop + len(end_ids)] != end_ids:
                stop += 1
            for j in range(start + 1, min(stop + len(end_ids) + 1, MAX_LENGTH)):
                mask[j] = 1
            i = stop + len(end_ids) if stop < len(ids) else len(ids)
        torch.tensor(ids[:-1]), torch.tensor(ids[1:]), torch.tensor(mask[1:])
    return time.perf_counter() - begin


def peer_disk(source: Path, tokenizer: Path, texts: Path) -> float:
    """What the disk alone needs to take as many bytes as the dataset has: write and fsync, 48 files at a time."""
    size = int(texts.name)
    block = os.urandom(1 << 20)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        for part in range(48):
            with Path(folder, str(part)).open("wb", buffering=0) as file:
                for _ in range(-(-size // 48 // len(block))):
                    file.write(block)
                os.fsync(file.fileno())
        return time.perf_counter() - begin


PEERS = {
    "fastokens": peer_fastokens,
    "fastokens_cold": peer_fastokens_cold,
    "tokenizers": peer_tokenizers,
    "trl": peer_trl,
    "seed": peer_seed,
    "disk": peer_disk,
}


def _backend(tokenizer: Path):
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(tokenizer).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


if __name__ == "__main__":
    peer, *given = sys.argv[1:]
    print(PEERS[peer](*map(Path, given)))
