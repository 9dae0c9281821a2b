"""What `scripts/bench` and `scripts/profile` are made of.

`rows` makes the data, `child` runs one measurement in a fresh process, `ours` and `theirs` are what is measured,
`cases` compares, `show` prints and draws.
"""
