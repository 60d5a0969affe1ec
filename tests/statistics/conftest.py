"""A build for all rooms of this floor."""

from __future__ import annotations

import pytest
from statistics_build import Mixed, mixed


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    return mixed(tmp_path_factory.mktemp("mixed"))
