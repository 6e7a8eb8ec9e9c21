"""Problems have reasons that are documented, and errors survive the way to another process."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mpmetrics
from mpmetrics import errors
from mpmetrics.errors import REASONS, MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(mpmetrics.__file__).parent

EXAMPLES: tuple[tuple[MpmetricsError, str], ...] = (
    (errors.MpmetricsError("anything"), "anything"),
    (errors.DamagedError(8, "no key fits"), "no key fits (at offset 8)"),
    (errors.TooLargeError(0, "too many bytes"), "too many bytes (at offset 0)"),
    (errors.NotAMetricsFileError("/a.db"), "[Errno 22] not a regular file: '/a.db'"),
    (errors.DirectoryError("/d", "it is gone"), "/d: it is gone"),
    (errors.DirectoryError("", "no directory is named"), "no directory is named"),
    (errors.CompactionError("/d", "it is locked"), "/d: not compacted: it is locked"),
    (errors.LabelError("le", "it is reserved"), "label 'le': it is reserved"),
    (errors.FilterError("not a prefix"), "not a prefix"),
    (errors.SourceConfigError("a.yml", "not YAML"), "a.yml: not YAML"),
    (errors.SourceError("http://x", "status 500"), "http://x: status 500"),
    (errors.PageError(7, "a\x1b b", "no value"), "line 7: no value: a\\x1b b"),
    (errors.PageError(7, "a" * 81, "no value"), f"line 7: no value: {'a' * 80}…"),
    (errors.ListenError(":80", "not permitted"), "cannot listen on :80: not permitted"),
    (errors.WebConfigError("/w.yml", "not YAML"), "/w.yml: not YAML"),
    (
        errors.MissingExtraError("uvicorn", "serve"),
        (
            "the package uvicorn is needed, which the extra 'serve' brings: "
            "pip install '.[serve]' in a clone of mpmetrics"
        ),
    ),
    (
        errors.UnsupportedReleaseError("uvicorn", "9.9", "No module named 'x'"),
        (
            "uvicorn 9.9 cannot be used: No module named 'x'; "
            "see pyproject.toml for the releases that can"
        ),
    ),
    (errors.RunDirectoryError("/d", "it is full"), "/d: it is full"),
    (errors.AccountError("shop", "there is no such user"), "shop: there is no such user"),
    (errors.CommandError("ls", "command not found", 127), "ls: command not found"),
)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Yield every module of the library but the one with the table of reasons."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != Path(errors.__file__):
            yield path, ast.parse(path.read_text("utf-8"))


def constants_called_reason(module: ast.Module) -> Iterator[object]:
    """Yield the constants that a module passes as the reason of a problem, or assigns to one."""
    positions = {"Problem": 1}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            names = [each.arg for each in node.args.args if each.arg != "self"]
            if "reason" in names:
                positions[node.name] = names.index("reason")
    found: list[ast.expr] = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in positions:
                found += node.args[positions[called] :][:1]
                found += [each.value for each in node.keywords if each.arg == "reason"]
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else []
            found += [
                value
                for name, value in zip(target.elts, values, strict=False)
                if isinstance(name, ast.Name) and name.id == "reason"
            ]
    yield from (each.value for each in found if isinstance(each, ast.Constant))


def problem_modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules that make problems, with their names."""
    for path, module in modules():
        if any(isinstance(node, ast.Name) and node.id == "Problem" for node in ast.walk(module)):
            yield path.name, module


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=[message for _, message in EXAMPLES])
def test_an_error_survives_pickling(error: MpmetricsError, message: str) -> None:
    """An unpickled error has the type, the message, the arguments and the attributes it had."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), message)
    assert (again.args, vars(again)) == (error.args, vars(error))
    assert str(error) == message


def test_every_public_error_is_pickled() -> None:
    """The examples above have every error class of the module that is not private."""
    classes = {
        value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    }
    assert {type(error) for error, _ in EXAMPLES} == classes


def test_an_error_about_a_file_keeps_its_number() -> None:
    """A path that is no regular file is reported as `EINVAL`, also after pickling."""
    again = pickle.loads(pickle.dumps(errors.NotAMetricsFileError("/a.db")))
    assert (again.errno, again.strerror, again.filename) == (22, "not a regular file", "/a.db")


def test_every_reason_of_a_problem_is_documented() -> None:
    """Every reason that a module gives a problem is a key of `REASONS`."""
    used = {
        (name, each)
        for name, module in problem_modules()
        for each in constants_called_reason(module)
    }
    assert sorted(each for each in used if each[1] not in REASONS) == []


def test_every_documented_reason_is_used() -> None:
    """Every key of `REASONS` is one that a module gives a problem."""
    used = {each for _, module in problem_modules() for each in constants_called_reason(module)}
    assert sorted(REASONS.keys() - used) == []
