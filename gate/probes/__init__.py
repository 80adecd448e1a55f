"""Probe sets: read in one streaming pass, checked and digested while they are read."""
