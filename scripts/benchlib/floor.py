"""What `start` does without this package: the libraries loaded, the engine made, a text encoded."""

import sys
import time

import datasets
import gigatoken
from transformers import AutoTokenizer

dataset = datasets.Dataset.from_file(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
engine = gigatoken.Tokenizer.from_json(tokenizer.backend_tokenizer.to_str())
engine.encode_batch(["Hello."])
with open("done", "w") as file:  # noqa: PTH123 - one import less
    file.write(f"{time.time()} {len(dataset)}")
