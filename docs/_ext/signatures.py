"""Signatures in the reference: a default that is an object has the name that the code gives it.

Sphinx writes the `repr` of a default. That of `os.environ` is the environment of the build, which
may have secrets; those of functions and classes are no Python, which Sphinx then formats wrongly.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_OBJECT: Final = re.compile(r"<(?:built-in function|class) '?(\w+)'?>")
_UNNAMED: Final = re.compile(r"<factory>|<not given>")


def name_defaults(
    _app: Sphinx,
    _kind: str,
    _name: str,
    _documented: object,
    _options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Return the *signature* with names in place of objects, and what is *returned* as it was."""
    if signature is not None:
        signature = signature.replace(repr(os.environ), "os.environ")
        signature = _UNNAMED.sub("...", _OBJECT.sub(r"\1", signature))
    return signature, returned


def setup(app: Sphinx) -> ExtensionMetadata:
    """Have Sphinx call `name_defaults` for each signature."""
    app.connect("autodoc-process-signature", name_defaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
