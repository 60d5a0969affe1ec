"""Files that are not what their names say."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftprep.containers.first_bytes import check_file
from sftprep.errors import InputError

TEXT = '{"messages": [{"role": "user", "content": "Grüße"}]}\n'
LINE = TEXT.encode()
GZIP = gzip.compress(LINE)
ZSTD = b"\x28\xb5\x2f\xfd rest"
FINE = {
    "a.jsonl": LINE,
    "b.json": b"",
    "c.jsonl": b"one bad line",
    "d.jsonl": b"\n".join([*[b"bad"] * 9, LINE]),
    "e.jsonl.gz": GZIP,
    "f.jsonl.bz2": bz2.compress(LINE),
    "g.jsonl.xz": lzma.compress(LINE),
    "h.json": b"\xef\xbb\xbf\n [",
    "i.jsonl": b"\xff\xfe" + LINE,
    "j.arrow": b"\x10\0\0\0 a stream as it was until 2019",
}
WRONG = {
    "a.jsonl": (
        TEXT.encode("utf-16"),
        "is UTF-16; expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8 a.jsonl > utf8-a.jsonl",
    ),
    "b.jsonl": (TEXT.encode("utf-16-le"), "iconv -f UTF-16LE"),
    "c.json": (TEXT.encode("utf-16-be"), "iconv -f UTF-16BE"),
    "d.json": (TEXT.encode("utf-32"), "is UTF-32; expected UTF-8; convert it: iconv -f UTF-32 "),
    "e.jsonl": (TEXT.encode("utf-32-be"), "iconv -f UTF-32BE"),
    "f.jsonl.gz": (gzip.compress(TEXT.encode("utf-16")), "is UTF-16"),
    "g.jsonl": (b"prompt,completion\nWho?,Me.\n", "none of its first 2 lines begins with { or ["),
    "h.jsonl.gz": (gzip.compress(b"a\n" * 20), "none of its first 10 lines"),
    "i.jsonl": (GZIP, "is gzip, not JSON; rename it to i.jsonl.gz"),
    "j.jsonl.gz": (LINE, "does not begin as gzip does; if it is not compressed, take .gz away"),
    "k.jsonl.gz": (ZSTD, "is zstd, not gzip; rename it to k.jsonl.zst"),
    "l.jsonl": (b"PAR1 PAR1", "is Parquet, not JSON; rename it to l.parquet"),
    "m.parquet": (b"ARROW1 ARROW1", "is Arrow; expected Parquet; give it its right name"),
    "n.parquet": (LINE, "is something else; expected Parquet"),
    "o.parquet": (b"PAR1 data", "is cut off: a Parquet file ends with PAR1; fetch it again"),
    "p.parquet": (b"PARE data PARE", "is encrypted Parquet; expected Parquet; decrypt it"),
    "q.parquet": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a pointer of Git LFS; expected Parquet; fetch the file",
    ),
    "r.parquet": (b"", "has no bytes; expected Parquet"),
    "s.arrow": (GZIP, "is gzip; expected Arrow"),
    "t.json": (b"PK\3\4 zip", "is zip, not JSON; unpack it"),
}


@pytest.mark.parametrize("name", FINE)
def test_files_that_may_be_what_they_say(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FINE[name])
    check_file(str(tmp_path / name))


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_something_else_is_named_with_what_helps(tmp_path: Path, name: str) -> None:
    data, said = WRONG[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        check_file(str(tmp_path / name))
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert said in str(caught.value)


def test_what_is_said_to_help_does(tmp_path: Path) -> None:
    """The commands in the messages, as they stand there."""
    for name, data in {"a.jsonl": TEXT.encode("utf-16"), "FILE.csv": b"prompt,completion\nWho?,Me.\n"}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "b.jsonl").write_bytes((tmp_path / "FILE.csv").read_bytes())
    for name, before in (("a.jsonl", "convert it: "), ("b.jsonl", "becomes lines of JSON by ")):
        with pytest.raises(InputError) as caught:
            check_file(str(tmp_path / name))
        command = str(caught.value).partition(before)[2].replace("python -c", "python3 -c")
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "utf8-a.jsonl").read_bytes().removeprefix(b"\xef\xbb\xbf") == LINE
    assert (tmp_path / "FILE.jsonl").read_text() == '{"prompt": "Who?", "completion": "Me."}\n'


def test_real_columnar_files_are_what_they_say(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]})
    pq.write_table(table, tmp_path / "x.parquet")
    for form in (pa.ipc.new_file, pa.ipc.new_stream):
        with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, form(file, table.schema) as writer:
            writer.write_table(table)
        check_file(str(tmp_path / "x.arrow"))
    check_file(str(tmp_path / "x.parquet"))
