"""Whether a probe set may decide anything: facts about its rows, held against stock expectations.

No vector reaches Great Expectations, only small frames of facts; `gate.probes.validation` is the way in.
"""
