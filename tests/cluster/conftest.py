"""Control planes for the tests here: each starts when the first test asks for it, and once."""

from collections.abc import Iterator

import pytest

from cluster.certificates import Authority, NoOpensslError
from cluster.controlplane import Plane, bare_plane, full_plane
from cluster.programs import NoProgramsError


@pytest.fixture(scope="session")
def _full_plane() -> Iterator[Plane]:
    try:
        with full_plane() as started:
            yield started
    except (NoProgramsError, NoOpensslError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _bare_plane() -> Iterator[Plane]:
    try:
        with bare_plane() as started:
            yield started
    except (NoProgramsError, NoOpensslError) as error:
        pytest.skip(str(error))


@pytest.fixture
def plane(_full_plane: Plane) -> Plane:
    """An empty cluster with controllers, a scheduler, and nodes and pods as kwok simulates them."""
    _full_plane.wipe()
    return _full_plane


@pytest.fixture
def bare(_bare_plane: Plane) -> Plane:
    """An empty API server without controllers: what is written stays as it is."""
    _bare_plane.wipe()
    return _bare_plane


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for tests that need no control plane."""
    try:
        return Authority(tmp_path_factory.mktemp("authority"), "test")
    except NoOpensslError as error:
        pytest.skip(str(error))
