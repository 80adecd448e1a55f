"""Geometry of representations: statistics of feature rows, and metrics over them.

Needs torch and nothing else. `statistics` holds what one pass over the rows keeps, `registry` the decorator that
makes a function a metric, `influence` and `intervals` how a read-out gets its uncertainty,
`methods` what several metrics are computed with; every other module is one family of metrics.
Importing this package imports no torch: the names of the metrics can be read from `catalogue` without it.
"""
