from __future__ import annotations

import random
import re

import pytest

from tts.embedded.text import encode, normalise, split_sentences
from tts.errors import TextError

MONEY = [
    ("It costs $35.50.", "it costs thirty five dollars and fifty cents."),
    ("$35.50", "thirty five dollars and fifty cents."),
    ("$1", "one dollar."),
    ("$1.01", "one dollar and one cent."),
    ("$0.99", "ninety nine cents."),
    ("$0", "zero dollars."),
    ("$1,000,000", "one million dollars."),
    ("$1.2 million", "one point two million dollars."),
    ("$3.5B", "three point five billion dollars."),
    ("-$5", "minus five dollars."),
    ("$5-$10", "five to ten dollars."),
    ("$5-10 million", "five to ten million dollars."),
    ("a $20 bill", "a twenty dollar bill."),
    ("$5/month", "five dollars per month."),
    ("£2.01", "two pounds and one penny."),
    ("€20 or 20€", "twenty euros or twenty euros."),
    ("50¢", "fifty cents."),
]
NUMBERS = [
    ("0", "zero."),
    ("007", "zero zero seven."),
    ("1234567", "one million two hundred thirty four thousand five hundred sixty seven."),
    ("1,234.5", "one thousand two hundred thirty four point five."),
    ("3.14", "three point one four."),
    (".5", "zero point five."),
    ("-3.2", "minus three point two."),
    ("−5", "minus five."),
    ("123456789012345678901", f"{'one two three four five six seven eight nine zero ' * 2}one."),
    ("1st 2nd 3rd 11th 12th", "first second third eleventh twelfth."),
    ("20th 21st 100th", "twentieth twenty first one hundredth."),
    ("1/2 and 3/4 and 2 1/2", "one half and three quarters and two and a half."),
    ("3½ cups", "three and a half cups."),
    ("24/7", "twenty four seven."),
    ("5-10 people", "five to ten people."),
    ("5–10%", "five to ten percent."),
    ("2 x 3", "two by three."),
    ("5 + 3 = 8", "five plus three equals eight."),
    ("#1", "number one."),
    ("~5", "about five."),
    ("Room 412", "room four twelve."),
    ("1.2.3", "one dot two dot three."),
    ("H2O, MP3, COVID-19, 4K", "h two o, m p three, covid nineteen, four k."),
]  # fmt: skip
UNITS = [
    ("5 km, 10 kg, 20 C", "five kilometers, ten kilograms, twenty degrees celsius."),
    ("1 km", "one kilometer."),
    ("a 10-kg bag", "a ten kilogram bag."),
    ("-40°F", "minus forty degrees fahrenheit."),
    ("60 mph, 50 km/h", "sixty miles per hour, fifty kilometers per hour."),
    ("3.5GHz and 16 GB", "three point five gigahertz and sixteen gigabytes."),
    ("10 m²", "ten square meters."),
    ("6 ft 2 in. tall", "six feet two inches tall."),
    ("5'10\"", "five foot ten."),
    ("0.5%", "zero point five percent."),
    ("vitamin C", "vitamin c."),
]
TIMES = [
    ("3:30 pm", "three thirty p m."),
    ("9:05 a.m. sharp", "nine oh five a m sharp."),
    ("It's 5:00.", "it's five o'clock."),
    ("12:00 p.m.", "twelve p m."),
    ("17:45", "seventeen forty five."),
    ("10:30:15", "ten thirty and fifteen seconds."),
    ("He left at 5 p.m. It rained.", "he left at five p m. it rained."),
    ("at 5 p.m. Monday", "at five p m monday."),
    ("10am-5pm", "ten a m to five p m."),
    ("5-7 PM", "five to seven p m."),
    ("I AM 5", "i am five."),
    ("16:9", "sixteen to nine."),
    ("25:61", "twenty five to sixty one."),
]
DATES = [
    ("3/14/2025", "march fourteenth, twenty twenty five."),
    ("31/12/1999", "december thirty first, nineteen ninety nine."),
    ("99/99/2025", "ninety nine slash ninety nine slash twenty twenty five."),
    ("2025-03-14", "march fourteenth, twenty twenty five."),
    ("March 3rd", "march third."),
    ("Mar. 3, 2020", "march third, twenty twenty."),
    ("on march 3rd", "on march third."),
    ("3 March 1876", "the third of march eighteen seventy six."),
    ("The 21st of May", "the twenty first of may."),
    ("in 1998, in 2005", "in nineteen ninety eight, in two thousand five."),
    ("in 2024", "in twenty twenty four."),
    ("in 1906, in 1900, in 1066", "in nineteen oh six, in nineteen hundred, in ten sixty six."),
    ("in 1500 homes", "in one thousand five hundred homes."),
    ("2024 pages", "two thousand twenty four pages."),
    ("the 1990s and the '80s", "the nineteen nineties and the eighties."),
    ("1914–1918", "nineteen fourteen to nineteen eighteen."),
    ("Mon-Fri", "monday to friday."),
    ("May I go in May 2020?", "may i go in may twenty twenty?"),
]  # fmt: skip
ADDRESSES = [
    ("Call 555-1234", "call five five five, one two three four."),
    ("(555) 123-4567", "five five five, one two three, four five six seven."),
    ("1-800-555-0199", "one, eight zero zero, five five five, zero one nine nine."),
    ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight."),
    ("code 4821", "code four eight two one."),
    ("1600 Pennsylvania Avenue", "sixteen hundred pennsylvania avenue."),
    ("221B Baker Street", "two twenty one b baker street."),
    ("21 Baker St. in London", "twenty one baker street in london."),
    ("St. Peter's Square", "saint peter's square."),
    ("12 Elm Dr.", "twelve elm drive."),
    ("Springfield, IL 62704", "springfield, i l six two seven zero four."),
    ("john.doe@example.com", "john dot doe at example dot com."),
    ("https://www.example.com/a-b.", "w w w dot example dot com slash a dash b."),
    ("http://a.org/?c=1", "a dot org slash question mark c equals one."),
    ("See example.co.uk, please", "see example dot co dot u k, please."),
    ("node.js and file.txt", "node dot j s and file dot t x t."),
]  # fmt: skip
SHORTHAND = [
    ("Dr. Lee, Mr. Ray and Mrs. O'Neil", "doctor lee, mister ray and missus o'neil."),
    ("Dr Smith", "doctor smith."),
    ("Mr. & Mrs. Smith", "mister and missus smith."),
    ("e.g. this, i.e. that", "for example, this, that is, that."),
    ("pens, ink, etc.", "pens, ink, et cetera."),
    ("cats vs. dogs", "cats versus dogs."),
    ("approx. 5", "approximately five."),
    ("the dept. of Acme Inc. is", "the department of acme incorporated is."),
    ("vol. 3, ch. 12, no. 7", "volume three, chapter twelve, number seven."),
    ("No. It is not.", "no. it is not."),
    ("in the U.S. yesterday", "in the u s yesterday."),
    ("in the U.S. The end.", "in the u s. the end."),
    ("J. R. R. Tolkien, J.R.R. Tolkien", "j r r tolkien, j r r tolkien."),
    ("a Ph.D. in art", "a p h d in art."),
    ("World War II, Henry VIII", "world war two, henry the eighth."),
    ("and/or, n/a, he/she", "and or, n a, he slash she."),
    ("w/ milk w/o sugar", "with milk without sugar."),
    ("OK", "okay."),
]
CAPITALS = [
    ("HELLO WORLD", "hello world."),
    ("HELLO", "hello."),
    ("The FBI and NASA", "the f b i and nasa."),
    ("PLEASE CALL THE FBI NOW!", "please call the f b i now!"),
    ("PCs and GPU's", "p c's and g p u's."),
    ("the IT department of the US", "the i t department of the u s."),
    ("IT IS ME", "it is me."),
    ("I am SO NOT going to the NEXT one", "i am so not going to the next one."),
    ("USB, HTML, IBM, API", "u s b, h t m l, i b m, a p i."),
    ("The WHO asked who", "the w h o asked who."),
]
MARKS = [
    ("no punctuation here", "no punctuation here."),
    ("yes", "yes."),
    ("Really?!", "really?"),
    ("Wait... what?", "wait, what?"),
    ("Well…", "well."),
    ("a—b – c -- d", "a, b, c, d."),
    ("well-known X-ray", "well-known x-ray."),
    ("\u201cDon\u2019t!\u201d she \u2018said\u2019", "don't! she said."),
    ("rock 'n' roll, dogs' tails", "rock n roll, dogs tails."),
    ("(by the way) it (really) works", "by the way, it, really, works."),
    ("A & B @ C", "a and b at c."),
    ("first\n\nsecond\nthird", "first. second third."),
    ("Hello.World", "hello. world."),
    ("* item, • other", "item, other."),
    ("trailing comma,", "trailing comma."),
    ("what , now ?", "what, now?"),
]
UNICODE = [
    ("naïve café, Łódź, straße, Þór", "naive cafe, lodz, strasse, thor."),
    ("\ufb01ne \uff46ull width", "fine full width."),
    ("I love it 😀👍🏽!", "i love it!"),
    ("hello 日本", "hello."),
    ("zero\u200bwidth and soft\u00adhyphen", "zerowidth and softhyphen."),
    ("tab\tline\rbreak\u00a0space", "tab line break space."),
    ("Acme™ ©", "acme."),
    ("1️⃣", "one."),
]
EVERYTHING = [
    case
    for table in (
        MONEY,
        NUMBERS,
        UNITS,
        TIMES,
        DATES,
        ADDRESSES,
        SHORTHAND,
        CAPITALS,
        MARKS,
        UNICODE,
    )
    for case in table
]


@pytest.mark.parametrize(("text", "spoken"), EVERYTHING, ids=[text for text, _ in EVERYTHING])
def test_normalise(text: str, spoken: str) -> None:
    assert normalise(text) == spoken


@pytest.mark.parametrize(("text", "spoken"), EVERYTHING, ids=[text for text, _ in EVERYTHING])
def test_spoken_form_is_spoken_as_it_is(text: str, spoken: str) -> None:
    assert normalise(spoken) == spoken


@pytest.mark.parametrize("text", ["", " \n\t", "...", "?!", "-", "'", "“”", "😀", "☺️ 👍", "日本語"])
def test_nothing_to_speak_is_an_error(text: str) -> None:
    with pytest.raises(TextError, match="nothing to speak"):
        normalise(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [("a\x00b", "U[+]0000 at position 1"), ("\x07", "U[+]0007 at position 0"),
     ("ok\x1b[0m", "U[+]001B at position 2"), ("x\x7f", "U[+]007F at position 1")],
)  # fmt: skip
def test_a_control_character_is_named_with_its_position(text: str, where: str) -> None:
    with pytest.raises(TextError, match=where):
        normalise(text)


@pytest.mark.parametrize(
    "pattern",
    ["a", "1", "A", "1,", "a.", "A.", "A ", "-", "$", "5 ", "555-", "a@", "a.b", "www.", "(", "'",
     "/a", "Main ", "12 Main ", "\n", "May ", "1:", "1/", "1.1", "a-", "of 5 ", "word "],
)  # fmt: skip
def test_ten_thousand_characters_are_read(pattern: str) -> None:
    spoken = normalise((pattern * 10_000)[:10_000] + " end")
    assert re.fullmatch("[a-z.,?!;:' -]+", spoken)
    assert all(0 < len(piece) <= 140 for piece in split_sentences(spoken))


def test_any_text_is_spoken_or_refused() -> None:
    rng = random.Random(0)
    alphabet = "aZ09 .,:;-'/$%&()[]\u00e9\u2014\u00bd\u201c\u20ac\u00b0\U0001f600\n#@+=x"
    for _ in range(3000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40)))
        try:
            spoken = normalise(text)
        except TextError:
            continue
        assert re.fullmatch("[a-z](?:[a-z.,?!;:' -]*)[.?!]", spoken), text
        assert "  " not in spoken, text
        assert normalise(spoken) == spoken, text


def test_sentences_are_cut_at_their_ends() -> None:
    text = "this is the first sentence. is this the second one? and this one is the last!"
    assert split_sentences(text) == [
        "this is the first sentence.",
        "is this the second one?",
        "and this one is the last!",
    ]


@pytest.mark.parametrize("text", ["yes.", "why?", "thirty five dollars and fifty cents."])
def test_a_short_text_is_one_piece(text: str) -> None:
    assert split_sentences(text) == [text]


def test_very_short_sentences_join_a_neighbour() -> None:
    assert split_sentences("no. not again. the kettle has been boiling for an hour.") == [
        "no. not again. the kettle has been boiling for an hour."
    ]


def test_a_short_sentence_stays_alone_where_nothing_fits() -> None:
    long = f"{'a' * 19} {'b' * 18}."
    assert split_sentences(f"{long} no.", 40) == [long, "no."]


def test_a_long_sentence_is_cut_at_clauses_before_words() -> None:
    text = f"{'one two ' * 8}three, {'four five ' * 8}six; {'seven ' * 12}eight."
    pieces = split_sentences(text, 100)
    assert pieces[0].endswith("three,")
    assert pieces[1].endswith("six;")
    assert pieces[2].endswith("eight.")


def test_words_are_kept_whole_where_they_fit() -> None:
    text = normalise("word " * 100)
    assert " ".join(split_sentences(text, 33)) == text


@pytest.mark.parametrize("limit", [1, 7, 140, 10_000])
def test_one_endless_word_is_cut(limit: int) -> None:
    pieces = split_sentences(normalise("a" * 10_000), limit)
    assert "".join(pieces) == "a" * 10_000 + "."
    assert max(map(len, pieces)) <= limit


@pytest.mark.parametrize("limit", [1, 5, 20, 140])
def test_no_piece_is_empty_and_nothing_is_lost(limit: int) -> None:
    text = normalise("Yes. No! Well, then: a rather longer sentence; it goes on, and on. Why?")
    pieces = split_sentences(text, limit)
    assert all(piece and piece == piece.strip() for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


def test_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split_sentences("hello.", 0)


def test_characters_are_their_ascii_codes() -> None:
    assert encode("hi, you.") == [104, 105, 44, 32, 121, 111, 117, 46]
    assert encode("") == []


def test_ids_fit_the_vocabulary_and_never_are_null() -> None:
    ids = encode(normalise("Ünïcode — $5, 100% 😀 'text'."))
    assert all(0 < i < 128 for i in ids)


@pytest.mark.parametrize("text", ["caf\u00e9", "a\x00"])
def test_text_that_was_not_normalised_has_no_ids(text: str) -> None:
    with pytest.raises(TextError, match="normalise"):
        encode(text)
