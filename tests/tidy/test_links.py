"""Every link of a page to a file of the repository leads somewhere."""

from __future__ import annotations

import posixpath
import re

from tests.tidy.tree import ROOT, report, text_files

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def test_links_between_pages_lead_somewhere():
    pages = [source for source in text_files() if source.path.endswith(".md")]
    findings = [
        source.at(number, target)
        for source in pages
        for number, line in enumerate(source.lines, 1)
        for target in LINK.findall(line)
        if not (ROOT / posixpath.dirname(source.path) / target).exists()
    ]
    assert not findings, report(findings)
    assert len(pages) > 1
