"""Signed statements: what was judged, by which policy, when and with which verdict; made, read and held against facts.

Nothing here asks a registry or reads a clock, and nothing needs mlflow or torch: the same code runs in `gate check`, in
`gate verify` and inside of the registry server.
"""
