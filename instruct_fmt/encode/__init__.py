"""Marked texts to token ids and trained flags."""
