import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker has no parent that forks it")
def test_importing_main_starts_no_thread_and_opens_nothing():
    """A fork copies neither threads nor what they have locked, and shares sockets."""
    code = (
        "import os; before = os.listdir('/proc/self/fd'); import inference_worker.main; "
        "assert len(os.listdir('/proc/self/task')) == 1; assert os.listdir('/proc/self/fd') == before"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
