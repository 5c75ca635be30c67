"""Options that a database cannot hold are refused at once: a queue that can never register would wait for ever."""

from typing import Any

import pytest

from staffa import Staffa
from staffa.config import QueueConfig
from staffa.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"queues": {"default": 2**31}}, "default: the limit must be at most 2147483647"),
        ({"queues": {"default": QueueConfig(2**31)}}, "default: the limit must be at most 2147483647"),
        ({"queues": {"default": QueueConfig(0)}}, "default: the limit must be a whole number above 0"),
        ({"queues": {"a\0b": 1}}, "a queue's name has 1 to 127 characters"),
        ({"node": "a\0b"}, "node must be printable text"),
        ({"node": "a\ud800"}, "node must be printable text"),
        ({"name": "a\0b"}, "name must be printable text"),
    ],
)
def test_options_that_no_database_holds_are_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Staffa("sqlite://", **options)
    assert says in str(refused.value)
