"""Measurements of the suite against public packages and against the machine."""
