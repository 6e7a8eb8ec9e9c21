"""Fake endpoints, and the series of their pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FakeMetrics:
    """The `metrics` of an older endpoint, which takes callbacks for text only."""

    def __init__(self) -> None:
        """Create metrics without callbacks."""
        self.text: list[Callable[[], Any]] = []

    def register_prometheus_expfmt_callback(self, callback: Callable[[], Any]) -> None:
        """Store a callback for text."""
        self.text.append(callback)


class FakeTypedMetrics(FakeMetrics):
    """The `metrics` of a newer endpoint, which takes callbacks for typed families, too."""

    def __init__(self) -> None:
        """Create metrics without callbacks."""
        super().__init__()
        self.typed: list[Callable[[], Any]] = []

    def register_prometheus_typed_callback(self, callback: Callable[[], Any]) -> None:
        """Store a callback for typed families."""
        self.typed.append(callback)


class FakeEndpoint:
    """An endpoint that appends the texts of its callbacks, as Dynamo does."""

    def __init__(self, number: Any = 0xC0FFEE, *, typed: bool = True) -> None:
        """Have *number* as `connection_id`, which raises it if it is an exception."""
        self.metrics = FakeTypedMetrics() if typed else FakeMetrics()
        self._number = number

    def connection_id(self) -> Any:
        """Return or raise the number."""
        if isinstance(self._number, Exception):
            raise self._number
        return self._number

    def page(self) -> str:
        """Return the page as Dynamo would serve it."""
        texts = [callback() for callback in self.metrics.text]
        assert all(isinstance(text, str) for text in texts), texts
        return "".join(texts)

    def typed(self) -> list[Any]:
        """Return what each typed callback returns."""
        assert isinstance(self.metrics, FakeTypedMetrics)
        return [callback() for callback in self.metrics.typed]

    def parts(self) -> list[dict[str, float]]:
        """Return the series of each callback."""
        return [series(callback()) for callback in self.metrics.text]

    def series(self) -> dict[str, float]:
        """Return the series of the page by name and labels."""
        return series(self.page())


class FakeHandle(FakeTypedMetrics):
    """A handle of Dynamo's unified backend: it takes callbacks itself, and has labels."""

    auto_labels: ClassVar[Mapping[str, str]] = {
        "dynamo_namespace": "ns",
        "dynamo_component": "sample",
        "dynamo_endpoint": "generate",
        "worker_id": "2a",
        "model": "m",
        "model_name": "m",
    }

    def series(self) -> dict[str, float]:
        """Return the series of the page by name and labels."""
        return series("".join(callback() for callback in self.text))


def series(page: str, *, about: bool = False) -> dict[str, float]:
    """Return the series of a *page* by name and labels, without those *about* the page itself.

    The page must be one that Prometheus reads as intended: no blank lines, each family and each
    series once.
    """
    assert page == "" or page.endswith("\n")
    assert "\n\n" not in page
    for comment in ("# HELP ", "# TYPE "):
        named = [line.split()[2] for line in page.splitlines() if line.startswith(comment)]
        assert len(named) == len(set(named)), named
    families = list(text_string_to_metric_families(page))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), names
    found: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        written = f"{sample.name}{{{labels}}}" if labels else sample.name
        assert written not in found, written
        found[written] = sample.value
    return {
        written: value
        for written, value in found.items()
        if about or not (written.startswith("mpmetrics_") or "_created" in written)
    }
