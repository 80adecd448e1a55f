"""Offline verification: what was judged, signed and registered, held against the files that there are.

It asks a registry by the standard library alone and starts in a moment; neither mlflow nor torch is imported for it,
but where a registry cannot be read otherwise.
"""
