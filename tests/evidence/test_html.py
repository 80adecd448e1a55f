from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gate.evidence import bundle, html, plots

SAMPLES = Path(__file__).parent / "v1"
EVIL = "</script></style><img src=x onerror=alert(1)>\"'&"
VOID = {"meta", "img", "br", "link", "col", "path", "line", "rect", "circle"}


def sample(name: str = "sample") -> dict[str, Any]:
    return bundle.load(SAMPLES / f"{name}.json")


class Page(HTMLParser):
    """The tags of a page, with every attribute, and whether they nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", ["sample", "passed", "error"])
def test_the_page_is_whole_small_and_refers_to_nothing_outside(name: str) -> None:
    rendered = html.render(sample(name))
    page = Page(rendered)
    assert page.open == []
    assert not any(key in attributes for _, attributes in page.tags for key in ("src", "href", "xlink:href", "id"))
    assert not any(tag in ("script", "link", "iframe", "object") for tag, _ in page.tags)
    assert not re.search(r"https?://|@import|url\(", rendered)
    assert len(rendered) < 500_000


def test_fewer_rows_than_dimensions_make_a_cliff_that_says_nothing() -> None:
    document = sample()
    (layer, *_) = document["layers"]
    assert layer["n"] > layer["d"]
    assert "the directions beyond it carry nothing" in Page(html.render(document)).text
    layer["n"] = layer["d"]
    found = Page(html.render({**document, "layers": [layer]})).text
    assert f"{layer['d']} rows span {layer['d'] - 1} directions at most" in found
    assert "carry nothing" not in found


def test_the_verdict_stands_before_the_rules_and_the_failing_before_the_passing() -> None:
    text = Page(html.render(sample())).text
    places = [text.index(words) for words in ("is blocked: of 10 rules", "The rules", "cone", "neighbours", "spread")]
    assert places == sorted(places)


def test_a_failing_rule_says_why_and_where_and_which_rows() -> None:
    text = " ".join(Page(html.render(sample())).text.split())
    for words in (
        "effective_rank of layer 'embedding' is 2.17 [2.11, 2.23], must be at least 9",
        "why Ten classes need nine directions",
        "fix Lower the learning rate of the backbone",
        "policies/classifier.yaml:19:5 min: 9 short by 6.83 (95% interval, n = 500)",
        "20 rows push it most to the failing side digit-0300",
    ):
        assert words in text


def test_where_the_numbers_come_from_stands_at_the_end() -> None:
    document = sample()
    text = Page(html.render(document)).text
    for fact in (
        document["model"]["digest"],
        document["policy"]["digest"],
        document["probe"]["digest"],
        document["run"]["git"]["commit"],
        document["baseline_reason"],
    ):
        assert text.index(fact) > text.index("Where this comes from")


def poisoned(found: Any) -> Any:
    """The document with every text of a person, a model or data replaced by markup."""
    if isinstance(found, dict):
        kept = {"status", "severity", "schema", "metric", "started"}
        return {key: value if key in kept else poisoned(value) for key, value in found.items()}
    if isinstance(found, list):
        return [poisoned(value) for value in found]
    return EVIL if isinstance(found, str) else found


def test_markup_in_any_text_of_the_evidence_is_inert() -> None:
    rendered = html.render(poisoned(sample()))
    tags = {tag for tag, _ in Page(rendered).tags}
    assert tags == {tag for tag, _ in Page(html.render(sample())).tags}
    assert "<img" not in rendered
    assert "onerror=alert(1)&gt;" in rendered


def test_control_characters_of_names_do_not_reach_the_page() -> None:
    document = sample()
    document["model"]["resolved"] = "models:/\x1b[2Jevil/1"
    document["results"][0]["rows"][0]["id"] = "row\r\x07\x9b1A\u202e"
    document["layers"][0]["scatter"]["label"] = ["\x00class"] * len(document["layers"][0]["scatter"]["x"])
    rendered = html.render(document)
    assert all(char.isprintable() or char == "\n" for char in rendered)
    assert r"models:/\x1b[2Jevil/1" in rendered
    assert r"\x00class" in rendered


def test_the_page_forbids_scripts_even_if_markup_got_in() -> None:
    assert "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"" in html.render(
        sample()
    )


def test_colours_of_pictures_follow_the_dark_scheme() -> None:
    rendered = html.render(sample())
    assert "prefers-color-scheme: dark" in rendered
    pictures = "".join(re.findall(r"<svg.*?</svg>", rendered, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{3,6}|rgb\(", pictures)


def test_a_layer_without_labels_or_variance_still_has_a_page() -> None:
    document = sample()
    layer = document["layers"][0]
    layer["class_similarity"] = None
    layer["scatter"] = {"x": [0.0, 0.0], "y": [0.0, 0.0], "label": None}
    layer["spectrum"] = [0.0] * 64
    text = Page(html.render(document)).text
    assert "there is no variance to show" in text
    assert "Similarity of the class centres" not in text
    layer["scatter"] = None
    assert "in two dimensions" not in Page(html.render(document)).text


def test_the_head_names_the_clusters_and_warns_of_few() -> None:
    document = sample()
    assert f"on a probe set of {document['probe']['rows']} rows, " in Page(html.render(document)).text
    for clusters, few in ((150, False), (12, True)):
        document["estimates"][0]["method"] = f"delta method, {clusters} clusters"
        text = Page(html.render(document)).text
        assert f"on a probe set of {document['probe']['rows']} rows in {clusters} clusters, " in text
        assert ("Note: fewer than 30 clusters, so intervals are rough" in text) == few


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (3, ", with at least 2 strong directions for 3 classes."),
        (2, ", with at least 1 strong direction for 2 classes."),
        (1, "Healthy: a gentle slope."),
    ],
)
def test_a_spectrum_says_how_many_directions_classes_need(classes: int, words: str) -> None:
    document = sample()
    matrix = [[float(i == j) for i in range(classes)] for j in range(classes)]
    document["layers"][0]["class_similarity"] = {"classes": list("abc")[:classes], "matrix": matrix}
    assert words in Page(html.render(document)).text


def test_many_classes_and_long_names_stay_small() -> None:
    document = sample()
    names = [f"a class with a long name {i}" for i in range(40)]
    matrix = [[1.0 if i == j else 0.1 for i in range(40)] for j in range(40)]
    document["layers"][0]["class_similarity"] = {"classes": names, "matrix": matrix}
    document["layers"][0]["scatter"] = {
        "x": [float(i) for i in range(1000)],
        "y": [float(i % 7) for i in range(1000)],
        "label": [names[i % 40] for i in range(1000)],
    }
    document["layers"] = document["layers"] * 4
    assert len(html.render(document)) < 500_000


def rule(**fields: Any) -> dict[str, Any]:
    return {"min": None, "max": None, "value": None, "interval": None, **fields}


def test_interval_and_bound_are_drawn_to_scale() -> None:
    scale = plots.scale(rule(value=5.0, interval=[4.0, 6.0], min=2.0, max=10.0))
    assert scale is not None
    assert scale.interval is not None
    assert scale.value is not None
    unit = (scale.allowed[1] - scale.allowed[0]) / 8
    assert scale.interval[1] - scale.interval[0] == pytest.approx(2 * unit, abs=0.2)
    assert scale.value - scale.allowed[0] == pytest.approx(3 * unit, abs=0.2)
    assert [bound.text for bound in scale.bounds] == ["min 2", "max 10"]


def test_an_open_side_is_allowed_to_the_edge() -> None:
    scale = plots.scale(rule(value=1.0, interval=[0.9, 1.1], max=5.0))
    assert scale is not None
    assert scale.allowed[0] == 0.0


def test_a_result_without_a_number_still_shows_its_bound() -> None:
    scale = plots.scale(rule(min=0.0))
    assert scale is not None
    assert scale.value is None
    assert 0 < scale.bounds[0].x < plots.SCALE_WIDTH
    assert plots.scale(rule()) is None


def test_the_spectrum_counts_the_directions_of_ninety_percent() -> None:
    spectrum = plots.spectrum([8.0, 1.0, 0.6, 0.4, 0.0])
    assert spectrum is not None
    assert (spectrum.k90, spectrum.d, spectrum.first) == (2, 5, "80 %")
    assert plots.spectrum([1.0]) is not None
    assert plots.spectrum([0.0, 0.0]) is None


def test_a_wide_spectrum_is_drawn_with_few_points() -> None:
    spectrum = plots.spectrum([1.0 / k for k in range(1, 5000)])
    assert spectrum is not None
    assert spectrum.line.count("L") <= 401


def test_the_heat_map_names_the_closest_pair() -> None:
    matrix = [[1.0, 0.2, None], [0.2, 1.0, 0.7], [None, 0.7, 1.0]]
    assert plots.heat_map({"classes": ["a", "b", "c"], "matrix": matrix}).closest == ("b", "c", "0.70")
    assert plots.heat_map({"classes": ["a"], "matrix": [[1.0]]}).closest is None


def test_both_axes_of_the_scatter_have_one_scale() -> None:
    points = {"x": [0.0, 3.0, 0.0], "y": [0.0, 0.0, 1.0], "label": None}
    path = plots.scatter(points, [3.0, 1.0]).clouds[0].path
    (x0, y0), (x1, _), (_, y2) = ((float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", path))
    assert (x1 - x0) / (y0 - y2) == pytest.approx(3.0, rel=0.01)
