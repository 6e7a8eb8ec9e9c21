"""The command `mpmetrics`, for ``python -m mpmetrics``.

The command is a program beside the library, which does not import it: as a shell would, this
module starts it by its name.
"""

from __future__ import annotations

import runpy

if __name__ == "__main__":
    runpy.run_module("mpmetrics_cli", run_name="__main__", alter_sys=True)
