"""Two versions of a model side by side on the same rows, and what the pairing says of every number of theirs."""
