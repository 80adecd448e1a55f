"""The evidence of a check: one JSON document, and everything that people read, rendered from it alone."""
