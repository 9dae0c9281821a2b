"""Looking at what was made: a coloured preview of one row, a report over all of them."""
