"""The source session of long-running services, if it cannot be opened."""

import pytest

from app.errors import HeadwaterError
from app.source.database import KeptConnection


def test_a_session_that_failed_to_open_is_tried_again_with_the_address_of_that_moment() -> None:
    addresses = iter(["postgresql://first@127.0.0.1:1/a", "postgresql://second@127.0.0.1:1/b"])
    source = KeptConnection(lambda: next(addresses), application="headwater test")

    with pytest.raises(HeadwaterError, match=r"first@127\.0\.0\.1:1/a"):
        source.open()
    source.close()  # there is none
    with pytest.raises(HeadwaterError, match=r"second@127\.0\.0\.1:1/b"):
        source.open()
