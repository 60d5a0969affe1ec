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
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import families
from peers import MAX_LENGTH

FOLDER = Path(__file__).parent
DATA = Path(os.environ.get("SFTPREP_DATA", FOLDER.parents[2] / "shared" / "data"))
SFTPREP = Path(sys.executable).with_name("sftprep")
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


def profile(source: Path, tokenizer: Path, workers: int = 2) -> str:
    """What the worker processes' time goes to, as the closing table of `sftprep build` says it."""
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        command = [SFTPREP, "build", source, "-o", f"{out}/ds", "-t", tokenizer, "--max-length", str(MAX_LENGTH), "-v"]
        environment = os.environ | {"COLUMNS": "250"}
        done = subprocess.run(
            [*map(str, command), "--workers", str(workers)], env=environment, capture_output=True, text=True, check=True
        )
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    return "; ".join(line for line in lines if line.startswith(("time went to", "rendered fast")))


def run_peer(name: str, source: Path, tokenizer: Path, texts: Path) -> float:
    """Seconds that a peer needs, in a process of its own."""
    command = [sys.executable, FOLDER / "peers.py", name, source, tokenizer, texts]
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


def markdown(header: str, rows: list[str]) -> str:
    """A table; cells are separated by `|`."""
    lines = [header, "|".join(["---"] * len(header.split("|"))), *rows]
    return "\n".join(f"|{line}|" if set(line) == set("-|") else f"| {line} |" for line in lines)


def table(results: list[dict]) -> str:
    header = "tokenizer | job, s | MB/s | M tokens/s | peak MB | x bare fastokens | x faster: tokenizers alone "
    header += "| whole job on `hf` | TRL's map | the seed | disk alone, s"
    rows = []
    for each in results:
        job = each["seconds"]
        rows.append(
            f"{each['tokenizer']} | {job:.2f} | {each['mb_s']:.1f} | {each['tokens_s'] / 1e6:.2f} | {each['peak_mb']:.0f} "
            f"| {job / each['fastokens_s']:.2f} | {each['tokenizers_s'] / job:.1f} | {each['hf_job_s'] / job:.1f} "
            f"| {each['trl_s'] / job:.0f} | {each['seed_s'] / job:.0f} | {each['disk_s']:.2f}"
        )
    return markdown(header, rows)


def margin_table(results: list[dict]) -> str:
    """What of the job is paid once, and how it compares where that does not count."""
    header = "tokenizer | job on one conversation, s | with bare fastokens, s | job / that | bare fastokens, cold, s "
    header += "| job / that | corpus once more, s | x bare fastokens | x faster: `hf` | TRL's map"
    rows = []
    for each in results:
        job, once, margin, bare = each["seconds"], each["one_s"], each["margin_s"], each["fastokens_s"]
        cold = each["fastokens_cold_s"]
        rows.append(
            f"{each['tokenizer']} | {once:.2f} | {once + bare:.2f} | {job / (once + bare):.2f} | {cold:.2f} | {job / cold:.2f} "
            f"| {margin:.2f} | {margin / bare:.2f} | {(each['hf_job_s'] - once) / margin:.0f} | {each['trl_s'] / margin:.0f}"
        )
    return markdown(header, rows)


def growth(source: Path, tokenizer: Path, folder: Path) -> str:
    """Time and memory from 10 MB to 2 GB: the corpus cut or repeated."""
    rows = []
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
        rows.append(f"{size / 1e6:.0f} | {job['seconds']:.2f} | {rate:.1f} | {job['peak_mb']:.0f}")
        path.unlink()
        print(rows[-1], file=sys.stderr)
    return markdown("input MB | job, s | MB/s | peak MB", rows)


def main() -> None:
    if sys.argv[1:2] == ["--launch"]:
        launch(sys.argv[2:])
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokenizers", default="qwen3,llama3_1,minimind-3")
    parser.add_argument("--growth", action="store_true", help="also from 10 MB to 2 GB (needs 25 GB of disk)")
    args = parser.parse_args()
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
            "What is paid once: a job on one conversation starts up, loads the tokenizer and commits. With bare "
            "fastokens it is what a job would take at which all other work were free. Cold, bare fastokens is a script of five lines: "
            "import, load tokenizer.json, encode texts ready rendered. Last, what the corpus costs when it is not the first: "
            f"repeated {TIMES} times, less the corpus, a {TIMES - 1}th of it.\n",
            margin_table(results),
        ]
        rows = families.rows(DATA, source, run_job, profile)
        text += ["", f"{families.__doc__}", markdown(families.HEADER, rows)]
        if args.growth:
            text += ["\nGrowth, qwen3:\n", growth(source, DATA / "tokenizers" / "qwen3", folder)]
        (FOLDER / "RESULTS.md").write_text("\n".join(text) + "\n")
        print("\n".join(text))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
