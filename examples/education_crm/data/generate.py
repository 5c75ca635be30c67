"""Write leads-10000.csv again, byte for byte: ``python generate.py``.

The file looks like what a branch office sends: names and phones typed by many hands, columns that
nobody asked for, quoted cells, blank lines, and every kind of row that cannot become a lead.
Numbers are drawn from a fixed seed; the people are invented.
"""

import csv
import io
import random
import sys
from collections.abc import Callable
from pathlib import Path

ROWS = 10_000
SEED = 20_240_611
HEADER = ["Sl No", "Student Name", "Phone Number", "City", "Preferred Course", "Remarks"]

FIRST = """Aarav Aditi Aditya Akhil Akshara Ananya Anil Anjali Ankit Anusha Arjun Arun Asha Ayesha Bhavana
Bhavya Chaitanya Charan Deepak Deepika Divya Farhan Gauri Gautam Geetha Harish Harsha Imran Ishaan
Ishita Jaya Karthik Kavya Keerthi Kiran Krishna Lakshmi Lavanya Madhavi Mahesh Manasa Manoj Meera
Mohammed Mounika Naveen Neha Nikhil Nisha Pallavi Pavan Pooja Pranav Prasad Preethi Priya Rahul
Rajesh Ramya Ravi Rohan Rohit Sai Sameera Sandeep Sana Sanjay Sara Shreya Siddharth Sneha Sowmya
Sravani Srinivas Sruthi Suresh Swathi Tanvi Tejas Uma Vamsi Varun Venkat Vidya Vijay Vikram Vinay
Yamini Yash Zainab Zoya
""".split()
LAST = """Agarwal Ahmed Ali Babu Banerjee Bhat Chandra Chowdary Das Desai D'Souza Fernandes Gandhi Ghosh Goud
Gowda Gupta Hussain Iyer Jain Jha Joshi Kapoor Khan Kulkarni Kumar Mehta Menon Mishra Murthy Naidu
Nair Patel Patil Pillai Prasad Rao Reddy Roy Saxena Shah Sharma Shetty Singh Sinha Srivastava Thomas
Varghese Varma Verma Yadav
""".split()
NATIVE = ["అనన్య రెడ్డి", "రవి కుమార్", "प्रिया शर्मा", "राहुल वर्मा", "லட்சுமி ஐயர்", "José D'Souza"]
CITIES = """Hyderabad Secunderabad Vijayawada Guntur Warangal Visakhapatnam Tirupati Nellore Kurnool
Karimnagar Khammam Nizamabad
""".split()
COURSES = [
    "MS Computer Science",
    "MBA",
    "MS Data Science",
    "MSc Nursing",
    "BSc, Hons (Psychology)",
    "MEng Civil",
    "MBBS",
    "MS Cyber Security",
]
REMARKS = [
    "",
    "",
    "",
    "call after 6 pm",
    "asked about fees, scholarship",
    'said "maybe next intake"',
    "IELTS 6.5; UK or Ireland",
    "first line\nsecond line",
    "walk-in",
]

Row = list[str]


def name(dice: random.Random) -> str:
    """A name, now and then with an initial, in capitals, in another script or with stray spaces."""
    if dice.random() < 0.01:
        return dice.choice(NATIVE)

    full = f"{dice.choice(FIRST)} {dice.choice(LAST)}"
    style = dice.random()

    if style < 0.08:
        return f"{dice.choice('ABDGHJKMNPRSTV')}. {full}"

    if style < 0.16:
        return full.upper()

    if style < 0.22:
        return f"  {full} "

    if style < 0.25:
        return f"{full.split()[1]}, {full.split(maxsplit=1)[0]}"

    return full


def written(dice: random.Random, digits: str) -> str:
    """Ten digits as somebody might type them."""
    halves = f"{digits[:5]} {digits[5:]}"
    return dice.choice(
        [
            digits,
            digits,
            digits,
            halves,
            f"+91{digits}",
            f"+91 {halves}",
            f"+91-{digits}",
            f"0{digits}",
            f"0091{digits}",
            f"91{digits}",
            f"(+91) {digits}",
            f"{digits[:3]}-{digits[3:6]}-{digits[6:]}",
            f"+91 {digits[:4]} {digits[4:7]} {digits[7:]}",
        ]
    )


def mobile(dice: random.Random, taken: set[str]) -> str:
    """Ten digits that nobody has yet."""
    while True:
        digits = dice.choice("6789") + f"{dice.randrange(10**9):09d}"

        if digits not in taken:
            taken.add(digits)
            return digits


def no_name(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Leave the name out."""
    row[1] = dice.choice(["", "   ", "\u00a0"])


def no_phone(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Leave the phone number out."""
    row[2] = ""


def bad_phone(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Write what cannot be called."""
    bad = ["12345", "98765", "not given", "N/A", "9.87654E+09", "1234567890", "९८७६५४३२१०", "+91 12345 67890"]
    row[2] = dice.choice([*bad, "98765 4321O"])


def long_phone(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Write two numbers into one cell."""
    row[2] = f"{row[2]} / {written(dice, '9' + f'{dice.randrange(10**9):09d}')}"[:40].ljust(24, "0")


def long_name(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Write a whole story where the name belongs."""
    row[1] = (row[1].strip() + ", called by the family about every course there is; ") * 6


def nothing(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Leave both name and phone number out."""
    row[1] = row[2] = ""


def duplicate(row: Row, earlier: list[str], dice: random.Random) -> None:
    """Repeat an earlier phone number, most times written otherwise."""
    row[2] = written(dice, dice.choice(earlier))


SPOILERS: list[tuple[Callable[[Row, list[str], random.Random], None], int]] = [
    (duplicate, 118),
    (bad_phone, 84),
    (no_phone, 41),
    (no_name, 33),
    (long_phone, 12),
    (long_name, 5),
    (nothing, 7),
]


def rows(dice: random.Random) -> list[Row]:
    """All rows; which ones are spoilt, and how, is drawn from the dice."""
    taken: set[str] = set()
    spoilt = dice.sample(range(100, ROWS), sum(count for _, count in SPOILERS))
    spoilers = dict(zip(spoilt, (spoil for spoil, count in SPOILERS for _ in range(count)), strict=True))
    earlier: list[str] = []
    made: list[Row] = []

    for place in range(ROWS):
        digits = mobile(dice, taken)
        row = [
            str(place + 1),
            name(dice),
            written(dice, digits),
            dice.choice(CITIES),
            dice.choice(COURSES),
            dice.choice(REMARKS),
        ]
        spoil = spoilers.get(place)

        if spoil is None:
            earlier.append(digits)
        else:
            spoil(row, earlier, dice)

        if place == 4_200:
            row[1] = '=HYPERLINK("http://example.com","Prize")'

        made.append(row)

    return made


def render(made: list[Row], dice: random.Random) -> str:
    """The file, with some cells quoted without need, blank lines and short or long rows in between."""
    blank = set(dice.sample(range(ROWS), 25))
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\r\n")
    quoted = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    plain.writerow(HEADER)

    for place, row in enumerate(made):
        if place in blank:
            text.write(dice.choice(["\r\n", ",,,,,\r\n", "  ,\r\n"]))

        shape = dice.random()
        cells = row[:4] if shape < 0.02 else [*row, "extra"] if shape < 0.04 else row
        (quoted if dice.random() < 0.1 else plain).writerow(cells)

    return text.getvalue()


def main(target: Path) -> None:
    """Write the file to `target`."""
    dice = random.Random(SEED)
    target.write_bytes(b"\xef\xbb\xbf" + render(rows(dice), dice).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("leads-10000.csv"))
