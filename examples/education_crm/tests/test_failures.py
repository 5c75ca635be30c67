from staffa import Job

from education_crm.failures import in_one_line, last_error


def test_the_line_that_names_the_exception_is_found_in_a_traceback():
    error = 'Traceback (most recent call last):\n  File "x.py", line 1\nOSError: first\n\nDuring handling\n'
    error += "sqlalchemy.exc.OperationalError: the server went away\n[SQL: select 1]\n(Background on this)"
    assert in_one_line(error) == "sqlalchemy.exc.OperationalError: the server went away"


def test_other_text_gives_its_last_line():
    assert in_one_line("stopped by hand") == "stopped by hand"
    assert in_one_line("one\ntwo") == "two"


def test_a_job_without_errors_has_none():
    assert last_error(Job()) == ""
