"""`gate probe` from the command line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gate.cli import main
from gate.cli.probe import _pass
from gate.policy.loading import load_probe_spec
from gate.probes.probe_set import Columns, Transform, open_probe
from gate.probes.validating.pages import readable
from gate.probes.validating.report import brief

ROWS = 90
SPEC = """\
# What every version is shown.
uri: {uri}
columns: {{input: x, label: kind, group: site, id: name}}  # no lengths
expectations: {{packs: [classification], min_rows: 50}}
"""
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {{name: p, version: "1.0.0"}}
probe:
  uri: {uri}
  columns: {{input: x, label: kind, id: name}}
rules:
  - {{id: rank, metric: effective_rank, min: 1, slices: {{by: [site], min: 1}}}}
"""


def table() -> pa.Table:
    x = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    columns = {"x": list(x), "kind": [f"k{row % 3}" for row in range(ROWS)], "site": ["a", "b"] * (ROWS // 2)}
    return pa.table(columns | {"name": [f"r{row}" for row in range(ROWS)]})


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    pq.write_table(table(), tmp_path / "rows.parquet")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(uri=tmp_path / "rows.parquet"), encoding="utf-8")
    return path


def spoil(spec: Path, column: str, row: int, value: object) -> None:
    path = spec.with_name("rows.parquet")
    found = pq.read_table(path).to_pydict()
    found[column][row] = value
    pq.write_table(pa.table(found), path)


Said = pytest.CaptureFixture[str]


def test_a_good_probe_set_is_reported_check_by_check(spec: Path, capsys: Said) -> None:
    assert main(["probe", "validate", str(spec)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == f"PROBE SET passed  {spec.with_name('rows.parquet')}"
    assert lines[1] == "  90 rows, 3 classes, 2 groups"
    assert re.fullmatch(r"  digest: sha256:[0-9a-f]{64}", lines[2])
    assert {"  ok   min_rows", "  ok   unique(name)", "  ok   min_classes(kind)"} <= set(lines)
    assert err == ""


def test_a_probe_set_with_faults_exits_with_3_and_names_them_all(spec: Path, capsys: Said) -> None:
    spoil(spec, "kind", 4, None)
    spoil(spec, "name", 9, "r8")
    assert main(["probe", "validate", str(spec)]) == 3
    out = capsys.readouterr().out
    assert out.startswith("PROBE SET failed  ")
    assert "error[unique]: id 'name' is not unique in 2 of 90 rows ('r8'); no value may come twice" in out
    assert "error[not_null]: label 'kind' is missing in 1 of 90 rows ('r4'); every row needs one" in out
    assert "digest" not in out


def test_what_is_reported_as_json_is_the_same(spec: Path, tmp_path: Path) -> None:
    spoil(spec, "kind", 4, None)
    path = tmp_path / "report.json"
    for _ in range(2):  # its own report it writes anew
        assert main(["probe", "validate", str(spec), "-o", "text", "-o", f"json={path}"]) == 3
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["schema"], document["status"], document["digest"]) == ("gate.probe-validation/v1", "failed", None)
    failed = [check["name"] for check in document["checks"] if check["result"] == "failed"]
    assert failed == ["not_null(kind)"]
    assert [finding["ids"] for finding in document["findings"]] == [["r4"]]


def test_of_many_columns_the_text_names_the_first_and_the_json_all(tmp_path: Path, capsys: Said) -> None:
    names = [f"p{number}" for number in range(64)]
    values = np.random.default_rng(0).normal(size=(64, 9))
    pq.write_table(pa.table(dict(zip(names, values, strict=True))), tmp_path / "rows.parquet")
    path = tmp_path / "spec.yaml"
    path.write_text(f"uri: {tmp_path / 'rows.parquet'}\ncolumns: {{input: [{', '.join(names)}]}}\n", encoding="utf-8")
    assert main(["probe", "validate", str(path), "-o", "text", "-o", f"json={tmp_path / 'report.json'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  ok   width(p0, p1, p2 and 61 more)" in lines
    assert max(len(line) for line in lines[4:]) < 50
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert f"width({', '.join(names)})" in [check["name"] for check in document["checks"]]


def test_what_tells_expectations_apart_is_kept_where_columns_are_many() -> None:
    assert brief("suite(a, b, c, d, e: [3] multicolumn_sum_to_equal)") == (
        "suite(a, b, c and 2 more: [3] multicolumn_sum_to_equal)"
    )
    assert brief("suite([2] table_row_count_to_equal)") == "suite([2] table_row_count_to_equal)"


def test_a_warning_is_told_and_refuses_nothing(spec: Path, capsys: Said) -> None:
    text = spec.read_text(encoding="utf-8").replace("min_rows: 50", "min_rows: 500, warn: [min_rows]")
    spec.write_text(text, encoding="utf-8")
    assert main(["probe", "validate", str(spec)]) == 0
    out = capsys.readouterr().out
    assert "  warn min_rows" in out
    assert "warning[min_rows]: 90 rows to measure, expected at least 500; add rows" in out


def test_what_only_the_reader_refuses_is_no_pass(spec: Path, capsys: Said) -> None:
    path = spec.with_name("rows.parquet")
    structs = pa.array([{"of": row} for row in range(ROWS)])
    pq.write_table(pq.read_table(path).set_column(0, "x", structs), path)
    assert main(["probe", "validate", str(spec)]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("PROBE SET failed  ")
    assert "\nerror[probe]: input 'x': has the type struct" in out
    assert "digest" not in out
    assert err.startswith("error[probe]: ")


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("uri: rows.parquet\n", 2, "columns: is required, and not there; add it"),
        ("uri: nope.parquet\ncolumns: {input: x}\n", 3, "nope.parquet: there is no such file"),
        ("uri: URI\ncolumns: {input: y}\n", 3, "there is no column 'y'"),
        ("uri: URI\ncolumns: {input: x}\nexpectations: {min_classes: 2}\n", 2, "`min_classes` needs `label`"),
        ("uri: URI\ncolumns: {input: x}\nexpectations: {suite: nope.json}\n", 3, "nope.json: cannot be read"),
        ("kind: Policy\n", 2, "metadata: is required"),
    ],
)
def test_a_spec_with_faults_is_told_from_a_probe_set_with_faults(
    spec: Path, text: str, code: int, message: str, capsys: Said
) -> None:
    spec.write_text(text.replace("URI", str(spec.with_name("rows.parquet"))), encoding="utf-8")
    assert main(["probe", "validate", str(spec)]) == code
    assert message in capsys.readouterr().err


def test_a_file_of_rows_is_no_spec(spec: Path, capsys: Said) -> None:
    assert main(["probe", "validate", str(spec.with_name("rows.parquet"))]) == 2
    assert "is no YAML file; give a probe spec or a policy" in capsys.readouterr().err


def test_data_docs_hold_no_reference_to_another_machine(spec: Path, tmp_path: Path, capsys: Said) -> None:
    folder = tmp_path / "docs"
    assert main(["probe", "validate", str(spec), "--data-docs", str(folder)]) == 0
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 6
    assert (folder / "index.html").exists()
    remote = re.compile(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//|https?://", re.IGNORECASE)
    assert [path for path in (*pages, *folder.rglob("*.css")) if remote.search(path.read_text(encoding="utf-8"))] == []
    digest = re.search(r"digest: (sha256:\w+)", capsys.readouterr().out)
    assert digest
    assert list(folder.glob(f"validations/*/{digest[1].replace(':', '-')}/20000101T000000.000000Z"))
    assert main(["probe", "validate", str(spec), "--data-docs", str(folder)]) == 2
    assert "is not an empty folder; name another one" in capsys.readouterr().err


def test_data_docs_say_what_became_of_every_check_without_a_script(spec: Path, tmp_path: Path) -> None:
    spoil(spec, "kind", 4, None)
    folder = tmp_path / "docs"
    assert main(["probe", "validate", str(spec), "--data-docs", str(folder)]) == 3
    first = (folder / "index.html").read_text(encoding="utf-8")
    assert '<h1>Probe set <b class="bad">failed</b></h1>' in first
    assert "label &#x27;kind&#x27; is missing in 1 of 90 rows (&#x27;r4&#x27;)" in first
    assert first.count("✗ Failed") == 3  # the finding, its check and the page that it is on
    links = set(re.findall(r'href="([^"]*)"', first))
    assert {(folder / link).is_file() for link in links} == {True}
    (totals,) = folder.glob("validations/totals/**/*.html")
    assert {totals.relative_to(folder).as_posix(), "expectations/totals.html"} <= links
    text = totals.read_text(encoding="utf-8")
    assert text.count("✗ Failed</b>") == 2  # of the table as a whole, and of one expectation
    assert text.count("✓ Succeeded</b>") > 5
    for page in folder.rglob("*.html"):
        found = page.read_text(encoding="utf-8")
        assert not re.search(r"<script|<button|<footer|onclick|Subscribe|Clear Filters|2000-01-01|Show more", found)
        assert found.count("<style>") == 1


def test_what_a_page_would_fetch_or_run_is_left_out() -> None:
    page = """<head><script src=//a.b></script><link href="x.css"></head>
    <a href=" HTTPS://a.b/c">one</a><img src="//a.b"><p onclick="f()" style="background: url(//a.b)">two &lt;b&gt;</p>
    <iframe src="a"><p>three</p></iframe><a href="javascript:f()">four</a><a href="d/e.html#f">five</a>"""
    found = readable(page).partition("</head>")[2].split()
    assert found == ["<a>one</a><p>two", "&lt;b&gt;</p>", "<a>four</a><a", 'href="d/e.html#f">five</a>']


def test_the_digest_can_be_pasted_and_pinned(spec: Path, capsys: Said) -> None:
    assert main(["probe", "digest", str(spec)]) == 0
    line = capsys.readouterr().out
    assert main(["probe", "digest", str(spec), "--write"]) == 0
    text = spec.read_text(encoding="utf-8")
    assert text.startswith("# What every version is shown.\n")
    assert "# no lengths" in text
    assert line in text
    assert f"digest: {load_probe_spec(spec).digest}\n" == line


def test_a_probe_set_that_has_no_digest_says_everything_that_is_wrong(spec: Path, capsys: Said) -> None:
    spoil(spec, "kind", 4, None)
    spoil(spec, "name", 9, "r8")
    assert main(["probe", "digest", str(spec)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "not_null: label 'kind' is missing" in err
    assert "unique: id 'name' is not unique" in err


def test_of_a_policy_the_columns_of_its_slices_have_a_digest_too(spec: Path, tmp_path: Path, capsys: Said) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(uri=spec.with_name("rows.parquet")), encoding="utf-8")
    assert main(["probe", "digest", str(policy), "--write"]) == 0
    keys = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert keys == ["digest", "slices_digest"]
    assert main(["policy", "validate", str(policy)]) == 0
    assert main(["probe", "validate", str(policy)]) == 0
    assert "not_null(site)" in capsys.readouterr().out


def build(*arguments: object) -> int:
    return main(["probe", "build", *map(str, arguments)])


def test_a_probe_set_is_built_with_a_spec_that_pins_it(spec: Path, tmp_path: Path, capsys: Said) -> None:
    out = tmp_path / "made" / "probe.parquet"
    assert build(spec, "-o", out) == 0
    assert f"wrote {out}, 90 rows, and {out.with_suffix('.yaml')}" in capsys.readouterr().err
    made = load_probe_spec(out.with_suffix(".yaml"))
    assert (made.columns.label, made.expectations.min_rows) == ("kind", 50)
    main(["probe", "digest", str(spec)])
    assert capsys.readouterr().out == f"digest: {made.digest}\n"  # the same rows
    assert main(["probe", "validate", str(out.with_suffix(".yaml"))]) == 0


def test_some_rows_are_taken_of_each_class_whatever_their_order(spec: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.parquet" for name in ("first", "second", "third")]
    rows = spec.with_name("rows.parquet")
    options = ["--input", "x", "--label", "kind", "--id", "name", "--rows", "31"]
    assert build(rows, *options, "-o", files[0]) == 0
    pq.write_table(table().take(list(reversed(range(ROWS)))), rows)
    assert build(rows, *options, "-o", files[1]) == 0
    assert build(rows, *options, "--seed", "1", "-o", files[2]) == 0
    digests = [load_probe_spec(path.with_suffix(".yaml")).digest for path in files]
    assert digests[0] == digests[1] != digests[2]
    kinds = pq.read_table(files[0])["kind"].to_pylist()
    assert sorted(map(kinds.count, set(kinds))) == [10, 10, 11]
    assert pq.read_table(files[0]).column_names == ["x", "kind", "name"]


def pictures_of(folder: Path, number: int) -> Path:
    """A folder of pictures with their table, and its spec."""
    (folder / "pictures").mkdir()
    names = [f"{row}.png" for row in range(number)]
    for name, pixels in zip(names, np.random.default_rng(0).integers(0, 256, (number, 5, 6, 3), np.uint8), strict=True):
        Image.fromarray(pixels).save(folder / "pictures" / name)
    rows = "".join(f"{name},{'ab'[row % 2]}\n" for row, name in enumerate(names))
    (folder / "pictures" / "metadata.csv").write_text(f"file_name,kind\n{rows}", encoding="utf-8")
    path = folder / "spec.yaml"
    path.write_text(f"uri: {folder / 'pictures'}\ncolumns: {{input: file_name, label: kind}}\n", encoding="utf-8")
    return path


def test_all_pictures_that_are_broken_or_missing_are_told_at_once(tmp_path: Path, capsys: Said) -> None:
    spec = pictures_of(tmp_path, 8)
    folder = tmp_path / "pictures"
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:60])
    assert main(["probe", "validate", str(spec)]) == 3
    out, err = capsys.readouterr()
    assert "  FAIL picture(file_name)" in out
    assert (
        "error[picture]: input 'file_name' in 2 of 8 rows (number 2 with '2.png', number 5 with '5.png') is no picture "
        "that can be read: cannot identify image file; expected a whole file"
    ) in out
    assert "; others for other reasons" in out
    assert "0x" not in out
    assert err == ""
    (folder / "3.png").unlink()
    (folder / "6.png").unlink()
    report = tmp_path / "report.json"
    assert main(["probe", "validate", str(spec), "-o", f"json={report}", "--data-docs", str(tmp_path / "docs")]) == 3
    document = json.loads(report.read_text(encoding="utf-8"))
    assert [(each["fault"], each["rows"], each["ids"]) for each in document["findings"]] == [
        ("not_null", 2, ["3", "6"]),
        ("picture", 2, ["2", "5"]),
    ]
    assert "number 3 with '3.png', number 6 with '6.png'" in document["findings"][0]["message"]
    assert "error" not in capsys.readouterr().err


def test_a_broken_picture_is_named_where_rows_are_read(tmp_path: Path, capsys: Said) -> None:
    spec = pictures_of(tmp_path, 8)
    (tmp_path / "pictures" / "2.png").write_bytes(b"no picture")
    assert main(["probe", "digest", str(spec)]) == 3
    wanted = (
        "input 'file_name' of row '2' (2.png): is no picture that can be read: cannot identify image file; expected"
    )
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize("transform", [None, Transform(crop=300)])
def test_of_large_pictures_one_at_a_time_is_in_memory(tmp_path: Path, transform: Transform | None) -> None:
    number, side = 30, 400
    files = [io.BytesIO() for _ in range(number)]
    for row, file in enumerate(files):
        Image.fromarray(np.full((side, side, 3), row, np.uint8)).save(file, "png")
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": [file.getvalue() for file in files]}), path)
    found = {}
    for name, read in (("whole", lambda probe: [*probe.batches(number)]), ("passed", _pass)):
        probe = open_probe(str(path), columns=Columns("x"), transform=transform)
        tracemalloc.start()
        read(probe)
        found[name] = (tracemalloc.get_traced_memory()[1], probe.digest, probe.rows)
        tracemalloc.stop()
    assert found["whole"][1:] == found["passed"][1:]
    assert found["whole"][0] > 3 * number * 300**2
    assert found["passed"][0] < found["whole"][0] / 4


def test_rows_without_an_id_get_one(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "probe.parquet"
    assert build(spec.with_name("rows.parquet"), "--input", "x", "--rows", "5", "-o", out) == 0
    assert pq.read_table(out).column_names == ["x", "id"]
    assert load_probe_spec(out.with_suffix(".yaml")).columns.id == "id"


def test_pictures_are_built_with_their_transform_and_their_bytes(tmp_path: Path) -> None:
    names = [f"{kind}/{row}.png" for kind in "ab" for row in range(2)]
    for name, pixels in zip(names, np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8), strict=True):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    spec, out = tmp_path / "spec.yaml", tmp_path / "made.parquet"
    columns = "{input: file_name, label: label, id: file_name}"
    spec.write_text(f"uri: {tmp_path / 'pictures'}\ncolumns: {columns}\ntransform: {{resize: 4}}\n", encoding="utf-8")
    assert build(spec, "-o", out) == 0
    rows = pq.read_table(out)["file_name"].to_pylist()
    assert [row["path"] for row in rows] == names
    assert all(row["bytes"] == (tmp_path / "pictures" / row["path"]).read_bytes() for row in rows)
    assert main(["probe", "validate", str(out.with_suffix(".yaml"))]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["SPEC"], 2, "nothing says where to write the probe set; add -o FILE.parquet"),
        (["SPEC", "-o", "FOLDER/a.csv"], 2, "is no .parquet file; name another file"),
        (["SPEC", "-o", "FOLDER/rows.parquet"], 2, "is there already; remove it, or name another file"),
        (["SPEC", "-o", "FOLDER/spec.parquet"], 2, "where the spec belongs, is there already"),
        (["SPEC", "-o", "FOLDER/a.parquet", "--rows", "91"], 2, "--rows is 91, expected 1 to 90"),
        (["SPEC", "-o", "FOLDER/a.parquet", "--rows", "40"], 3, "min_rows: 40 rows to measure, expected at least 50"),
        (["FOLDER/rows.parquet", "--label", "kind", "-o", "FOLDER/a.parquet"], 2, "--input is missing"),
    ],
)
def test_nothing_is_built_that_no_gate_would_take(
    spec: Path, arguments: list[str], code: int, message: str, capsys: Said
) -> None:
    before = set(spec.parent.iterdir())
    words = [each.replace("SPEC", str(spec)).replace("FOLDER", str(spec.parent)) for each in arguments]
    assert build(*words) == code
    assert message in capsys.readouterr().err
    assert set(spec.parent.iterdir()) == before


def test_a_source_with_faults_is_refused_with_all_of_them(spec: Path, tmp_path: Path, capsys: Said) -> None:
    spoil(spec, "kind", 4, None)
    spoil(spec, "name", 9, "r8")
    assert build(spec, "-o", tmp_path / "a.parquet") == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in lines] == ["unique", "not_null"]
    assert all(line.startswith("error[probe]: ") for line in lines)


def test_the_command_is_quick_to_say_that_a_spec_is_wrong(spec: Path) -> None:
    spec.write_text("uri: x\n", encoding="utf-8")
    program = (
        "import sys; from gate.cli import main; code = main(['probe', 'validate', sys.argv[1]]);"
        "print(code, sorted({'torch', 'mlflow', 'great_expectations', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(spec)], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"


@pytest.mark.parametrize("key", ["digest", "slices_digest"])
def test_a_wrong_pin_is_a_finding_of_the_report(spec: Path, key: str, capsys: Said) -> None:
    policy = spec.with_name("policy.yaml")
    text = POLICY.format(uri=spec.with_name("rows.parquet"))
    policy.write_text(text.replace("probe:\n", f"probe:\n  {key}: sha256:{'0' * 64}\n"), encoding="utf-8")
    path = spec.with_name("report.json")
    assert main(["probe", "validate", str(policy), "-o", "text", "-o", f"json={path}"]) == 3
    assert capsys.readouterr().out.startswith("PROBE SET failed  ")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["status"], document["digest"]) == ("failed", None)
    assert [each["fault"] for each in document["findings"]] == ["probe"]
    assert document["findings"][0]["message"].endswith("or pin the new digest")


@pytest.mark.parametrize("command", [["validate"], ["build", "-o", "FOLDER/a.parquet"]])
def test_rows_that_are_not_the_pinned_ones_are_refused(spec: Path, command: list[str], capsys: Said) -> None:
    assert main(["probe", "digest", str(spec), "--write"]) == 0
    spoil(spec, "kind", 4, "k0")
    words = [each.replace("FOLDER", str(spec.parent)) for each in command]
    assert main(["probe", words[0], str(spec), *words[1:]]) == 3
    assert "the policy pins sha256:" in capsys.readouterr().err
    assert main(["probe", "digest", str(spec), "--write"]) == 0
    assert main(["probe", words[0], str(spec), *words[1:]]) == 0
