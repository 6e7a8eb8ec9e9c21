"""The shared pages of a process: one for each runtime, and one for each object of another kind."""

from __future__ import annotations

import gc

from mpmetrics.engines.dynamo.runtime_pages import RuntimePages


class NativeEndpoint(str):
    """An endpoint whose `connection_id` is not Python code, as Dynamo's is not."""

    __slots__ = ()

    connection_id = str.upper


class NativeHandle(Exception):  # noqa: N818 - an exception has a property that is not Python code
    """A handle whose `auto_labels`, given as pairs, are not Python code."""

    auto_labels = vars(BaseException)["args"]


class NumberedEndpoint(int):
    """An endpoint whose connection has its own number."""

    __slots__ = ()

    connection_id = int.conjugate


class OtherEndpoint:
    """An endpoint that is not Dynamo's."""

    def connection_id(self) -> int:
        """Return a number that all of them share."""
        return 1


class Strong:
    """An object that cannot be referred to weakly."""

    __slots__ = ()


def test_endpoints_of_one_runtime_share_a_page() -> None:
    """Endpoint objects with the same connection number are on one page, which stays."""
    pages = RuntimePages()
    page = pages.get(NativeEndpoint("one"))
    assert pages.get(NativeEndpoint("one")) is page
    assert pages.get(NativeEndpoint("two")) is not page
    gc.collect()
    assert len(pages) == 2


def test_a_handle_is_on_the_page_of_its_runtime() -> None:
    """A handle of the unified backend is on the page of the endpoints of its runtime."""
    pages = RuntimePages()
    page = pages.get(NativeHandle(("worker_id", "2a"), ("model", "m")))
    assert pages.get(NativeHandle(("worker_id", "2a"))) is page
    assert pages.get(NumberedEndpoint(42)) is page
    assert pages.get(NativeHandle(("worker_id", "2b"))) is not page
    unnumbered = pages.get(NativeHandle(("model", "m")))
    assert pages.get(NativeHandle(("model", "m"))) is unnumbered
    assert len(pages) == 3


def test_the_page_of_another_object_is_dropped_with_it() -> None:
    """An object that is not Dynamo's has a page of its own, as long as it lives."""
    pages = RuntimePages()
    first, second = OtherEndpoint(), OtherEndpoint()
    assert pages.get(first) is pages.get(first)
    assert pages.get(first) is not pages.get(second)
    del first
    gc.collect()
    assert len(pages) == 1


def test_an_object_without_weak_references_is_kept() -> None:
    """An object that cannot be referred to weakly is kept, so that its identity is not reused."""
    pages = RuntimePages()
    for _ in range(3):
        pages.get(Strong())
    assert len(pages) == 3
