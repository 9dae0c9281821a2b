"""Templates: where they come from, how they are rendered, what of the text is trained."""
