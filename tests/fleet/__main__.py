"""`python -m tests.fleet up` starts the test fleet, `down` stops it; any other command of `argosy_dev` runs on it."""

import sys

from tests.fleet.control import control, start, stop

if sys.argv[1:] == ["up"]:
    start()
elif sys.argv[1:] == ["down"]:
    stop()
else:
    control(*sys.argv[1:])
