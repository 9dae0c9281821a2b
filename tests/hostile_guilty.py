"""Cases that do what no case may do: the judge must see each of them.

In: nothing. Out: `GUILTY`: a case, and the words of the violation that it must be found guilty of.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hostile_case import Case, Outcome
from hostile_labels import as_served
from hostile_modules import CODE
from hostile_scene import WARM, formatter
from hostile_write import file

import instruct_fmt as ifmt

DONE = Outcome("ok")


def _raise() -> Outcome:
    raise KeyError("nothing")


def _say_traceback() -> Outcome:
    print("Traceback (most recent call last):", file=sys.stderr)
    return DONE


def _work() -> Outcome:
    while True:
        pass


def _work_in_a_child() -> Outcome:
    code = "import time\nwhile time.process_time() < 2.5: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    return DONE


def _fill() -> Outcome:
    return Outcome(f"ok: {len(bytes([1]) * 700_000_000)}")


def _hang() -> Outcome:
    time.sleep(600)
    return DONE


def _die() -> Outcome:
    os.kill(os.getpid(), signal.SIGSEGV)
    return DONE


def _ask() -> Outcome:
    return Outcome(f"ok: {input()}")


def _delete() -> Outcome:
    Path("thesis.txt").unlink()
    return DONE


def _change() -> Outcome:
    Path("thesis.txt").write_text("four years of work\n", encoding="utf-8")
    return DONE


def _write() -> Outcome:
    Path("elsewhere").write_text("a", encoding="utf-8")
    return DONE


def _replace() -> Outcome:
    shutil.rmtree("out")
    return DONE


def _run_code() -> Outcome:
    exec(compile(CODE, "colours.py", "exec"), {"__file__": "colours.py"})
    return DONE


def _import_in_a_child() -> Outcome:
    subprocess.run([sys.executable, "-c", "import colours"], check=True)
    return DONE


def _mislabel() -> Outcome:
    """What a wrong mask is called: the question is trained too."""
    fmt = formatter("chatml", "chatml")
    ids = fmt.encode({"messages": WARM["messages"]})["input_ids"]
    return Outcome("ok", tuple(as_served(fmt, {"input_ids": ids, "labels": ids}, ["Two."], "<|im_end|>")))


def _shift() -> Outcome:
    fmt = formatter("chatml", "chatml")
    row = fmt.encode({"messages": WARM["messages"]})
    return Outcome("ok", tuple(as_served(fmt, {**row, "labels": [*row["labels"][1:], -100]}, ["Two."], "<|im_end|>")))


def _refuse() -> Outcome:
    ifmt.compile("chatml", "")
    return DONE


def _case(name: str, run: Callable[[], Outcome], keeps: tuple[str, ...] = ()) -> Case:
    def setup(folder: Path) -> None:
        for path, text in (("thesis.txt", "forty years\n"), ("colours.py", CODE), ("out/thesis.txt", "forty\n")):
            file(path, text)(folder)

    return Case("files", name, "to be caught", "", run, setup, keeps=keeps)


GUILTY: Mapping[str, tuple[Case, str]] = {
    name: (_case(name, run, keeps), words)
    for name, run, words, keeps in (
        ("raises", _raise, "traceback: KeyError: 'nothing'", ()),
        ("says a traceback", _say_traceback, "traceback", ()),
        ("works", _work, "s of processor time", ()),
        ("works in a child", _work_in_a_child, "s of processor time", ()),
        ("fills memory", _fill, " MB", ()),
        ("hangs", _hang, "hang", ()),
        ("dies", _die, "died of signal 11", ()),
        ("asks", _ask, "asked a question", ()),
        ("deletes", _delete, "the user's thesis.txt is gone", ()),
        ("changes", _change, "the user's thesis.txt has changed", ()),
        ("writes", _write, "written outside of the output: elsewhere", ()),
        ("replaces", _replace, "the user's out/thesis.txt is gone", ("out/thesis.txt",)),
        ("runs code", _run_code, "ran the user's code: colours.py", ()),
        ("imports in a child", _import_in_a_child, "ran the user's code", ()),
        ("trains the question", _mislabel, "wrong labels: trained", ()),
        ("shifts labels", _shift, "wrong labels: a label is not the id", ()),
        ("refuses", _refuse, "", ()),
    )
}
"""The last is innocent."""
