"""What several metrics are computed with: nulls, probes, neighbour search, pairs of rows, bounds."""
