"""The STAR reader and writer, with gemmi as the independent reader."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfvdm_fast.errors import InputError, OutputError, ParameterError
from mfvdm_fast.io import star_parser
from mfvdm_fast.io.star import StarFile, read_star, write_star
from mfvdm_fast.io.star_parser import parse_star
from mfvdm_fast.io.star_table import StarTable, quote

from .conftest import shared_data
from .reference.io import star_text

REAL = [
    "apoferritin/apoferritin_64_sub1000.star",
    "metadata/FinalRefinement-OriginalParticles-PfCRT.star",
    "metadata/empiar10025_T20S_1500_particles.star",
    "metadata/empiar10025_T20S_ctf_params.star",
    "metadata/relion31.6opticsgroups.star",
    "metadata/relion5.star",
    "small_real_stacks/aspire_sample_relion30.star",
    "small_real_stacks/aspire_sample_relion31.star",
    "small_real_stacks/empiar_10076_7.star",
    "small_real_stacks/relion31.star",
]

TRICKY = """# version 30001
# a second comment

data_particles # the name
loop_
_rlnImageName #1 [Name]
_rlnGroupName
_rlnOddZernike #3
   1@my#stack.mrcs 001 [0.1,-2,3e-4] # a comment
\t'2@two words.mrcs'   "it's"   []

# in the middle
3@O'Brien.mrcs '' 'a'b'
data_model_general
_rlnPixelSize 1.34000 # Å
_rlnText 'with # inside'
data_
loop_
_one
data_is/a/path.mrcs x
"""


def gemmi_columns(document: gemmi.cif.Document) -> list[dict[str, list[str]]]:
    blocks = []
    for block in document:
        columns: dict[str, list[str]] = {}
        for item in block:
            pair = cast("list[str] | None", item.pair)
            if pair is not None:
                columns[pair[0][1:]] = [pair[1]]
            else:
                tags, values = item.loop.tags, list(item.loop.values)
                columns.update({tag[1:]: values[i :: len(tags)] for i, tag in enumerate(tags)})
        blocks.append(columns)
    return blocks


def our_columns(blocks: dict[str, StarTable]) -> list[dict[str, list[str]]]:
    return [
        {name: [cell.decode() for cell in table.cells(name)] for name in table.columns} for table in blocks.values()
    ]


@pytest.mark.parametrize("name", REAL)
def test_real_files_as_gemmi_reads_them_and_round_trip(name: str, tmp_path: Path) -> None:
    path = shared_data(name)
    star = read_star(path)
    document = gemmi.cif.read(str(path))
    assert list(star.blocks) == [block.name.strip() for block in document]
    assert our_columns(dict(star.blocks)) == gemmi_columns(document)
    write_star(tmp_path / "a.star", star)
    again = read_star(tmp_path / "a.star")
    assert our_columns(dict(again.blocks)) == our_columns(dict(star.blocks))
    assert [table.comments for table in again.blocks.values()] == [table.comments for table in star.blocks.values()]
    assert gemmi_columns(gemmi.cif.read(str(tmp_path / "a.star"))) == gemmi_columns(document)
    write_star(tmp_path / "b.star", again)
    assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()


def test_tricky_cells() -> None:
    text = TRICKY.rsplit("data_is", 1)[0] + "'data_is/a/path.mrcs'\n"
    blocks = parse_star(text.encode(), "a.star")
    assert list(blocks) == ["particles", "model_general", ""]
    particles = blocks["particles"]
    assert particles.comments == ("# version 30001", "# a second comment")
    assert particles.texts("rlnImageName") == ["1@my#stack.mrcs", "2@two words.mrcs", "3@O'Brien.mrcs"]
    assert particles.texts("rlnGroupName") == ["001", "it's", ""]
    assert particles.texts("rlnOddZernike") == ["[0.1,-2,3e-4]", "[]", "a'b"]
    assert particles.cells("rlnGroupName").tolist() == [b"001", b'"it\'s"', b"''"]
    assert not blocks["model_general"].is_loop
    assert blocks["model_general"].texts("rlnText") == ["with # inside"]
    assert blocks["model_general"].floats("rlnPixelSize").tolist() == [1.34]
    assert blocks[""].texts("one") == ["data_is/a/path.mrcs"]
    for ending in (b"\r\n", b"\n\n"):
        other = parse_star(b"\xef\xbb\xbf" + text.encode().replace(b"\n", ending).rstrip(), "a.star")
        assert our_columns(other) == our_columns(blocks)


def test_a_row_that_starts_like_a_block_is_a_row() -> None:
    table = parse_star(b"data_\nloop_\n_a\n_b\ndata_1/x.mrc 1\nloop_2.mrc 2\n", "a.star")[""]
    assert table.texts("a") == ["data_1/x.mrc", "loop_2.mrc"]


@pytest.mark.parametrize("piece", [1, 40, 1000])
def test_pieces_of_any_size_give_the_same_tables(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[str(i), f"{i % 7}@a#{i}.mrcs", "x" * (i % 50)] for i in range(1, 300)]
    text = "data_a\nloop_\n_n\n_name\n_x\n" + "".join(" ".join([*row[:2], row[2] or "-"]) + "\n" for row in rows)
    text += "# next\ndata_b\nloop_\n_n\n" + "\n".join(map(str, range(300))) + "\n"
    whole = parse_star(text.encode(), "a.star")
    monkeypatch.setattr(star_parser, "_FIRST_PIECE", piece)
    monkeypatch.setattr(star_parser, "_LAST_PIECE", piece)
    parts = parse_star(text.encode(), "a.star")
    assert our_columns(parts) == our_columns(whole)
    assert parts["b"].comments == whole["b"].comments == ("# next",)
    assert whole["a"].integers("n").tolist() == list(range(1, 300))
    with pytest.raises(InputError, match=r"a\.star, line 302: 2 values where the loop_ has 3 columns"):
        parse_star(text.replace("\n297 3@", "\n297@", 1).encode(), "a.star")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))] * 2), min_size=1))
def test_any_text_survives(rows: list[tuple[str, str]]) -> None:
    table = StarTable("t")
    try:
        for name, values in zip("ab", zip(*rows, strict=True), strict=True):
            table = table.with_column(name, values)
    except ParameterError:
        closed = [{text[i] for i in range(len(text) - 1) if text[i + 1] in " \t#"} for row in rows for text in row]
        assert any({"'", '"'} <= marks for marks in closed)
        return
    text = b"data_t\nloop_\n_a\n_b\n" + b"\n".join(b" ".join(row) for row in zip(*table.columns.values(), strict=True))
    again = parse_star(text, "a.star")["t"]
    assert list(zip(again.texts("a"), again.texts("b"), strict=True)) == rows
    assert our_columns({"t": again}) == our_columns({"t": table})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aZ09.@#'\"_;$[],-+ \tdata_loop?/", min_size=1), min_size=1))
def test_quoting_as_gemmi_understands_it(values: list[str]) -> None:
    try:
        cells = [quote(value) for value in values]
    except ParameterError:
        return
    text = b"data_t\nloop_\n_a\n" + b"\n".join(cells)
    block = gemmi.cif.read_string(text).sole_block()
    assert [gemmi.cif.as_string(cell) if cell not in ("?", ".") else cell for cell in block.find_values("_a")] == values


@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_any_bytes_give_tables_or_an_error_that_names_the_file(data: bytes) -> None:
    message = ""
    try:
        parse_star(b"data_a\nloop_\n_b\n" + data, "some.star")
    except InputError as error:
        message = str(error)
    assert message.startswith("some.star") or not message


def test_written_form(tmp_path: Path) -> None:
    table = StarTable("particles").with_column("rlnImageName", ["1@a.mrcs", "2@a b.mrcs"]).with_column("x", ["1", "2"])
    general = StarTable("general", {"rlnPixelSize": np.array([b"1.34"])}, is_loop=False, comments=())
    empty = StarTable("none", {"y": np.empty(0, "S1")})
    star = StarFile("a.star", {"particles": table, "general": general, "none": empty})
    write_star(tmp_path / "a.star", star)
    assert (tmp_path / "a.star").read_text() == (
        "\n# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_x #2\n1@a.mrcs 1 \n'2@a b.mrcs' 2 \n\n"
        "\n\ndata_general\n\n_rlnPixelSize 1.34\n\n# version 30001\n\ndata_none\n\nloop_\n_y #1\n\n"
    )
    assert len(read_star(tmp_path / "a.star").blocks["none"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.star"]


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_bytes(b"data_\nloop_\n_a\n1@\xff.mrcs\n")
    star = read_star(tmp_path / "a.star")
    name = star.blocks[""].texts("a")
    write_star(tmp_path / "b.star", StarFile("", {"": star.blocks[""].with_column("b", name)}))
    assert b"1@\xff.mrcs 1@\xff.mrcs" in (tmp_path / "b.star").read_bytes()


def test_columns_are_replaced_added_dropped_and_taken() -> None:
    table = StarTable("t").with_column("a", ["1", "2", "3"]).with_column("b", ["x", "y", "z"])
    assert list(table.with_column("a", table.cells("b")).columns) == ["a", "b"]
    assert table.with_column("a", ["7", "8", "9"]).integers("a").tolist() == [7, 8, 9]
    assert list(table.without(["a", "nothing"]).columns) == ["b"]
    assert table.take(np.array([2, 0])).texts("b") == ["z", "x"]
    assert ("a" in table, "c" in table, len(table), len(StarTable("e"))) == (True, False, 3, 0)


def test_numbers_come_as_numbers_or_with_their_place() -> None:
    table = StarTable("t", source="a.star").with_column("good", np.array([b"1e4", b"-0.5", b"'3'"]))
    np.testing.assert_array_equal(table.floats("good"), [1e4, -0.5, 3.0])
    for cells, value, more in [
        (["1", "x1", "y"], "x1", r" \(and 1 more"),
        (["1", "2", "nan"], "nan", ""),
        (["1_0"] * 3, "1_0", ""),
    ]:
        with pytest.raises(InputError, match=rf"a\.star: data_t: row \d, _c: '{value}' is not a finite number{more}"):
            table.with_column("c", cells).floats("c")
    with pytest.raises(InputError, match=r"a\.star: data_t: row 2, _good: '-0\.5' is not a whole number"):
        table.integers("good")
    with pytest.raises(InputError, match=r"a\.star: data_t has no column _rlnVoltage; its columns are good"):
        table.floats("rlnVoltage")
    with pytest.raises(ParameterError, match=r"column _c has 1 values for 3 rows"):
        table.with_column("c", ["1"])


@pytest.mark.parametrize("value", ["a\nb", "a\0b", 'it\' is "5" wide'])
def test_text_that_no_cell_can_hold(value: str) -> None:
    with pytest.raises(ParameterError, match="cannot be written in a STAR cell"):
        quote(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_a\n\0", r"a\.star: not a STAR text \(it has NUL bytes\)"),
        ("# nothing\n", r"a\.star: no data_ block"),
        ("rlnImageName\n", r"a\.star, line 1: 'rlnImageName' before the first data_ block"),
        ("data_a\n_x 1\ndata_b\n_x 1\ndata_a\n", r"line 5: a second block named data_a"),
        ("data_a\nloop_\n_x\n1\nloop_\n_y\n2\n", r"line 5: data_a has more than one table"),
        ("data_a\nloop_\n_x\n1\n_y 2\n", r"line 5: '_y' after the loop of data_a"),
        ("data_a\n_x 1 2\n", r"line 2: expected loop_, data_\.\.\. or a pair '_name value', found '_x 1 2'"),
        ("data_a\n1 2\n", r"line 2: expected loop_.*found '1 2'"),
        ("data_a\n_x 1\n_x 2\n", r"line 3: _x stands twice in this block"),
        ("data_a\n_x\n;\ntext\n;\n", r"line 2: expected loop_"),
        ("data_a\nloop_\n_x\n;text\n;\n", r"line 4: a text field over several lines \(;\) is not supported"),
        ("data_a\nloop_\n_x\n_y\n1 'open\n", r"line 5: a quote is opened and not closed: \"'open\""),
        ("data_a\nloop_\n_x 1\n1\n", r"line 3: a column name stands alone in a loop_, found '_x 1'"),
        ("data_a\nloop_\ndata_b\n", r"line 2: the loop_ of data_a has no columns"),
        ("data_a\nloop_\n_x\n_x\n1 2\n", r"column _x stands twice in the loop_ of data_a"),
        ("data_a\nloop_\n_x\n_y\n1 2\n3\n", r"line 6: 1 values where the loop_ has 2 columns; cut off"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_star(text.encode(), "a.star")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.star: cannot be read \(No such file or directory\)"):
        read_star(tmp_path / "nowhere.star")
    star = StarFile("", parse_star(star_text({"a": {"x": ["1"]}}).encode(), "a.star"))
    with pytest.raises(OutputError, match=r"a\.star: cannot be written \(No such file or directory\)"):
        write_star(tmp_path / "nowhere" / "a.star", star)
