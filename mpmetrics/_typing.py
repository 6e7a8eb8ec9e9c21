"""What `typing` has in later versions of Python than the oldest that is supported."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing import NoReturn

    def assert_never(value: NoReturn) -> NoReturn:
        """Fail for a *value* that a type checker has proven to be impossible."""
        message = f"unexpected value: {value!r}"
        raise AssertionError(message)


__all__ = ["assert_never"]
