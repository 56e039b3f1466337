"""Text by character: against plain loops, and what is told of what is no play."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from federated.errors import DataError
from federated.sources import Text

PLAY = """ANN:
Good morrow, cousin.
Is the day so young?

BOB LONG:
But new struck nine: ay me!

ANN:
Was that my father?
"""
ANN = "Good morrow, cousin.\nIs the day so young?\nWas that my father?"
BOB = "But new struck nine: ay me!"


@pytest.fixture
def play(tmp_path):
    def build(text: str | bytes = PLAY, **fields) -> Text:
        path = tmp_path / "play.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Text(path=path, **fields)

    return build


def spelt(dataset, row: int) -> tuple[str, str]:
    """A row's characters, and the one that follows."""
    return "".join(dataset.labels[int(code)] for code in dataset.rows.x[row]), dataset.labels[dataset.rows.y[row]]


def test_a_row_is_the_past_and_the_next_character(play) -> None:
    dataset = play(past=5, test_share=0).load()
    rows = [
        (name, (text[k : k + 5], text[k + 5]))
        for name, text in (("ANN", ANN), ("BOB LONG", BOB))
        for k in range(len(text) - 5)
    ]
    assert dataset.keys.tolist() == [name for name, _ in rows]
    assert [spelt(dataset, row) for row in range(len(dataset.rows))] == [spoken for _, spoken in rows]
    assert dataset.labels == tuple(sorted(set(ANN + BOB)))
    assert dataset.reserved is None


def test_windows_may_begin_every_few_characters(play) -> None:
    dataset = play(past=5, step=4, test_share=0).load()
    assert [spelt(dataset, row)[0] for row in range(3)] == ["Good ", " morr", "row, "]


def test_no_character_is_both_trained_and_tested_on(play) -> None:
    dataset = play("ANN:\n" + "".join(map(chr, range(0x4E00, 0x4E00 + 100))), past=4, test_share=0.3).load()
    trained, tested = (
        {code for row in dataset.rows.x[part] for code in row.tolist()} | set(dataset.rows.y[part].tolist())
        for part in (~dataset.reserved, dataset.reserved)
    )
    assert (max(trained), min(tested)) == (69, 70)


def test_speakers_of_few_words_are_left_out(play) -> None:
    assert set(play(past=5, test_share=0.1).load().keys.tolist()) == {"ANN"}
    assert set(play(past=5, test_share=0.3).load().keys.tolist()) == {"ANN", "BOB LONG"}
    assert set(play(past=5, test_share=0, min_rows=30).load().keys.tolist()) == {"ANN"}


def test_the_alphabet_may_be_given_and_keeps_its_order(play) -> None:
    alphabet = "".join(sorted(set(ANN + BOB), reverse=True)) + "#"
    dataset = play(past=5, alphabet=alphabet, test_share=0).load()
    assert dataset.labels == tuple(alphabet)
    assert spelt(dataset, 0) == ("Good ", "m")


def test_a_character_that_is_not_in_the_alphabet_is_told(play) -> None:
    with pytest.raises(DataError, match=r"data\.text\.alphabet: ANN says 'G', which is not in it; add it"):
        play(past=5, alphabet="abc").load()


def test_what_stands_before_the_first_name_is_passed_over(play) -> None:
    dataset = play("A Tragedy: by N. N.\nin one act\n\n" + PLAY, past=5, test_share=0).load()
    assert spelt(dataset, 0) == ("Good ", "m")
    assert set(dataset.keys.tolist()) == {"ANN", "BOB LONG"}


def test_a_colon_within_a_speech_names_nobody(play) -> None:
    text = "ANN:\nHear this:\nwords: and more words\n\nBOB:\nwords and more words\n"
    assert set(play(text, past=3, test_share=0).load().keys.tolist()) == {"ANN", "BOB"}


def test_an_empty_speech_does_not_swallow_the_next_name(play) -> None:
    dataset = play("ANN:\n\nBOB:\nwords words\n\nCY:\nmore words\n", past=3, test_share=0).load()
    assert set(dataset.keys.tolist()) == {"BOB", "CY"}


def test_line_ends_of_another_system_and_a_mark_at_the_beginning_change_nothing(play) -> None:
    plain = play(past=5).load().rows.sha256
    assert play(b"\xef\xbb\xbf" + PLAY.replace("\n", "\r\n").encode(), past=5).load().rows.sha256 == plain


def test_characters_beyond_the_first_plane_are_one_each(play) -> None:
    dataset = play("ANN:\n\U0001f600\U0001f601\U0001f600\U0001f601\n", past=2, test_share=0).load()
    assert dataset.labels == ("\U0001f600", "\U0001f601")
    assert dataset.rows.x.tolist() == [[0, 1], [1, 0]]


def test_a_table_has_a_speech_a_row(play) -> None:
    table = 'who,says\nANN,"Good morrow, cousin.\nIs the day so young?"\nBOB LONG,But new struck nine: ay me!\n'
    table += "ANN,Was that my father?\n"
    from_table = play(table, past=5, speaker="who", speech="says").load()
    from_play = play(past=5).load()
    assert from_table.rows.sha256 == from_play.rows.sha256
    assert from_table.keys.tolist() == from_play.keys.tolist()


@pytest.mark.parametrize(("field", "meant"), [("speaker", "who"), ("speech", "says")])
def test_a_misspelt_column_is_answered_with_the_closest(play, field, meant) -> None:
    fields = {"speaker": "who", "speech": "says", field: meant + "o"}
    with pytest.raises(DataError, match=rf"data\.text\.{field}: .* has no column '{meant}o'; did you mean '{meant}'\?"):
        play("who,says\nANN,words\n", past=2, **fields).load()


def test_a_text_without_speakers_is_told_what_they_look_like(play) -> None:
    with pytest.raises(DataError, match=r"data\.text\.path: .*play\.txt names no speaker; expected a name and a colon"):
        play("once upon a time\n").load()


def test_where_all_say_too_little_it_is_told(play) -> None:
    with pytest.raises(DataError, match=r"data\.text: none of 2 speakers in .* windows of 81 characters"):
        play().load()


def test_bytes_that_are_no_text_are_told(play) -> None:
    with pytest.raises(DataError, match=r"data\.text\.path: expected UTF-8 text, .*play\.txt is none .* position 5"):
        play(b"ANN:\n\xe9t\xe9\n", past=2).load()


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"speaker": "who"}, "speaker and speech come together"), ({"alphabet": "aba"}, "once, 'a' is not")],
)
def test_fields_that_make_no_sense_are_refused(fields, told) -> None:
    with pytest.raises(ValidationError, match=told):
        Text(path="play.txt", **fields)
