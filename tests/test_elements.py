"""Elements of files: byte for byte, whatever container they came in; and what becomes of rubbish."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.block import Block
from archiver.segment import SegmentWriter
from archiver.sources.documents import Documents, split_array
from archiver.sources.elements import Stretch
from archiver.sources.files import Format, format_of, read_file
from archiver.sources.lines import Lines

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@st.composite
def texts(draw):
    """A JSON text on one line, escaped or not, spaced or not."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    return json.dumps(draw(TREES), ensure_ascii=draw(st.booleans()), separators=separators).encode(
        "utf-8", "surrogatepass"
    )


TEXTS = st.lists(texts(), max_size=10)
NOT_ARRAYS = st.lists(texts().filter(lambda text: not text.startswith(b"[")), max_size=10)
SPACES = st.text(" \t\r\n", max_size=3).map(str.encode)


def read(content: bytes, name: str, **options) -> list[Block]:
    how = format_of(name)
    assert how
    return list(read_file(io.BytesIO(content), how, size=len(content), **options))


def bodies(blocks: list[Block]) -> list[bytes]:
    return [body for block in blocks for body in block.bodies]


def rejected(blocks: list[Block]) -> list[tuple[str, bytes]]:
    return [(r.reason, r.body) for block in blocks for r in block.rejections]


def split(splitter: Lines | Documents, content: bytes, portion: int) -> list[tuple]:
    found = []
    for start in range(0, len(content), portion):
        found += splitter.feed(content[start : start + portion])
    flat = []
    for piece in found + splitter.finish():
        if isinstance(piece, Stretch):
            flat.append((piece.reason, piece.offset, piece.content))
        else:
            flat += [("element", at, body) for at, body in zip(piece.offsets, piece.bodies, strict=True)]
    return flat


# The same bodies out of every container


@given(texts=TEXTS, spaces=st.lists(SPACES, min_size=21, max_size=21), portion=st.integers(1, 50))
def test_an_array_gives_its_elements_byte_for_byte(texts, spaces, portion):
    content = b"[" + b",".join(a + t + b for t, a, b in zip(texts, spaces, spaces[10:], strict=False)) + b"]"
    found = split_array(spaces[20] + content + b"\n")
    assert found is not None
    assert found.bodies == texts
    assert [b for _, _, b in split(Documents(), content, portion)] == texts
    assert bodies(read(content, "x.json")) == texts


@given(texts=NOT_ARRAYS, ending=st.sampled_from([b"\n", b"\r\n", b"\n \n\t\r\n"]), portion=st.integers(1, 50))
def test_lines_give_their_elements_byte_for_byte(texts, ending, portion):
    content = ending.join(texts)
    assert [b for _, _, b in split(Lines(), content, portion)] == texts
    for name in ("x.jsonl", "x.ndjson"):
        assert bodies(read(content, name)) == texts
        assert bodies(read(content + ending, name)) == texts


@given(texts=NOT_ARRAYS)
def test_compressed_files_give_the_same_elements(texts):
    content = b"\n".join(texts)
    half = len(content) // 2
    for name, compressed in (
        ("x.jsonl.gz", gzip.compress(content)),
        ("x.ndjson.GZ", gzip.compress(content[:half]) + gzip.compress(content[half:])),
        ("x.json.zst", zstandard.compress(content)),
        ("x.jsonl.zst", zstandard.compress(content[:half]) + zstandard.compress(content[half:])),
    ):
        blocks = read(compressed, name)
        assert (bodies(blocks), rejected(blocks)) == (texts, [])
        assert sum(block.input_bytes for block in blocks) == len(compressed)


@given(trees=st.lists(TREES.filter(lambda tree: not isinstance(tree, list))), indent=st.integers(1, 4))
def test_values_one_after_another_are_elements_however_they_are_laid_out(trees, indent):
    # The first line must not be a value by itself, or the file is one of lines.
    encoded = [json.dumps(tree, indent=indent).encode() for tree in [{"first": 1}, *trees]]
    assert bodies(read(b"\n".join(encoded) + b"\n", "x.json")) == encoded


@given(texts=st.lists(TEXTS, max_size=3), single=NOT_ARRAYS, data=st.data())
def test_segments_give_the_elements_of_each_delivery(tmp_path_factory, texts, single, data):
    folder = tmp_path_factory.mktemp("spool")
    deliveries = [b"[\n" + b" ,\n".join(inner) + b"]" for inner in texts] + single
    order = data.draw(st.permutations(range(len(deliveries))))
    with SegmentWriter(folder) as writer:
        for number in order:
            writer.append(deliveries[number], number, f"s{number}")
    wanted = [
        (body, number, f"s{number}")
        for number in order
        for body in (texts[number] if number < len(texts) else [deliveries[number]])
    ]
    blocks = read(writer.seal().read_bytes(), "x.seg")
    assert [entry for b in blocks for entry in zip(b.bodies, b.received_at, b.streams, strict=True)] == wanted


@given(content=st.text('{}[]"\\,: 1a\n', max_size=60).map(str.encode), portion=st.integers(1, 7))
@settings(max_examples=500)
def test_nothing_but_brackets_commas_and_space_is_left_out(content, portion):
    for maker in (Lines, Documents):
        for limit in (4, 1000):
            left = bytearray(content)
            end = 0
            for _, at, body in split(maker(limit=limit), content, portion):
                assert content[at : at + len(body)] == body
                assert body
                assert len(body) <= limit
                assert at >= end, "an element or stretch overlaps the one before it"
                end = at + len(body)
                left[at:end] = b" " * len(body)
            assert not left.strip(b" \n[],")


@given(content=st.text('{}[]"\\,: 1a\n', max_size=60).map(str.encode), portion=st.integers(1, 7))
@settings(max_examples=500)
def test_elements_do_not_depend_on_how_the_file_was_read(content, portion):
    for maker in (Lines, Documents):
        by_portions, at_once = split(maker(), content, portion), split(maker(), content, 1000)
        assert [f for f in by_portions if f[0] == "element"] == [f for f in at_once if f[0] == "element"]


# Numbering


def test_ordinals_count_elements_and_stretches_together_through_all_blocks(tmp_path):
    lines = [b'{"n":%d}' % n for n in range(1000)]
    lines[500] = b"x" * 3000
    blocks = read(b"\n".join(lines), "x.jsonl", limit=1000, block_bytes=5000, first_ordinal=7)
    ordinals = [n for b in blocks for n in [*b.ordinals, *(r.ordinal for r in b.rejections)]]
    assert sorted(ordinals) == list(range(7, 7 + 999 + 3))
    by_ordinal = {n: body for b in blocks for n, body in zip(b.ordinals, b.bodies, strict=True)}
    assert by_ordinal[7 + 499] == b'{"n":499}'
    assert by_ordinal[7 + 503] == b'{"n":501}'
    assert len(blocks) > 10


def test_offsets_show_where_each_element_begins():
    content = b'\n{"a":1}\r\n[1, {"b":2}]\n\n {"c":3}'
    [block] = read(content, "x.jsonl")
    assert block.bodies == [b'{"a":1}', b"1", b'{"b":2}', b' {"c":3}']
    assert block.offsets == [1, 11, 14, 24]


# Arrays


@pytest.mark.parametrize(
    "text",
    [
        b"[1,]",
        b"[,1]",
        b"[1,,2]",
        b"[1",
        b"[1]]",
        b"[1] [2]",
        b"[1]x",
        b'["a]',
        b"[",
        b"[[1]",
        b'[{"a":"}]',
        b"[,]",
    ],
)
def test_an_array_that_cannot_be_split_stays_one_body(text):
    assert split_array(text) is None
    assert bodies(read(text, "x.jsonl")) == [text]


def test_an_empty_array_has_no_elements():
    for name in ("x.jsonl", "x.json"):
        assert [bodies(read(b" [ ] ", name)), rejected(read(b" [ ] ", name))] == [[], []]


def test_elements_that_are_no_objects_are_elements():
    text = b'[1, "a,b]", null, [2, [3]], {}, true, nonsense]'
    assert bodies(read(text, "x.json")) == [
        b"1",
        b'"a,b]"',
        b"null",
        b"[2, [3]]",
        b"{}",
        b"true",
        b"nonsense",
    ]


def test_an_array_of_one_line_each_is_streamed_element_by_element():
    blocks = read(b"[\n" + b",\n".join([b'{"a":[{},{}]}'] * 100_000) + b"\n]\n", "x.json")
    assert len(bodies(blocks)) == 100_000
    assert max(len(block.bodies) for block in blocks) < 50_000


# Rubbish


def test_a_truncated_last_line_is_an_element_for_the_validator():
    assert bodies(read(b'{"a":1}\n{"a":', "x.jsonl")) == [b'{"a":1}', b'{"a":']


def test_an_empty_file_holds_nothing():
    for name in ("x.jsonl", "x.json", "x.seg", "x.json.gz", "x.jsonl.zst"):
        blocks = read(b"", name)
        assert [bodies(blocks), rejected(blocks)] == [[], []]


def test_garbage_between_values_is_a_stretch_to_the_end_of_its_line():
    content = b'{"a":1}\n}oops {"b":2}\n{"c"\n:3} trailing\n"x" 17'
    blocks = read(b"  \n{\n" + content[1:], "x.json")
    assert bodies(blocks) == [b'{\n"a":1}', b'{"c"\n:3}', b'"x"', b"17"]
    assert rejected(blocks) == [("not_json", b'}oops {"b":2}'), ("not_json", b"trailing")]


def test_a_value_that_the_file_does_not_end_is_a_stretch():
    blocks = read(b'[{"a":1},\n {"b":', "x.json")
    assert (bodies(blocks), rejected(blocks)) == ([b'{"a":1}'], [("not_json", b'{"b":')])
    blocks = read(b'[{"a":1},', "x.json")
    assert (bodies(blocks), rejected(blocks)) == ([b'{"a":1}'], [("not_json", b",")])


def test_a_json_file_of_lines_loses_only_the_torn_line():
    blocks = read(b'{"a":1}\n{"b":\n{"c":3}\n', "x.json")
    assert bodies(blocks) == [b'{"a":1}', b'{"b":', b'{"c":3}']


def test_a_byte_order_mark_is_no_part_of_the_first_element():
    for name in ("x.jsonl", "x.json"):
        [block] = read(b'\xef\xbb\xbf{"a":1}\n{"b":2}', name)
        assert (block.bodies, block.offsets) == ([b'{"a":1}', b'{"b":2}'], [3, 11])


def test_binary_rubbish_is_kept():
    rubbish = bytes(range(256)) * 100
    for name in ("x.jsonl", "x.json", "x.seg", "x.jsonl.gz", "x.json.zst"):
        blocks = read(rubbish, name)
        kept = b"".join(bodies(blocks)) + b"".join(body for _, body in rejected(blocks))
        assert len(kept) > 25_000 or name == "x.json"
        assert set(kept) >= set(range(256)) - set(b" \t\r\n[],")


def test_an_empty_delivery_is_accounted_for(tmp_path):
    with SegmentWriter(tmp_path) as writer:
        writer.append(b"", 5, "acme")
        writer.append(b" \n", 6)
    [block] = read(writer.seal().read_bytes(), "x.seg")
    assert [(r.reason, r.body, r.received_at, r.stream) for r in block.rejections] == [
        ("not_json", b"", 5, "acme"),
        ("not_json", b" \n", 6, None),
    ]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
@pytest.mark.parametrize("length", [16 * 1024 * 1024, 16 * 1024 * 1024 + 1])
def test_an_element_of_16_mib_is_the_longest(name, length):
    long = b'{"a":"' + b"x" * (length - 8) + b'"}'
    blocks = read(b'{"b":1}\n' + long + b'\n{"c":2}\n', name)
    if length == 16 * 1024 * 1024:
        assert bodies(blocks) == [b'{"b":1}', long, b'{"c":2}']
    else:
        assert bodies(blocks) == [b'{"b":1}', b'{"c":2}']
        assert [len(body) for _, body in rejected(blocks)] == [16 * 1024 * 1024, 1]
        assert b"".join(body for _, body in rejected(blocks)) == long


MEMORY = """
import resource, sys
from archiver.sources.files import format_of, read_file
path, name = sys.argv[1:]
with open(path, "rb", buffering=0) as file:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept, elements, reasons = 0, 0, set()
    for block in read_file(file, format_of(name), size=1):
        kept += sum(len(r.body) for r in block.rejections)
        reasons |= {r.reason for r in block.rejections}
        elements += len(block.bodies)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, kept, elements, *reasons)
"""


def read_measured(path: Path, name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), path, name],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(("name", "quote"), [("x.jsonl", b""), ("x.json", b'"'), ("x.json", b"")])
def test_a_line_of_200_mb_costs_little_memory_and_keeps_its_bytes(tmp_path, name, quote):
    path = tmp_path / "long"
    with path.open("wb") as file:
        # A first line that is no value by itself, so that a .json is not read as lines.
        file.write((b"{}\n{" if name == "x.jsonl" else b"{\n}\n{") + quote)
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(quote + b"}\n{}\n")
    growth, kept, elements, reason = read_measured(path, name)
    assert int(growth) < 150
    assert (int(kept), int(elements), reason) == (200_000_002 + 2 * len(quote), 2, "too_long")


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_decompression_bomb_is_stopped_and_kept(tmp_path, kind):
    path = tmp_path / "bomb"
    first = b'{"a":1}\n'
    machine = zlib.compressobj(9, wbits=31) if kind == "gz" else zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        file.write(machine.compress(first))
        for _ in range(400):
            file.write(machine.compress(bytes(1_000_000)))
        file.write(machine.flush())
    growth, kept, elements, *reasons = read_measured(path, f"x.jsonl.{kind}")
    assert int(growth) < 150
    assert int(elements) == 1
    assert "expansion_limit" in reasons
    assert path.stat().st_size < int(kept) < 200 * path.stat().st_size + 40_000_000


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["truncated", "garbage behind", "garbage", "flipped"])
def test_a_damaged_file_gives_what_came_out_and_is_kept_itself(kind, damage):
    lines = [b'{"n":%d,"x":"%s"}' % (n, str(n * 7919).encode()) for n in range(20_000)]
    content = b"\n".join(lines)
    whole = (
        gzip.compress(content)
        if kind == "gz"
        else zstandard.ZstdCompressor(write_checksum=True).compress(content)
    )
    bad = {
        "truncated": whole[:-9],
        "garbage behind": whole + b"garbage, garbage",
        "garbage": b"garbage, garbage",
        "flipped": whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:],
    }[damage]
    blocks = read(bad, f"x.jsonl.{kind}")
    found = bodies(blocks)
    assert found == lines[: len(found)]
    assert (len(found) > 10_000) == (damage != "garbage")
    kept = rejected(blocks)
    assert {reason for reason, _ in kept} == {"damaged_file"}
    assert kept[-1][1] == bad
    if damage == "truncated":
        assert lines[len(found)].startswith(kept[0][1])
    assert sum(block.input_bytes for block in blocks) == len(bad)


def test_a_complete_looking_tail_of_a_damaged_file_is_no_element():
    content = gzip.compress(b'{"a":1}\n{"b":2}')[:-8]
    for name in ("x.jsonl.gz", "x.json.gz"):
        blocks = read(content, name)
        assert b'{"a":1}' in bodies(blocks)
        if name == "x.jsonl.gz":
            assert bodies(blocks) == [b'{"a":1}']
            assert rejected(blocks) == [("damaged_file", b'{"b":2}'), ("damaged_file", content)]


def test_a_zstd_window_beyond_128_mib_is_not_decoded():
    machine = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=28)
    ).compressobj()
    content = machine.compress(b'{"a":1}\n') + machine.flush()
    blocks = read(content, "x.jsonl.zst")
    assert (bodies(blocks), rejected(blocks)) == ([], [("damaged_file", content)])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.seg", Format("segment")),
        ("a.jsonl", Format("lines")),
        ("A.NDJSON.GZ", Format("lines", "gzip")),
        ("a.json.zst", Format("any", "zstd")),
        ("a.json.gz.zst", None),
        ("a.seg.gz", None),
        ("a.csv", None),
        ("json", None),
    ],
)
def test_the_name_says_how_a_file_is_read(name, how):
    assert format_of(name) == how
