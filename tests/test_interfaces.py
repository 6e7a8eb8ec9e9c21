"""Packages as interfaces: what each exports, and who may import what from where."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import mpmetrics
import mpmetrics_cli

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC_IN_0_1: Final = {
    "mpmetrics": [
        "Collection",
        "Compaction",
        "CompactionError",
        "DirectoryError",
        "FilterError",
        "LabelError",
        "Liveness",
        "MpmetricsError",
        "MultiProcessCollector",
        "Page",
        "Problem",
        "Registration",
        "SourceError",
        "collect",
        "compact",
        "is_alive",
        "make_asgi_app",
        "make_wsgi_app",
        "mark_process_dead",
        "register",
    ],
    "mpmetrics.engines": [
        "CONNECTOR_FAMILIES",
        "DYNAMO_COMPONENT",
        "KVBM",
        "LMCACHE",
        "LMCACHE_MP",
        "RAY_VLLM",
        "SGLANG",
        "TRTLLM",
        "VLLM",
        "ActiveLoad",
        "CallbackSink",
        "ComponentGauges",
        "Connector",
        "ConnectorConflictError",
        "ConnectorDeclarationError",
        "ConnectorDisagreementError",
        "ConnectorFamily",
        "ConnectorMetadataError",
        "ConnectorMetrics",
        "ConnectorStats",
        "ConnectorStatsError",
        "ConnectorSummary",
        "FamilyCopy",
        "DebounceTiming",
        "DebounceTimingError",
        "DynamoSender",
        "EndpointBoundError",
        "EngineMonitor",
        "EventBridge",
        "EventEndpointError",
        "HybridCacheError",
        "IterationTokens",
        "KvbmError",
        "KvbmMetrics",
        "LoadError",
        "MetricConflictError",
        "MetricsRegistry",
        "MetricsSetup",
        "MonitorTiming",
        "MultiConnector",
        "MultiConnectorMetadata",
        "MultiConnectorMetrics",
        "MultiConnectorStats",
        "MultiConnectorWorkerMetadata",
        "MultiprocDirectory",
        "NameSanitizingError",
        "NatsOptionError",
        "NatsOptions",
        "NatsSender",
        "NatsSink",
        "PrefillStats",
        "PromptTokenStats",
        "StatLogger",
        "StatLoggerFactory",
        "SupportsHMA",
        "TokenLedgerError",
        "TokenMetrics",
        "TransferParamsClashError",
        "WorkerLoadPublisher",
        "ZmqSender",
        "ZmqSink",
        "ensure_multiproc_dir",
        "first_schedule",
        "kvbm_port",
        "offload_info",
        "prefix_hit",
        "register_engine_metrics_callback",
        "serve_kvbm",
        "setup_metrics_collection",
        "supports_hma",
    ],
    "mpmetrics.engines.events": [
        "Address",
        "CallbackSink",
        "Cleared",
        "EventBridge",
        "LinesSink",
        "NatsOptions",
        "NatsSink",
        "Publisher",
        "Removed",
        "Source",
        "Stored",
        "Worker",
        "ZmqSink",
        "publishers",
    ],
}
"""The names that version 0.1.0 promised to keep, by the package to import them from."""

PRIVATE: Final = {
    "mpmetrics.engines.events": {
        "Author",
        "Link",
        "NatsLink",
        "Sink",
        "ZmqLink",
        "channel_record",
    },
}
"""The names that a public package has for other packages of the project, and for no user."""

ROOTS: Final = (mpmetrics, mpmetrics_cli)

MODULES: Final = {
    info.name: info.ispkg
    for root in ROOTS
    for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")
} | {root.__name__: True for root in ROOTS}
"""Whether it is a package, for each module of the project by its full name."""

PACKAGES: Final = sorted(name for name, is_package in MODULES.items() if is_package)


def tree_of(module: str) -> ast.Module:
    """Return the syntax tree of a *module*, by its full name."""
    root = next(each for each in ROOTS if module.partition(".")[0] == each.__name__)
    path = Path(root.__path__[0]).joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if MODULES[module] else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def literals_of(tree: ast.Module) -> dict[str, Any]:
    """Return the constants that a module assigns, by name."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each module that is imported from, and the imported name; "" for the module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


EXPORTING: Final = [name for name in PACKAGES if "__all__" in literals_of(tree_of(name))]
LAZY: Final = [name for name in EXPORTING if "_MODULES" in literals_of(tree_of(name))]


@pytest.mark.parametrize("package", LAZY)
def test_a_lazy_package_names_its_exports_three_times_alike(package: str) -> None:
    """`_MODULES` and the imports for type checkers agree, and have every name of `__all__`.

    Their other names are former ones, and those for other packages of the project.
    """
    tree = tree_of(package)
    literals = literals_of(tree)
    for_checkers = {
        (module.removeprefix(f"{package}."), name)
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for module, name in imports_of(node)
    }
    lazily = {(module, name) for module, names in literals["_MODULES"].items() for name in names}
    assert lazily == for_checkers
    names, exported = {name for _, name in lazily}, set(literals["__all__"])
    assert exported <= names
    assert names - exported <= {*PUBLIC_IN_0_1.get(package, ()), *PRIVATE.get(package, ())}


@pytest.mark.parametrize("package", EXPORTING)
def test_every_exported_name_can_be_loaded(package: str) -> None:
    """Each name in `__all__` of a package is an attribute of it."""
    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", EXPORTING)
def test_no_exported_name_is_that_of_a_module(package: str) -> None:
    """No package exports a name of a module in it, which would be the module once that is loaded.

    `from package import name` would then depend on what was imported before.
    """
    modules = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == package}
    assert modules.isdisjoint(literals_of(tree_of(package))["__all__"])


def is_inner(module: str, importer: str) -> bool:
    """Return whether *module* is inside a package that *importer* is outside of.

    A package is an interface wherever it is. So is a module of `mpmetrics` itself.
    """
    package = module.rpartition(".")[0]
    if MODULES[module] or package in {"", mpmetrics.__name__}:
        return False
    return not f"{importer}.".startswith(f"{package}.")


@pytest.mark.parametrize("importer", sorted(MODULES))
def test_a_name_is_imported_from_the_package_that_exports_it(importer: str) -> None:
    """A module takes a name of another package from that package, not from a module inside it."""
    imported = [
        module
        for source, name in imports_of(tree_of(importer))
        for module in (source, f"{source}.{name}")
        if module in MODULES
    ]
    assert [module for module in imported if is_inner(module, importer)] == []


@pytest.mark.parametrize("package", PUBLIC_IN_0_1)
def test_the_public_names_of_the_first_version_are_there(package: str) -> None:
    """Every name that 0.1.0 had in `__all__` can still be imported from the same package."""
    module = import_module(package)
    assert [name for name in PUBLIC_IN_0_1[package] if not hasattr(module, name)] == []


def test_vllm_finds_the_stat_logger() -> None:
    """The entry point for vLLM names the same class as in 0.1.0, and can be loaded."""
    [point] = entry_points(group="vllm.stat_logger_plugins", name="mpmetrics")
    assert point.value == "mpmetrics.engines.plugin:VllmStatLogger"
    assert isinstance(point.load(), type)
