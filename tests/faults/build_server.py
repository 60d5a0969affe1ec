"""Runs `sftprep` for the fault tests, each time in a process forked from this one, which has imported all of it.

A line of JSON in, a line out. {"arguments": [...], "folder": working folder, "output": file for what it prints, "stop":
null, "main", "worker", "workers" or "receipt"} starts a command and gives its pid, which is also its session; {"wait": pid,
"seconds": most} gives its exit code, negative for a signal, null when the time is over. A stopped process waits for
SIGCONT, so that strace can be attached before it does anything: "main" is the command itself, "worker" the first
worker that it forks, "workers" each of them, "receipt" a worker when three splits have their receipts.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import count
from typing import Any

# What a build imports only when it needs it: done here, so that nearly every call that strace counts is one of its own.
LAZY = ["difflib", "email.parser", "encodings.unicode_escape", "multiprocessing.popen_fork", "pyarrow.parquet"]
LAZY += ["rich._emoji_codes", "sftprep.jobs.build", "sftprep.jobs.work", "tokenizers"]


def serve() -> dict[str, Any] | None:
    """Answer requests until the input ends; in a forked child, return the request that it was forked for."""
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        if "wait" in request:
            answer = wait(request["wait"], request["seconds"])
        else:
            pid = os.fork()
            if pid == 0:
                return request
            if request["stop"] == "main":
                os.waitpid(pid, os.WUNTRACED)
            answer = pid
        print(json.dumps(answer), flush=True)
    return None


def wait(pid: int, seconds: float) -> int | None:
    ended = select.poll()
    descriptor = os.pidfd_open(pid)
    ended.register(descriptor, select.POLLIN)
    in_time = ended.poll(seconds * 1000)
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if in_time else None


def run(request: dict[str, Any]) -> None:
    """Be the command."""
    from sftprep.cli.commands import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes its background jobs ignore it
    os.setsid()
    os.chdir(request["folder"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if request["stop"] in ("worker", "workers"):
        once = request["output"] + ".stopped" if request["stop"] == "worker" else None
        main_process, forked = os.getpid(), []
        os.register_at_fork(
            before=lambda: forked.append(os.getpid()),
            # the first child runs the template over a little talk, and is no worker
            after_in_child=lambda: stop(once) if os.getppid() == main_process and len(forked) > 1 else None,
        )
    if request["stop"] == "receipt":
        receipts = count(1)
        sys.addaudithook(lambda event, args: stop_after(receipts) if is_receipt(event, args) else None)
    if request["stop"] == "main":
        os.kill(os.getpid(), signal.SIGSTOP)
    main(request["arguments"], prog_name="sftprep")


def stop(once: str | None) -> None:
    with suppress(FileExistsError):
        if once is not None:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGSTOP)


def is_receipt(event: str, args: tuple[Any, ...]) -> bool:
    return event == "os.rename" and "/receipts/" in os.fspath(args[1])


def stop_after(receipts: Iterator[int]) -> None:
    if next(receipts) > 3:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # another thread might take it later


if __name__ == "__main__":
    import pyarrow

    for module in LAZY:
        import_module(module)
    pyarrow.array([0])  # imports pandas, where that is installed

    todo = serve()
    if todo is not None:
        run(todo)
