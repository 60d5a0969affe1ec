"""What the reader says where torch is not installed."""

from __future__ import annotations

import subprocess
import sys


def test_what_is_missing_is_said_with_the_remedy() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom sftprep.reader import ShardDataset"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()[-1]
    assert said.startswith("ModuleNotFoundError: sftprep.reader needs torch: pip install 'sftprep[torch]'")
