# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest

from tests.support.served_opentalk import ServedOpenTalk


@pytest.fixture
def server() -> Iterator[ServedOpenTalk]:
    with ServedOpenTalk() as server:
        yield server
