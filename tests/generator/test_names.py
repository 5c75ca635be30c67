"""Names in any spelling become names that Python has, or are refused with the reason."""

import pytest

from staffa.errors import GeneratorError
from staffa.generator.names import name_of


@pytest.mark.parametrize(
    ("given", "snake", "pascal"),
    [
        ("send-digest", "send_digest", "SendDigest"),
        ("SendDigest", "send_digest", "SendDigest"),
        ("sendDigest", "send_digest", "SendDigest"),
        ("send digest", "send_digest", "SendDigest"),
        ("send_digest", "send_digest", "SendDigest"),
        ("  Send -  digest ", "send_digest", "SendDigest"),
        ("SEND_DIGEST", "send_digest", "SendDigest"),
        ("HTTPPing", "http_ping", "HttpPing"),
        ("PingHTTP", "ping_http", "PingHttp"),
        ("resume_flow_job", "resume_flow_job", "ResumeFlowJob"),
        ("send2fa", "send2_fa", "Send2Fa"),
        ("send 2fa codes", "send_2_fa_codes", "Send2FaCodes"),
        ("X", "x", "X"),
    ],
)
def test_a_name_may_be_spelled_in_any_way(given, snake, pascal):
    name = name_of(given)

    assert (name.snake, name.pascal) == (snake, pascal)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "a name is missing"),
        ("   ", "a name is missing"),
        ("3d_report", "begins with a digit"),
        ("class", "a word of Python"),
        ("None", "a word of Python"),
        ("../x", "is no name"),
        ("a/b", "is no name"),
        ("a.b", "is no name"),
        ("..", "is no name"),
        ("a\\b", "is no name"),
        ("_private", "is no name"),
        ("größe", "is no name"),
        ("send\ndigest", "is no name"),
        ("a; rm", "is no name"),
        ("logging", "Python's own library"),
        ("Exception", "Python's own Exception"),
    ],
)
def test_what_can_be_no_name_is_refused_with_the_reason(given, why):
    with pytest.raises(GeneratorError, match=why):
        name_of(given)
