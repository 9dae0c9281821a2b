"""What becomes of rows that do not fit."""
