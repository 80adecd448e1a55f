"""One pass over the rows through the candidate, and beside it through the baseline."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from gate.errors import ProbeError
from gate.streaming.logits import LOGITS, Probabilities, class_names, for_each_class, is_single, require_same_names
from gate.streaming.parts import Shown, parts_of, require_few_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gate.geometry.statistics import Batch
    from gate.probes.probe_set import ProbeSet
    from gate.questions import Part, Plan
    from gate.streaming.sources import Running, Seen

    OnProgress = Callable[[int, int | None], None]  # rows done so far, and all there are, where that is known


def batches(
    models: Running,
    probe: ProbeSet,
    plan: Plan,
    *,
    seed: int,
    total: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[dict[Part, Batch]]:
    """Part → feature rows, batch by batch: every layer of the candidate and the baseline, and the slices of both.

    Args:
        models: The candidate, and what it is compared with on the same rows, if anything.
        probe: Rows with ids.
        plan: Where to read what.
        seed: Of the hash that picks sampled rows.
        total: How many rows there are, where that is known.
        on_progress: Called with the number of rows done so far, and of all.

    Raises:
        GateError: A model, a layer or a row of the probe set is refused.
    """
    size = max(source.at_once for source in models if source is not None)
    mine = models.candidate.rows(probe, size, second_view=plan.second_view)
    theirs = None if models.baseline is None else models.baseline.rows(probe, size, second_view=False)
    classes = plan.classes or None
    seen: set[Part] = set()
    done, probabilities, named = 0, Probabilities(), models.candidate.named
    if models.baseline is not None and "logits" in plan.baseline_reads:
        require_same_names(named, models.baseline.named)
    for raw in _side_by_side(mine, theirs, probe):
        probabilities.see("the candidate", raw.features)
        probabilities.see("the baseline", raw.earlier)
        shown = raw._replace(features=for_each_class(raw.features), earlier=for_each_class(raw.earlier))
        if classes is None and LOGITS in raw.features:
            width, single = shown.features[LOGITS].shape[1], is_single(raw.features)
            classes = class_names(probe, width, size, named=named, single=single)
        about = {of: {"outputs": classes, "seed": seed, "weights": each} for of, each in models.weights.items()}
        for parts in parts_of(shown, plan, about):
            seen |= parts.keys()
            require_few_slices(seen)
            yield parts
        done += len(shown.rows.ids)
        if on_progress is not None:
            on_progress(done, total)
    probabilities.refuse()


def _side_by_side(mine: Iterator[Seen], theirs: Iterator[Seen] | None, probe: ProbeSet) -> Iterator[Shown]:
    """Rows with their features in both models; both passes end, with the checks at their end."""
    if theirs is None:
        yield from (Shown(one.rows, one.features, {}, one.second) for one in mine)
        return
    for one, other in zip_longest(mine, theirs):
        if one is None or other is None or one.rows.ids != other.rows.ids:
            raise ProbeError(f"{probe.uri}: changed while it was read; the two models were shown other rows")
        yield Shown(one.rows, one.features, other.features, one.second)
