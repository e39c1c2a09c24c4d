"""A program of this package in the place of the process that was here (`replacing`).

It is run by path in a bare interpreter. The program's module and what it is told are JSON behind
the descriptor that the first argument names; all other arguments are for who looks at the process.
"""

import importlib
import json
import os
import sys

with os.fdopen(int(sys.argv[1])) as file:
    told = json.load(file)
sys.path[:] = told["path"]
importlib.import_module(told["module"]).main(told["values"], **told["more"])
