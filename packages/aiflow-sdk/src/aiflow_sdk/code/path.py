"""The import path of the project that this process is about."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_project: Path | None = None
_entered: set[str] = set()
"""The projects that stood on the import path because of us, by whoever they may have been put back since."""


def enter_project(root: Path) -> None:
    """Put the project first on the import path, and forget modules of other projects that bear the same names.

    Those that were entered before leave the path again: their files must not stand for this one's, or for Python's.
    """
    global _project
    text = str(root)
    if root == _project and text in sys.path:
        return
    _project = root
    if text not in sys.path:
        _entered.add(text)
    sys.path[:] = [text, *(entry for entry in sys.path if entry != text and entry not in _entered)]
    tops = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__"}
    ours = {top for top in tops if (root / top).is_dir() or (root / f"{top}.py").is_file()}
    for name in [name for name in sys.modules if name.partition(".")[0] in ours and not _lies_in(name, root)]:
        del sys.modules[name]


def path_of_others() -> list[str]:
    """Return the import path without the projects that were entered: what another process takes over for any of them.

    A package of one project would stand there for a folder of the same name in another.
    """
    return [entry or os.getcwd() for entry in sys.path if entry not in _entered]


def _lies_in(name: str, root: Path) -> bool:
    module = sys.modules[name]
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(place and place.startswith(f"{root}{os.sep}") for place in places)
