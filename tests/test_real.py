"""Real tokenizers on real data, a sample of each file; scripts/real_table does all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_rows

pytestmark = pytest.mark.real
ROWS = 60


@pytest.mark.parametrize("job", list(real_rows.jobs()), ids=lambda job: job.id)
def test_real_rows(job: real_rows.Job, real_tokenizers: Path, real_data: Path) -> None:
    """Emitted rows are right; the others are refused under a reason."""
    fmt = real_rows.compile_job(job, real_tokenizers)
    rows = real_rows.load_rows(real_data / job.file, ROWS)
    counts, wrong = real_rows.check(fmt, rows)
    assert not wrong, wrong[:5]
    refused = sum(n for key, n in counts.items() if key.startswith("rejected:"))
    assert counts["emitted"] + refused == counts["rows"] == len(rows)
    if "glaive" not in job.file:
        assert counts["emitted"] == len(rows)
        assert counts["trained_tokens"] > 0


@pytest.mark.parametrize("name", ["llama3_1", "llama2"])
def test_calls_are_refused_where_the_template_knows_none(name: str, real_tokenizers: Path, real_data: Path) -> None:
    """About half of the tool rows would teach a bare terminator."""
    job = real_rows.Job(name, "llama2" if name == "llama2" else None, "glaive_toolcall_en.json")
    fmt = real_rows.compile_job(job, real_tokenizers)
    rows = real_rows.load_rows(real_data / job.file, ROWS)
    calls = [row for row in rows if any(turn["from"] == "function_call" for turn in row["conversations"])]
    counts, _ = real_rows.check(fmt, calls)
    assert counts["emitted"] == 0
