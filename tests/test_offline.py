"""No network, no standard input: the main jobs where every socket is an error, also in worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# `AF_UNIX` is no network.
FORBIDDEN = """
import socket
_Socket = socket.socket
class Forbidden(_Socket):
    def __init__(self, family=-1, *arguments, **names):
        if family != socket.AF_UNIX:
            raise AssertionError("a socket was opened")
        super().__init__(family, *arguments, **names)
def forbidden(*arguments, **names):
    raise AssertionError("a name was looked up")
socket.socket = Forbidden
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = forbidden
"""
PROGRAM = """
import sys
import datasets
import instruct_fmt as ifmt
from instruct_fmt.run.read.dataset import open_dataset
from instruct_fmt.run.prepare import RunOptions, Source, prepare_sources
datasets.config.HF_DATASETS_CACHE = sys.argv[1]
fmt = ifmt.compile(None, "embedded")
rows = open_dataset("embedded")
fmt.encode(rows[0])
fmt.preview(rows[0])
fmt.check(rows)
rows.map(fmt, batched=True, remove_columns=rows.column_names)
fmt.prepare(rows, num_proc=2, batch_size=len(rows) // 3, output_dir=sys.argv[1] + "/out", progress=False)
print("done")
"""


def test_no_socket_and_no_standard_input(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORBIDDEN, encoding="utf-8")
    folders = [str(tmp_path), *(folder for folder in sys.path if folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "INSTRUCT_FMT_CACHE": str(tmp_path / "kept")}
    environment.pop("HF_HUB_OFFLINE", None)
    for command in (["-c", PROGRAM, str(tmp_path)], ["-m", "instruct_fmt.cli", "check", "embedded"]):
        done = subprocess.run(
            [sys.executable, *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    opened = "import socket\nsocket.create_connection(('localhost', 9))"
    refused = subprocess.run([sys.executable, "-c", opened], env=environment, capture_output=True, text=True)
    assert "a name was looked up" in refused.stderr
