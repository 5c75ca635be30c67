import pytest

from education_crm.recording_names import UPLOAD_ID, clean_filename, extension, new_upload_id, stored_name


def test_an_upload_id_is_22_safe_characters_and_never_the_same():
    ids = {new_upload_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(UPLOAD_ID.fullmatch(one) for one in ids)


@pytest.mark.parametrize(
    ("filename", "suffix"),
    [("call.AAC", ".aac"), ("a.b.Mp3", ".mp3"), ("x.m4a", ".m4a"), ("x.wav", ".wav"), ("x.ogg", ".ogg")],
)
def test_extensions_of_recordings_are_known_in_any_case(filename, suffix):
    assert extension(filename) == suffix


@pytest.mark.parametrize("filename", ["x.exe", "x", ".aac", "x.aac/y", "x.aac.exe", "", "x.aac\0.exe"])
def test_other_files_are_no_recordings(filename):
    assert extension(filename) is None


def test_file_names_lose_their_folders():
    assert clean_filename("../../etc/call.aac") == "call.aac"
    assert clean_filename("C:\\calls\\call.aac") == "call.aac"
    assert clean_filename("ca\nll\0.aac") == "call.aac"


def test_a_stored_name_is_the_same_whenever_it_is_asked():
    assert stored_name("call-1", "upload-1", ".aac") == "call-1_upload-1.aac"


@pytest.mark.parametrize(
    "parts", [("../x", "u", ".aac"), ("c", "a/b", ".aac"), ("c", "u", ".exe"), ("", "u", ".aac")]
)
def test_a_stored_name_cannot_leave_its_folder(parts):
    with pytest.raises(ValueError, match="recording's name"):
        stored_name(*parts)
