"""python3 -m libsbx says what this machine lacks for sandboxes, and what to do about it."""

import sys

from .checks import doctor

report = doctor()
print(report)
sys.exit(not report.usable)
