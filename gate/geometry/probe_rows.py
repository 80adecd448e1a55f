"""Whether the probe set itself can carry a verdict."""

from __future__ import annotations

import torch

from gate.geometry.influence import Readout, missing_input
from gate.geometry.registry import Answer, metric
from gate.geometry.statistics import Fingerprints, Sample


@metric(
    unit="share of rows",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "rotation", "permutation", "channel_scaling", "linear_map"},
    unasserted={"row_scaling"},
    domain="always",
    paper="after Deng et al. 2021; rule derived here",
    readouts={
        "exact": "share of rows whose input occurs again",
        "cross": "share of rows that occur in the training or reference rows",
    },
    limits={"value": (0, 1), "exact": (0, 1), "cross": (0, 1)},
)
def near_duplicate_share(fingerprints: Fingerprints, sample: Sample) -> dict[str, Answer]:
    """Duplicated rows in the probe set: share of rows whose input occurs more than once.

    Judged on the inputs, never on the features of the model under test: those coincide when it collapses. Rows of
    features that come without inputs are their own inputs.

    Args:
        fingerprints: Of the inputs of all rows.
        sample: The sampled rows.

    Returns:
        Share of rows in [0, 1], and read-outs.
    """
    repeated, count = fingerprints.repeated()
    n = fingerprints.n
    terms = torch.isin(sample.rows.fingerprints, repeated).double()
    share = torch.tensor(count / n, dtype=torch.float64)
    exact = Readout(
        share,
        influence=terms - terms.mean(),
        trials=n,
        n=n,
        method="Wilson, hash of the inputs",
        detail=f"{count} of {n} rows",
    )
    return {"value": exact, "exact": exact, "cross": missing_input("reference rows")}
