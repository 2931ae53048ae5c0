"""``python -m demo``: see :mod:`demo.run`."""

import sys

from backend import ending
from demo.run import main

ending.run(lambda: main(sys.argv[1:]))
