import pytest

from education_crm.phones import normalise

ONE_NUMBER = "+919876543210"


@pytest.mark.parametrize(
    "written",
    [
        "9876543210",
        "98765 43210",
        "98765-43210",
        "(98765) 43210",
        "09876543210",
        "919876543210",
        "+919876543210",
        "+91 98765 43210",
        "+91-98765-43210",
        "+91 (0) 98765 43210",
        "+91 09876543210",
        "00919876543210",
        "0091 98765 43210",
        "98765\u00a043210",
        "\u202a+91 98765 43210\u202c",
    ],
)
def test_every_way_to_write_an_indian_mobile_is_the_same_number(written):
    assert normalise(written) == ONE_NUMBER


@pytest.mark.parametrize(
    "written",
    [
        "",
        "12345",
        "1234567890",
        "5876543210",
        "98765432101",
        "+91 12345 67890",
        "+911234567890",
        "98765 4321O",
        "9.87654E+09",
        "९८७६५४३२१०",
        "++919876543210",
        "9876543210 / 9876543211",
        "+0123456789",
        "+1234567890123456",
        "not given",
    ],
)
def test_what_cannot_be_called_is_no_number(written):
    assert normalise(written) is None


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+1 415 555 0123", "+14155550123"),
        ("0044 20 7946 0958", "+442079460958"),
        ("+971-50-123-4567", "+971501234567"),
    ],
)
def test_a_foreign_number_names_its_country(written, number):
    assert normalise(written) == number


def test_a_normalised_number_stays_as_it_is():
    assert normalise(ONE_NUMBER) == ONE_NUMBER
