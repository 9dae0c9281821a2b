"""The proof: one model, the same rows, prepared here and with one classic fault at a time."""
