from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from cluster_api.fake_api import FakeApi, serving
from cluster_commands.served import Desk


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def api(authority: trustme.CA) -> Iterator[FakeApi]:
    with serving(authority) as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, authority: trustme.CA, api: FakeApi) -> Desk:
    at = Desk(tmp_path, authority)
    at.log_in(api.url)
    return at
