"""What every Python module keeps: sizes, docstrings, names, and how it handles errors and tasks."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

from tests.tidy.tree import Module, modules, report

MODULE_LINES_MAX = 700
CLASS_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# A module's name says what it owns; these say only that nobody knew.
NAMES_BANNED = {"common", "helper", "helpers", "misc", "util", "utils"}

# Where an error of any kind must not end the process: the server answers 500 and goes on, the
# supervisor decides about a child's fate, the engine reports what the operator's program raised.
BROAD_EXCEPT_ALLOWED = {
    "objectstore_app/runtime/connection.py",
    "objectstore_app/runtime/server.py",
    "objectstore_app/runtime/supervisor.py",
    "pulumi/objectstore_infra/engine/runner.py",
}

# Only these own tasks; everything else uses a TaskGroup or asks them.
CREATE_TASK_ALLOWED_UNDER = ("objectstore_app/runtime/", "tests/")

# fsck holds a view against the one that it builds anew from the log.
SQLITE_ALLOWED_UNDER = ("objectstore_app/metadata_service/", "objectstore_app/atlas/fsck.py")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def node_lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_are_at_most_700_lines():
    findings = [
        f"{module.path}: {len(module.source.lines)} lines"
        for module in modules()
        if len(module.source.lines) > MODULE_LINES_MAX
    ]
    assert not findings, report(findings)


def test_functions_and_classes_stay_small():
    findings = []
    for module in modules():
        for node in module.nodes(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
            limit = CLASS_LINES_MAX if isinstance(node, ast.ClassDef) else FUNCTION_LINES_MAX
            if node_lines(node) > limit:
                said = f"{node.name} has {node_lines(node)} lines, at most {limit}"
                findings.append(module.source.at(node.lineno, said))
    assert not findings, report(findings)


def test_every_module_opens_with_a_docstring():
    findings = [
        module.path
        for module in modules()
        if module.tree.body and not ast.get_docstring(module.tree)
    ]
    assert not findings, report(findings)


def test_module_names_say_what_they_own():
    findings = [m.path for m in modules() if PurePosixPath(m.path).stem in NAMES_BANNED]
    assert not findings, report(findings)


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(e, ast.Name) and e.id in ("Exception", "BaseException") for e in caught)


def ends_in_raise(handler: ast.ExceptHandler) -> bool:
    """A handler that only cleans up and lets the same error rise hides nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_broad_except_stands_only_in_the_server_and_the_supervisor():
    findings = []
    for module in modules():
        if module.path in BROAD_EXCEPT_ALLOWED:
            continue
        for node in module.nodes(ast.ExceptHandler):
            if is_broad(node) and not ends_in_raise(node):
                findings.append(module.source.at(node.lineno, "broad except"))
    assert not findings, report(findings)


def test_no_task_is_started_that_nobody_waits_for():
    findings = []
    for module in modules():
        if module.path.startswith(CREATE_TASK_ALLOWED_UNDER):
            continue
        for node in module.nodes(ast.Call):
            callee = node.func
            if not isinstance(callee, ast.Attribute):
                continue
            owner = callee.value.id if isinstance(callee.value, ast.Name) else ""
            if callee.attr == "ensure_future" or (
                callee.attr == "create_task" and owner in ("asyncio", "loop")
            ):
                findings.append(module.source.at(node.lineno, f"bare {callee.attr}"))
    assert not findings, report(findings)


def imported(module: Module) -> set[str]:
    """The dotted names that a module imports absolutely."""
    names: set[str] = set()
    for node in module.nodes(ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif node.level == 0 and node.module:
            names.add(node.module)
    return names


def imports_package(module: Module, package: str) -> bool:
    return any(re.match(rf"{package}(\.|$)", name) for name in imported(module))


def test_the_store_and_the_deployment_meet_only_in_the_command_line():
    findings = []
    for module in modules():
        below_cli = module.path.startswith("objectstore_app/") and not module.path.startswith(
            "objectstore_app/cli/"
        )
        if below_cli and imports_package(module, "objectstore_infra"):
            findings.append(f"{module.path} imports objectstore_infra")
        if module.path.startswith("pulumi/") and imports_package(module, "objectstore_app"):
            findings.append(f"{module.path} imports objectstore_app")
    assert not findings, report(findings)


def test_sqlite_is_used_only_by_the_metadata_service_and_its_check():
    findings = [
        module.path
        for module in modules()
        if module.path.startswith("objectstore_app/")
        and not module.path.startswith(SQLITE_ALLOWED_UNDER)
        and (imports_package(module, "apsw") or imports_package(module, "sqlite3"))
    ]
    assert not findings, report(findings)


def test_every_test_is_collected_and_can_fail():
    findings = []
    for module in modules():
        if not module.path.startswith("tests/"):
            continue
        collected = PurePosixPath(module.path).name.startswith("test_")
        for node in module.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            if node.name.startswith("test_") and not collected:
                findings.append(module.source.at(node.lineno, "pytest does not read this file"))
        if collected and not can_fail(module):
            findings.append(f"{module.path}: nothing in it can fail")
    assert not findings, report(findings)


def can_fail(module: Module) -> bool:
    if any(True for _ in module.nodes(ast.Assert)):
        return True
    calls = (ast.unparse(node.func) for node in module.nodes(ast.Call))
    return any(re.search(r"raises|check|expect|assert|fail", name) for name in calls)
