"""What every tracked text file keeps: columns, no leftovers, no traces of one machine, and the
exceptions to the rules counted.
"""

from __future__ import annotations

import re

from tests.tidy.tree import ROOT, SourceFile, report, text_files, tracked_paths

COLUMNS_MAX = 100
COLUMNS_IN = (".py", ".sh", "Makefile", ".ci/run")

# Files made by tools: their length and their links are not ours to choose.
GENERATED = re.compile(r"^requirements/.*\.txt$")

# Written with brackets so that this file does not find itself.
LEFTOVER = re.compile(r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|NotImplemente[d]Error")
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(wor[k]|hom[e]/\w+|roo[t]/(?!\.ssh)|User[s]/\w+|tmp/spik[e])"
)
REGISTRY_HOST = re.compile(
    r"deb\.debia[n]\.org|snapshot\.debia[n]\.org|security\.debia[n]\.org|pyp[i]\.org"
    r"|pythonhoste[d]\.org|proxy\.golan[g]\.org|registry\.npmj[s]\.org|static\.crate[s]\.io"
)

# An exception is a comment that switches a check off. Each says why on its line, and together they
# may not become more than this number, which only ever falls. (mypy does not read the tests.)
EXCEPTION = re.compile(r"#\s*(?:noq[a]\b|nose[c]\b|type:\s*ignor[e]\b)(?P<rest>.*)")
UNTYPED = "tests/"
EXCEPTIONS_MAX = 20
REASON_LETTERS_MIN = 8


def ours() -> list[SourceFile]:
    return [source for source in text_files() if not GENERATED.match(source.path)]


def find(pattern: re.Pattern[str]) -> list[str]:
    return [
        source.at(number, found.group(0))
        for source in ours()
        for number, line in enumerate(source.lines, 1)
        if (found := pattern.search(line))
    ]


def test_lines_are_at_most_100_columns():
    findings = [
        source.at(number, f"{len(line)} columns")
        for source in ours()
        if source.path.endswith(COLUMNS_IN) or source.path.startswith("scripts/")
        for number, line in enumerate(source.lines, 1)
        if len(line) > COLUMNS_MAX
    ]
    assert not findings, report(findings)


def test_nothing_is_left_for_later():
    findings = find(LEFTOVER)
    assert not findings, report(findings)


def test_no_file_names_a_path_of_one_machine():
    findings = find(MACHINE_PATH)
    assert not findings, report(findings)


def test_no_file_names_a_registry_host():
    """Packages come from wherever the machine is configured to fetch them."""
    findings = find(REGISTRY_HOST)
    assert not findings, report(findings)


def test_files_end_with_one_newline_and_lines_without_blanks():
    findings = []
    for source in ours():
        if source.text and (not source.text.endswith("\n") or source.text.endswith("\n\n")):
            findings.append(f"{source.path}: does not end with one newline")
        findings += [
            source.at(number, "blank at the end of the line")
            for number, line in enumerate(source.lines, 1)
            if line != line.rstrip()
        ]
    assert not findings, report(findings)


def exceptions() -> list[tuple[str, str]]:
    """Place and reason of every comment that switches a check off."""
    return [
        (source.at(number, line.strip()), found["rest"])
        for source in ours()
        if source.path.endswith(".py")
        for number, line in enumerate(source.lines, 1)
        if (found := EXCEPTION.search(line))
        and not (source.path.startswith(UNTYPED) and "type:" in found[0])
    ]


def test_exceptions_say_why_on_their_line():
    findings = []
    for place, rest in exceptions():
        reason = re.sub(r"^(:\s*[A-Z]+\d+(\s*,\s*[A-Z]+\d+)*|\[[\w\-, ]+\])", "", rest)
        if len(re.findall(r"[a-z]", reason)) < REASON_LETTERS_MIN:
            findings.append(place)
    assert not findings, report(findings)


def test_exceptions_become_no_more():
    found = [place for place, _ in exceptions()]
    assert len(found) <= EXCEPTIONS_MAX, report(found)


def test_folders_do_not_hide_the_pulumi_sdk():
    """A package called `pulumi` on the path would be imported in the place of the SDK."""
    hiding = [p for p in tracked_paths() if re.match(r"(pulumi/__init__\.py|tests/pulumi/)", p)]
    assert not hiding, report(hiding)
    assert (ROOT / "pulumi").is_dir()
