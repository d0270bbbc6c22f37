"""Run a module on one core: python -m tests.load.run_on_core 1 tests.load.generate '{…}'."""

import os
import runpy
import sys

if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    module = sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
