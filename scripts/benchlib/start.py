"""A whole small program: from nothing to the first encoded batch. Prints the wall-clock time at its end.

In: an Arrow stream, a tokenizer's folder. Started by `cases.start`, which holds the time of the start.
"""

import sys
import time

import datasets

import instruct_fmt as ifmt

dataset = datasets.Dataset.from_file(sys.argv[1])
fmt = ifmt.compile(None, sys.argv[2])
table = fmt.encode_table(dataset.with_format("arrow")[:1000])
with open("done", "w") as file:  # noqa: PTH123 - one import less
    file.write(f"{time.time()} {table.num_rows}")
