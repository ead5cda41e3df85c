"""Started by the build environment's Python in front of the script that runs a backend's hook.

    python start.py SCRIPT ARGUMENTS...

Nothing of buildkit stays importable: the project that is built may have a package of that name.
"""

from __future__ import annotations

import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = "buildkit"


def main() -> None:
    """Listen for build_ext, then run the script as if it had been started itself."""
    own = sys.argv.pop(0)
    script = sys.argv[0]
    if sys.path and sys.path[0] == str(Path(own).parent):
        sys.path[0] = str(Path(script).parent)
    _listen(Path(own).resolve().parents[2])
    runpy.run_path(script, run_name="__main__")


def _listen(folder: Path) -> None:
    spec = spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        return
    sys.modules[PACKAGE] = package = module_from_spec(spec)
    spec.loader.exec_module(package)
    from buildkit.build.deferral.attach import listen

    listen()
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


if __name__ == "__main__":
    main()
