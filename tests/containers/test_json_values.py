"""Chunks -> records that are JSON values: against a slow oracle and the decoder, and bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import chunks_of, cut_points, json_documents

from sftprep.containers.json_values import array_elements, elements_from, values
from sftprep.containers.record import Record, Start
from sftprep.errors import InputError

LIMIT = 40


def test_array_golden() -> None:
    text = b'\xef\xbb\xbf [\n {"a": [1, {"}": "\\"],\\\\"}]},\n\n {"b": "]"} ,3,\n"x,y"\n]\n\n'
    for point in range(3, len(text)):
        records = list(array_elements([text[:point], text[point:]], Start(4, "x.json"), LIMIT))
        assert [json.loads(record.data) for record in records] == [{"a": [1, {"}": '"],\\'}]}, {"b": "]"}, 3, "x,y"]
        assert [record.line for record in records] == [2, 4, 4, 5]
        assert all(text[record.offset :].startswith(record.data) for record in records)
        assert {(record.source, record.error) for record in records} == {(4, None)}


@given(st.lists(json_documents(), max_size=5), st.booleans(), cut_points())
def test_array_elements_are_those_of_the_decoder(documents: list[object], indented: bool, points: list[int]) -> None:
    text = json.dumps(documents, indent=1 if indented else None, ensure_ascii=indented).encode()
    records = list(array_elements(chunks_of(text, points), Start(0, "x.json"), 1 << 20))
    assert [json.loads(record.data) for record in records] == documents
    for record in records:
        assert text[record.offset : record.offset + len(record.data)] == record.data
        assert record.line == text.count(b"\n", 0, record.offset) + 1


def read_array(chunks: list[bytes]) -> tuple[list[Record], str]:
    """Records of an array, and what is said of its container; "" if that is whole."""
    found = []
    try:
        for record in array_elements(chunks, Start(0, "x.json"), LIMIT):
            found.append(record)  # noqa: PERF402 - what came before an error counts, too
    except InputError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[]", []),
        (b"[ \n ] \n", []),
        (b"[1,]", [b"1", "an empty array element"]),
        (b"[,1]", ["an empty array element", b"1"]),
        (b"[1,,2]", [b"1", "an empty array element", b"2"]),
        (b"[{], 2]", [b"{]", b"2"]),
        (b'["a" "b", tru, {"a" 1}]', [b'"a" "b"', b"tru", b'{"a" 1}']),
        (b"[1, " + b"2" * LIMIT + b", 3]", [b"1", f"record of {LIMIT + 1} bytes; at most {LIMIT} are read", b"3"]),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_broken_element_costs_one_record(text: bytes, expected: list[bytes | str], size: int) -> None:
    found, fault = read_array([text[start : start + size] for start in range(0, len(text), size)])
    assert [record.error or record.data for record in found] == expected
    assert all(record.data == b"" for record in found if record.error)
    assert fault == ""


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (b"[", 1, "the array is not closed"),
        (b"[1,\n\n2", 3, "the array is not closed"),
        (b"[1,\n", 2, "the array is not closed"),
        (b'[1,\n{"a":\n2', 2, "the array is not closed"),
        (b'[1,\n{"a": "2},\n3]', 2, "the array is not closed"),
        (b'[1,\n{"a": [2},\n3]', 2, "the array is not closed"),
        (b"[\n" + b"2" * 99, 1, "the array is not closed"),
        (b"[1,\n2\n}", 3, "'}' where the array's ']' belongs"),
        (b'[1,\n{"a": 2}}, 3]', 2, "'}' where the array's ']' belongs"),
        (b"[1]\n\n[2]", 3, "text after the end of the array"),
        (b"[1]\n{}", 2, "text after the end of the array"),
        (b"[1]\n 2", 2, "text after the end of the array"),
        (b"[1]]", 1, "text after the end of the array"),
        (b"[1]\n\0\0", 2, "text after the end of the array"),
        (b"[1]" + b" " * 99 + b"x", 1, "text after the end of the array"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_broken_array_is_an_error_with_its_line(text: bytes, line: int, what: str, size: int) -> None:
    found, fault = read_array([text[start : start + size] for start in range(0, len(text), size)])
    assert fault.startswith(f"x.json:{line}: {what}")
    assert [record.data for record in found] == [b"1"] * text.startswith((b"[1,", b"[1]"))


def fault_slowly(text: bytes) -> str:
    """What breaks the container of a text that starts with `[`, byte by byte."""
    depth, quoted, escaped = 0, False, False
    for position, byte in enumerate(text):
        character = chr(byte)
        if escaped and character in '"\\':
            escaped = False
            continue
        escaped = character == "\\"
        if escaped:
            continue
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "[{":
            depth += 1
        elif not quoted and character in "]}":
            depth -= 1
            if depth == 0 and character == "}":
                return "'}' where"
            if depth == 0:
                return "text after" if text[position + 1 :].strip() else ""
    return "the array is not closed"


@given(st.binary(max_size=200) | st.text('[]{},"\\ \n1a', max_size=60).map(str.encode), cut_points())
def test_any_bytes_are_read_as_an_array_in_the_same_way_however_chunked(text: bytes, points: list[int]) -> None:
    text = b"[" + text
    whole, fault = read_array([text])
    assert read_array(chunks_of(text, points)) == (whole, fault)
    assert all(record.error or text[record.offset :].startswith(record.data) for record in whole)
    expected = fault_slowly(text)
    assert bool(fault) == bool(expected)
    assert expected in fault
    try:
        elements = json.loads(text)
    except ValueError:
        return
    assert not fault
    assert len(whole) == len(elements)


@given(
    st.lists(st.dictionaries(st.text(), json_documents()) | st.lists(json_documents()), max_size=5),
    st.booleans(),
    cut_points(),
)
def test_values_one_after_another_are_those_of_the_decoder(
    documents: list[object], indented: bool, points: list[int]
) -> None:
    text = b"\xef\xbb\xbf" + "\n".join(json.dumps(each, indent=1 if indented else None) for each in documents).encode()
    records = list(values(chunks_of(text, points), Start(3, "x.json"), 1 << 20))
    assert [json.loads(record.data) for record in records] == documents
    for record in records:
        assert text[record.offset : record.offset + len(record.data)] == record.data
        assert (record.source, record.line) == (3, text.count(b"\n", 0, record.offset) + 1)


def test_a_broken_value_costs_itself_and_a_long_one_is_passed_over() -> None:
    text = b'{"a": tru}\n, {"b": 1}\n{"c": "' + b"x" * LIMIT + b'"}\n\n{"d":\n4}\n'
    broken, second, third, fourth = values([text], Start(0, "x.json"), LIMIT)
    assert (broken.data, second.data, fourth.data, fourth.line) == (b'{"a": tru}', b', {"b": 1}', b'{"d":\n4}', 5)
    assert third.error == f"record of {LIMIT + 10} bytes; at most {LIMIT} are read"


@pytest.mark.parametrize("text", [b'{}\n\n{"a": [\n', b"{}\n\n{\n]\n {", b"{}\n\n}}\n{}", b'{}\n\n{"a": "}'])
@pytest.mark.parametrize("size", [3, 1000])
def test_brackets_that_do_not_match_are_an_error_with_their_line(text: bytes, size: int) -> None:
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    with pytest.raises(InputError, match=r"x\.json:[345]: brackets do not match in what starts here"):
        list(values(chunks, Start(0, "x.json"), LIMIT))


@given(
    st.dictionaries(st.text(max_size=5), json_documents(), max_size=3),
    st.lists(json_documents(), max_size=4),
    cut_points(),
)
def test_elements_of_an_array_in_an_object(
    around: dict[str, object], documents: list[object], points: list[int]
) -> None:
    before = json.dumps({**around, "data": 0}, indent=1)[: -len("0\n}")]
    text = f"{before}{json.dumps(documents, indent=1)},\n{json.dumps({'more': [around]})[1:]}".encode()
    records = list(elements_from(len(before.encode()), chunks_of(text, points), Start(2, "x.json"), 1 << 20))
    assert [json.loads(record.data) for record in records] == documents
    for record in records:
        assert text[record.offset : record.offset + len(record.data)] == record.data
        assert record.line == text.count(b"\n", 0, record.offset) + 1


@pytest.mark.parametrize("rest", [b"", b"\n]", b"} {}", b', "a": tru}'])
def test_an_object_that_does_not_end_is_an_error(rest: bytes) -> None:
    text = b'{"data": [1,\n2]' + rest
    with pytest.raises(InputError, match=r"x\.json:[23]: the object around the array of records is not closed"):
        list(elements_from(9, [text], Start(0, "x.json"), LIMIT))


MEASURE = """
import sys
from pathlib import Path
from sftprep.containers.files import find_sources
from sftprep.containers.record import Selection
from sftprep.containers.splits import plan_splits, read_records
infos, splits = plan_splits(find_sources(sys.argv[1:]).sources, selection=Selection(8 << 20))
for split in splits:
    for record in read_records(split, infos, Selection(8 << 20)):
        print(record.line, record.offset, len(record.data), record.error)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "long.jsonl", "array.json"])
def test_a_huge_record_is_passed_over_in_bounded_memory(tmp_path: Path, name: str) -> None:
    size = 300 << 20
    path = tmp_path / name
    before, after = (b"[1,", b",2]") if name == "array.json" else (b"{}\n", b"\n{}\n")
    with gzip.open(path, "wb", compresslevel=1) if name.endswith(".gz") else path.open("wb") as file:
        file.write(before + b'"')
        for _ in range(size >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b'"' + after)
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    *records, peak = run.stdout.splitlines()
    where, is_array = len(before), name == "array.json"
    second = where + size + 3
    line = (1, 1, 1) if name == "array.json" else (1, 2, 3)
    assert records == [
        f"{line[0]} {1 if is_array else 0} {1 if is_array else 2} None",
        f"{line[1]} {where} 0 record of {size + 2} bytes; at most {8 << 20} are read",
        f"{line[2]} {second} {1 if is_array else 2} None",
    ]
    assert int(peak) < 200 << 10  # kB, an interpreter with numpy and pyarrow included
