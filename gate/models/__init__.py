"""From a model URI to a module that can be run, and the digest of the files it came from."""
