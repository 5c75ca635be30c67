from education_crm.passwords import hash_password, verify_password


def test_only_the_password_itself_is_accepted():
    stored = hash_password("correct horse")
    assert verify_password("correct horse", stored)
    assert not verify_password("correct horsf", stored)


def test_the_same_password_is_never_stored_the_same():
    assert hash_password("x") != hash_password("x")
    assert "correct" not in hash_password("correct")
