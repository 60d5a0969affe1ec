"""The whole job against its peers, in one run: `make bench` prints the table and writes RESULTS.md.

Every figure is a ratio of times measured in this run on this machine. The job is the installed command, cold, in a
process of its own: start-up, loading the tokenizer, reading, rendering, tokenizing, masking, writing, fsync and commit.
The peers get what they need for free: texts ready rendered and tokenizers loaded are not on their clock.

    python tests/benchmarks/bench.py [--rounds 5] [--tokenizers qwen3,llama3_1,minimind-3] [--growth]
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
DATA = Path(os.environ.get("SFTPREP_DATA", FOLDER.parents[2] / "shared" / "data"))
SFTPREP = Path(sys.executable).with_name("sftprep")
MAX_LENGTH = 1024
SLOW_ROUNDS = 2
TIMES = 5  # how often the corpus is repeated to find what it costs when start-up does not count


def corpus(folder: Path) -> Path:
    import zstandard

    target = folder / "mixed-24k.jsonl"
    with (DATA / "conversations" / "mixed-24k.jsonl.zst").open("rb") as packed, target.open("wb") as out:
        zstandard.ZstdDecompressor().copy_stream(packed, out)
    return target


def subset(source: Path, every: int) -> Path:
    """Every so-many-th conversation: the mix of sources and lengths stays that of the whole."""
    target = source.with_name(f"every-{every}.jsonl")
    lines = source.read_bytes().splitlines(keepends=True)[::every]
    target.write_bytes(b"".join(lines))
    return target


def run_job(source: Path, tokenizer: Path, *options: str, workers: int = 2) -> dict[str, float]:
    """Seconds, and the largest process's memory in MB, of one cold `sftprep build`."""
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        command = [SFTPREP, "build", source, "-o", f"{out}/ds", "-t", tokenizer, "--max-length", str(MAX_LENGTH)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        run = [sys.executable, __file__, "--launch", *command, "--workers", workers, "--quiet", *options]
        done = subprocess.run(list(map(str, run)), env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"sftprep build failed on {source}: {done.stderr}")
        seconds, peak = map(float, done.stdout.split())
        manifest = json.loads(Path(f"{out}/ds/manifest.json").read_text())
        size = sum(entry["bytes"] for entry in manifest["files"].values())
    return {"seconds": seconds, "peak_mb": peak, "tokens": manifest["totals"]["tokens"], "bytes": size}


def launch(command: list[str]) -> None:
    """Print a command's seconds and its largest process in MB. From a process of its own: what the one that starts a
    command has ever held in memory counts as the command's."""
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    print(time.perf_counter() - begin, usage.ru_maxrss / 1024)
    sys.exit(os.waitstatus_to_exitcode(status))


def profile(source: Path, tokenizer: Path) -> str:
    """What the worker processes' time goes to, as the closing table of `sftprep build` says it."""
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        command = [SFTPREP, "build", source, "-o", f"{out}/ds", "-t", tokenizer, "--max-length", str(MAX_LENGTH)]
        environment = os.environ | {"COLUMNS": "250"}
        done = subprocess.run(
            [*map(str, command), "--workers", "2"], env=environment, capture_output=True, text=True, check=True
        )
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    return "; ".join(line for line in lines if line.startswith(("time went to", "replayed")))


def run_peer(name: str, source: Path, tokenizer: Path, texts: Path) -> float:
    """Seconds that a peer needs, in a process of its own, started with this file's `--peer`."""
    command = [sys.executable, __file__, "--peer", name, "--source", source, "--tokenizer", tokenizer, "--texts", texts]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def render_all(source: Path, tokenizer: Path, target: Path) -> Path:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    conversations = [json.loads(line)["conversations"] for line in source.open(encoding="utf-8")]
    texts = [loaded.apply_chat_template(each, tokenize=False) for each in conversations]
    target.write_bytes(pickle.dumps(texts))
    return target


# --- the peers: each prints its seconds ---------------------------------------------------------------------------


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


# --- the table ----------------------------------------------------------------------------------------------------


def measure(name: str, source: Path, rounds: int) -> dict[str, float | str]:
    """The job and its peers, by turns. Slow peers get an eighth of the corpus, and fewer rounds."""
    tokenizer = DATA / "tokenizers" / name
    eighth = subset(source, 8)
    texts = render_all(source, tokenizer, source.with_name(f"texts-{name}"))
    few = render_all(eighth, tokenizer, source.with_name(f"few-{name}"))
    run_job(source, tokenizer)  # the first job of a tokenizer asks Transformers and proves the engine; both are cached
    one, repeated = source.with_name("one.jsonl"), source.with_name("repeated.jsonl")
    one.write_bytes(source.read_bytes().partition(b"\n")[0])
    repeated.write_bytes(source.read_bytes() * TIMES)
    jobs, hf_jobs, ones, repeated_jobs = [], [], [], []
    peers = {"fastokens": [], "fastokens_cold": [], "tokenizers": [], "trl": [], "seed": []}
    for number in range(rounds):
        jobs.append(run_job(source, tokenizer))
        peers["fastokens"].append(run_peer("fastokens", source, tokenizer, texts))
        if number < SLOW_ROUNDS:
            peers["fastokens_cold"].append(run_peer("fastokens_cold", source, tokenizer, texts))
            ones.append(run_job(one, tokenizer)["seconds"])
            repeated_jobs.append(run_job(repeated, tokenizer)["seconds"])
            hf_jobs.append(run_job(source, tokenizer, "--tokenizer-engine", "hf")["seconds"])
            for peer in ("tokenizers", "trl", "seed"):
                peers[peer].append(
                    run_peer(peer, eighth, tokenizer, few) * source.stat().st_size / eighth.stat().st_size
                )
    seconds = statistics.median(job["seconds"] for job in jobs)
    result = {
        "tokenizer": name,
        "seconds": seconds,
        "mb_s": source.stat().st_size / seconds / 1e6,
        "tokens_s": jobs[0]["tokens"] / seconds,
        "peak_mb": max(job["peak_mb"] for job in jobs),
        **{f"{peer}_s": statistics.median(times) for peer, times in peers.items()},
        "hf_job_s": statistics.median(hf_jobs),
        "one_s": statistics.median(ones),
        "margin_s": (statistics.median(repeated_jobs) - seconds) / (TIMES - 1),
        "disk_s": run_peer("disk", source, tokenizer, source.with_name(str(int(jobs[0]["bytes"])))),
        "profile": profile(source, tokenizer),
    }
    print(json.dumps(result), file=sys.stderr)
    return result


def table(results: list[dict]) -> str:
    lines = [
        "| tokenizer | job, s | MB/s | M tokens/s | peak MB | x bare fastokens | x faster: tokenizers alone "
        "| whole job on `hf` | TRL's map | the seed | disk alone, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        job = each["seconds"]
        lines.append(
            f"| {each['tokenizer']} | {job:.2f} | {each['mb_s']:.1f} | {each['tokens_s'] / 1e6:.2f} | {each['peak_mb']:.0f} "
            f"| {job / each['fastokens_s']:.2f} | {each['tokenizers_s'] / job:.1f} | {each['hf_job_s'] / job:.1f} "
            f"| {each['trl_s'] / job:.0f} | {each['seed_s'] / job:.0f} | {each['disk_s']:.2f} |"
        )
    return "\n".join(lines)


def margin_table(results: list[dict]) -> str:
    """What of the job is paid once, and how it compares where that does not count."""
    lines = [
        "| tokenizer | job on one conversation, s | bare fastokens, cold, s | job / that | corpus once more, s | x bare fastokens "
        "| x faster: `hf` | TRL's map |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        once, margin, cold = each["one_s"], each["margin_s"], each["fastokens_cold_s"]
        lines.append(
            f"| {each['tokenizer']} | {once:.2f} | {cold:.2f} | {each['seconds'] / cold:.2f} | {margin:.2f} "
            f"| {margin / each['fastokens_s']:.2f} | {(each['hf_job_s'] - once) / margin:.0f} | {each['trl_s'] / margin:.0f} |"
        )
    return "\n".join(lines)


def growth(source: Path, tokenizer: Path, folder: Path) -> str:
    """Time and memory from 10 MB to 2 GB: the corpus cut or repeated."""
    lines = ["| input MB | job, s | MB/s | peak MB |", "|---|---|---|---|"]
    data = source.read_bytes()
    for megabytes in (10, 50, 250, 1000, 2000):
        path = folder / f"grown-{megabytes}.jsonl"
        with path.open("wb") as out:
            left = megabytes * 1_000_000
            while left > 0:
                piece = data if left >= len(data) else data[: data.rindex(b"\n", 0, left) + 1]
                out.write(piece)
                left -= max(len(piece), 1) if piece is data else left
        job = run_job(path, tokenizer)
        size = path.stat().st_size
        rate = size / job["seconds"] / 1e6
        lines.append(f"| {size / 1e6:.0f} | {job['seconds']:.2f} | {rate:.1f} | {job['peak_mb']:.0f} |")
        path.unlink()
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--launch"]:
        launch(sys.argv[2:])
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokenizers", default="qwen3,llama3_1,minimind-3")
    parser.add_argument("--growth", action="store_true", help="also from 10 MB to 2 GB (needs 25 GB of disk)")
    parser.add_argument("--peer")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--texts", type=Path)
    args = parser.parse_args()
    if args.peer:
        print(PEERS[args.peer](args.source, args.tokenizer, args.texts))
        return
    folder = Path(tempfile.mkdtemp(prefix="sftprep-bench-", dir=os.environ.get("SFTPREP_BENCH_FOLDER")))
    try:
        source = corpus(folder)
        results = [measure(name, source, args.rounds) for name in args.tokenizers.split(",")]
        text = [
            "# Results\n",
            f"`make bench` on {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}: "
            f"mixed-24k, {source.stat().st_size / 1e6:.0f} MB, `--max-length {MAX_LENGTH}`, padded, 2 workers, "
            f"median of {args.rounds} rounds ({min(args.rounds, SLOW_ROUNDS)} for all but the job and bare fastokens). The job is timed "
            "cold, from the shell; its peers without loading, the first two also without rendering. All but bare "
            "fastokens and the job on `hf` get an eighth of the corpus, and their time is scaled.\n",
            table(results),
            "",
            *(f"{each['tokenizer']}: {each['profile']}\n" for each in results),
            "What is paid once, and what the corpus costs when it is not the first (the corpus repeated "
            f"{TIMES} times, less the corpus, a {TIMES - 1}th of it). Cold, bare fastokens is a script of five lines: import, load "
            "tokenizer.json, encode texts ready rendered.\n",
            margin_table(results),
        ]
        if args.growth:
            text += ["\nGrowth, qwen3:\n", growth(source, DATA / "tokenizers" / "qwen3", folder)]
        (FOLDER / "RESULTS.md").write_text("\n".join(text) + "\n")
        print("\n".join(text))
    finally:
        shutil.rmtree(folder)
        resource.getrusage(resource.RUSAGE_CHILDREN)


if __name__ == "__main__":
    main()
