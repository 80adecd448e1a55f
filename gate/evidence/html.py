"""The evidence as one self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.evidence import plots, summary, wording

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(document: Mapping[str, Any]) -> str:
    """Render the evidence as a page with inline style and pictures and no reference to anything outside of it.

    Args:
        document: The evidence.

    Returns:
        HTML; every name and text of the document is escaped, control characters among them.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gate.evidence", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = wording.number
    page = environment.get_template("report.html.j2").render(
        document=document,
        headline=summary.headline(document),
        policy_name=summary.policy_name(document),
        tally=summary.tally(document),
        rows=summary.rows(document),
        notes=summary.notes(document),
        baseline=summary.baseline(document),
        kept=summary.kept(document["model"]),
        expected=summary.expected(document["probe"]),
        outcomes=[
            {"name": outcome, "count": document["counts"][outcome], "words": summary.counted(document, outcome)}
            for outcome in summary.WORST_FIRST
            if document["counts"][outcome]
        ],
        rules=[_rule(document, result) for result in summary.worst_first(document)],
        layers=[_layer(layer) for layer in document["layers"]],
        estimates=[
            {**estimate, "measured": wording.measured(estimate)}
            for estimate in document["estimates"]
            if estimate["value"] is not None
        ],
        silent=[estimate for estimate in document["estimates"] if estimate["value"] is None],
        size={"width": plots.WIDTH, "height": plots.HEIGHT, "scale": plots.SCALE_WIDTH},
        frame={"left": plots.LEFT, "right": plots.RIGHT, "top": plots.TOP, "bottom": plots.BOTTOM},
    )
    return wording.printable(page, keep="\n")


def _rule(document: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    confidence = document["run"]["confidence"]
    return {
        **result,
        "name": wording.finding_name(result),
        "place": wording.place(document, result),
        "waived": wording.waived(result),
        "advice": wording.advice(result),
        "measured": wording.measured(result),
        "required": wording.required(result),
        "miss": None if result["status"] == "pass" else wording.miss(result, confidence),
        "source": wording.source_line(document, result),
        "scale": plots.scale(result),
    }


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    similarity, points = layer["class_similarity"], layer["scatter"]
    return {
        **layer,
        "spectrum": plots.spectrum(layer["spectrum"]),
        "heat_map": plots.heat_map(similarity) if similarity and similarity["classes"] else None,
        "scatter": plots.scatter(points, layer["spectrum"]) if points and points["x"] else None,
    }
