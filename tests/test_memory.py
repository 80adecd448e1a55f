"""Features are never all held in memory: ten times as many rows cost no more than a fixed allowance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CHANNELS = 256
CLASSES = 20
ROWS_PER_GROUP = 20_000
ALLOWED_MB = 200
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: memory, version: "1.0.0"}
probe:
  uri: PROBE
  columns: {input: features, label: label, id: id}
rules:
  - {id: rank, metric: effective_rank, min: 100}
  - {id: classes, metric: within_between_ratio.between_share, min: 0.01}
  - {id: pairs, metric: cdnv, max: 1000}
  - {id: neighbours, metric: knn_label_agreement, min: 0.1}
  - {id: repeats, metric: near_duplicate_share, max: 0.01}
  - {id: probe, metric: ridge_probe_accuracy, min: 0.1}
"""
# Linux counts the peak of the process that starts another as the other's own, so a small one must stand between.
LAUNCHER = """\
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
# One thread: several that wait for each other on a busy machine take ten times as long.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Cost:
    """What one check took."""

    rows: int
    peak_mb: float
    seconds: float


def write_probe(path: Path, rows: int) -> None:
    """Clusters of vectors with an id and a label, one row group after another."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, CHANNELS)).astype(np.float32)
    vectors = pa.list_(pa.float32(), CHANNELS)
    schema = pa.schema([("features", vectors), ("label", pa.string()), ("id", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=["label"]) as writer:
        for start in range(0, rows, ROWS_PER_GROUP):
            labels = generator.integers(CLASSES, size=ROWS_PER_GROUP)
            features = centres[labels] + generator.standard_normal((ROWS_PER_GROUP, CHANNELS), dtype=np.float32)
            names = [f"row-{row}" for row in range(start, start + ROWS_PER_GROUP)]
            columns = [pa.FixedSizeListArray.from_arrays(features.reshape(-1), CHANNELS), labels.astype(str), names]
            writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))


def cost_of_a_check(folder: Path, rows: int) -> Cost:
    probe, policy, evidence = folder / f"{rows}.parquet", folder / "policy.yaml", folder / "evidence.json"
    write_probe(probe, rows)
    policy.write_text(POLICY.replace("PROBE", str(probe)), encoding="utf-8")
    check = [sys.executable, "-m", "gate", "check", f"features:{probe}", "-p", str(policy)]
    command = [sys.executable, "-c", LAUNCHER, *check, "--device", "cpu", "-o", f"json={evidence}"]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    probe.unlink()
    assert done.returncode == 0, done.stderr
    document = json.loads(evidence.read_text(encoding="utf-8"))
    assert (document["status"], document["probe"]["rows"]) == ("passed", rows)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # Linux counts kilobytes
    return Cost(rows, int(done.stdout) / unit, document["run"]["seconds"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_rows_need_at_most_200_megabytes_more_than_a_hundred_thousand(tmp_path: Path) -> None:
    few, many = (cost_of_a_check(tmp_path, rows) for rows in (100_000, 1_000_000))
    assert many.peak_mb - few.peak_mb <= ALLOWED_MB, (few, many)


_GROWTH = """
import resource, torch
from gate import measure
rows = torch.rand(60_000, 1024)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measure(rows, metrics=["collapse_index"], intervals=False)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_the_statistics_work_in_tiles_however_many_rows_there_are() -> None:
    done = subprocess.run([sys.executable, "-c", _GROWTH], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 200, "the rows are 246 MB, and twice that in double precision"


_VALIDATION = """
import resource, sys, tempfile
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from gate.probes.probe_set import Columns, open_probe
from gate.probes.validation import validate

def peak(rows, repeat):
    path = f"{folder}/{rows}.parquet"
    column = np.arange(rows)
    texts = {name: pa.array(column // of).cast(pa.string()) for name, of in COLUMNS.items()}
    texts["id"] = pa.concat_arrays([texts["id"][:-1], texts["id"][repeat:repeat + 1]])
    pq.write_table(pa.table({"x": column % 997 / 1.0, "length": column % 512 + 1, **texts}), path)
    del texts, column
    columns = Columns("x", label="label", group="group", length="length", id="id", cluster="cluster")
    validation = validate(open_probe(path, columns=columns))
    (found,) = validation.findings
    assert (found.fault, found.rows, found.ids) == ("unique", 2, (str(repeat), str(repeat))), found
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

COLUMNS = {"id": 1, "label": 20_000, "group": 1_000, "cluster": 4}
with tempfile.TemporaryDirectory() as folder:
    before = peak(30_000, 7)
    print((peak(330_000, 70_000) - before) // 1024)
"""


def test_validation_keeps_a_few_bytes_of_each_row() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, sys.executable, "-c", _VALIDATION],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < 120, "300 000 rows more: some facts of 8 bytes each, and no text"
