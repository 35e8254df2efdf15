"""One thread for tests of tiny shapes; a folder's ``conftest.py`` imports the fixture to use it."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny operators lose time to threads, ten times over where other work shares the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
