"""Files as they come: compressed, in other shapes, torn, damaged, far too large."""

import gzip
import json

import pytest

from cai.dataset.importers import Imported, Skipped
from cai.dataset.importers.formats import NAMES
from cai.errors import CaiError, DataError, InputError
from tests.dataset.test_importers import ASK, NO, RECORDS, YES, hh, imported, write


def test_gzip_json_list_json_lines_under_json_and_parquet_read_alike(tmp_path):
    records = [RECORDS["hh-rlhf"], RECORDS["hh-rlhf"] | {"chosen": hh(ASK, "Softly.")}]
    paths = [write(tmp_path, records), write(tmp_path, records, "lines.json")]
    (tmp_path / "list.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(paths[0].read_bytes()))
    paths += [tmp_path / "list.json", tmp_path / "data.jsonl.gz"]
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "data.parquet")
    paths.append(tmp_path / "data.parquet")
    rows = [[item.row for item in imported(path)] for path in paths]
    assert all(one == rows[0] for one in rows)
    assert len(rows[0]) == 2


def test_truncated_gzip_gives_its_whole_lines_and_says_where_it_breaks(tmp_path):
    rng = "0123456789abcdef"
    records = [
        {"chosen": hh(ASK, YES + rng[i % 16] * i), "rejected": hh(ASK, NO)} for i in range(1, 400)
    ]
    whole = gzip.compress(write(tmp_path, records).read_bytes())
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    items = imported(path)
    assert items[-1].reason == "broken-gzip"
    assert all(isinstance(one, Imported) for one in items[:-1])
    assert items[-1].line == len(items)


def test_forty_megabytes_in_one_row_are_passed_over(tmp_path):
    path = write(tmp_path, [RECORDS["trl"]])
    with path.open("a") as file:
        file.write('{"prompt": "' + "x" * 40_000_000 + '"}\n')
        file.write(json.dumps(RECORDS["trl"] | {"chosen": "Gently."}) + "\n")
    items = imported(path)
    assert [type(one) for one in items] == [Imported, Skipped, Imported]
    assert items[1].reason == "row-too-large"


def test_bad_bytes_and_bad_json_are_named_by_line(tmp_path):
    path = write(tmp_path, [RECORDS["trl"]])
    with path.open("ab") as file:
        file.write(b'{"prompt": "\xff"}\n{"prompt": \n' + b"[" * 100_000 + b"\n")
    assert [(one.line, one.reason) for one in imported(path)[1:]] == [
        (2, "invalid-utf8"),
        (3, "invalid-json"),
        (4, "invalid-json"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"a,b", "not a file of records"),
        ("x.jsonl", b'{"text": "hello"}\n', "of no known preference format.*text"),
        ("x.jsonl", b"", "of no known preference format.*no object"),
        ("x.json", b"{broken", "not valid JSON"),
        ("x.parquet", b"not parquet", "not a readable Parquet file"),
        ("x.jsonl.gz", b"not gzip", "not a readable gzip"),
    ],
)
def test_unusable_file_is_one_clear_error(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        imported(tmp_path / name)


def test_missing_file_and_unknown_format_are_named(tmp_path):
    for name in ("none.jsonl", "none.json", "none.parquet"):
        with pytest.raises(CaiError, match="no such file"):
            imported(tmp_path / name, format="trl")
    with pytest.raises(DataError, match="did you mean 'hh-rlhf'"):
        imported(write(tmp_path, [RECORDS["trl"]]), format="hh-rlfh")
    assert len(NAMES) == 11
