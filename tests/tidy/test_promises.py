"""What is promised of a deployment is looked after by a test on its running VMs."""

from __future__ import annotations

import ast

from tests.tidy.tree import ROOT

VALIDATED = {"D2", "D5", "D6", "D7", "D9", "S1", "S2", "S3", "S4", "S6", "S7", "S8"}


def test_each_promise_about_running_vms_has_a_validation_test():
    marked: set[str] = set()
    for path in (ROOT / "tests" / "validation").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.promise":
                marked |= {ast.literal_eval(argument) for argument in node.args}
    assert VALIDATED - marked == set()
