"""What a person sees in MLflow's own pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.enforcement import browser
from tests.enforcement.servers import Server

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None or browser.DRIVER is None, reason="chromium or its driver is not installed"
)


def test_the_dialog_for_aliases_shows_why_a_version_may_not_be_champion(sqlite_server: Server, tmp_path: Path) -> None:
    server = sqlite_server
    version = server.version()
    with browser.opened(tmp_path) as page:
        page.open(f"{server.url}/#/models/{version.name}")
        page.click("//*[@role='row'][contains(., 'Version 1')]//button[contains(@data-component-id, 'aliases')]")
        page.type("//*[@role='dialog']//input", "champion\ue007")
        page.click("//*[@role='dialog']//button[contains(., 'Save')]")
        page.find("//*[@role='dialog']//*[contains(., 'Refused by gate')]")
        page.screenshot(tmp_path / "alias.png")
        text = page.text
    reason = f"there is no signed statement of policy 'geometry' on models:/{version.name}/1"
    assert f"Refused by gate: alias 'champion' of models:/{version.name}/1: {reason}" in text
    assert server.alias(version.name) is None


def test_the_table_of_versions_shows_the_verdict(sqlite_server: Server, tmp_path: Path) -> None:
    server = sqlite_server
    version = server.passed()
    with browser.opened(tmp_path) as page:
        page.open(f"{server.url}/#/models/{version.name}")
        page.find("//*[contains(text(), 'gate')]")
        page.screenshot(tmp_path / "versions.png")
        text = page.text
    assert "gate: PASS" in text.replace("gate\n:", "gate:").replace("gate:\n", "gate: ")
