"""libsbx under its former name, which is also that of another project's package. It goes with the next version."""

import sys
import warnings

import libsbx

warnings.warn("the package is called libsbx now: write `import libsbx as sbx`", DeprecationWarning, stacklevel=2)
for _name, _module in [*sys.modules.items()]:
    if _name == "libsbx" or _name.startswith("libsbx."):
        sys.modules[_name.replace("libsbx", __name__, 1)] = _module
