"""What of a text may leave: careless and hostile ways to write what is private, and what only looks
like it."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from service.errors import ConfigError
from service.privacy import PatternRedactor, Redaction, count_redactions, possible_ids
from service.privacy.patterns import _luhn
from service.schema import Candidate, Event, Item, Recent, UserState

NET = PatternRedactor(["DE", "US", "FR"])
ABROAD = PatternRedactor()
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
CARDS = [
    "4111111111111111",
    "5500005555555559",
    "340000000000009",
    "6011000000000004",
    "30000000000004",
    "2223000048400011",
]
IBANS = [
    "DE89370400440532013000",
    "GB82WEST12345698765432",
    "FR1420041010050500013M02606",
    "NO9386011117947",
]
PHONES = ["+49 170 1234567", "+1 202-555-0123", "+33 1 23 45 67 89", "+86 138 1234 5678"]


def between(text: str, mark: str, every: int = 4) -> str:
    return mark.join(text[n : n + every] for n in range(0, len(text), every))


WAYS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "wide": lambda text: text.translate(WIDE),
    "Arabic digits": lambda text: text.translate(ARABIC),
    "invisible": lambda text: between(text, "\u200b", 1),
    "joined": lambda text: between(text, "\u2060\u00ad", 2),
    "hard blanks": lambda text: between(text, "\u00a0"),
    "thin blanks": lambda text: between(text, "\u2009"),
    "hard hyphens": lambda text: between(text, "\u2011"),
    "long dashes": lambda text: between(text, " — "),
    "dots": lambda text: between(text, "."),
    "bars": lambda text: between(text, "|"),
    "underscores": lambda text: between(text, "_"),
    "accents": lambda text: between(text, "\u0301", 1),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kind", "secret"), [*(("card", one) for one in CARDS), *(("iban", one) for one in IBANS)]
)
def test_cards_and_accounts_are_found_however_they_are_written(
    kind: str, secret: str, way: str
) -> None:
    written = WAYS[way](secret)
    for text in (
        written,
        f"films, paid with {written}.",
        f'h1) rated 5 "{written}" - 1979, Horror',
        f"在{written}那里",
    ):
        assert ABROAD(text) == text.replace(written, f"[{kind}]")


@pytest.mark.parametrize(
    "secret",
    ["4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "4111, 1111, 1111, 1111", "de89 3704 0044 0532 0130 00"],
)
def test_odd_groups_hide_nothing(secret: str) -> None:
    assert ABROAD(f"my {secret}!") in {"my [card]!", "my [iban]!"}


@pytest.mark.parametrize(
    "way", ["as it is", "wide", "Arabic digits", "invisible", "joined", "accents"]
)
@pytest.mark.parametrize("phone", PHONES)
def test_a_phone_number_with_its_country_is_found_anywhere(phone: str, way: str) -> None:
    written = WAYS[way](phone)
    assert ABROAD(f"call {written} for tickets") == "call [phone] for tickets"


@pytest.mark.parametrize(
    "phone",
    [
        *(
            "0170 1234567",
            "0170/1234567",
            "(0170) 123 45 67",
            "0170_123_45_67",
            "0170*1234567",
            "01701234567",
        ),
        *(
            "(212) 555-0123",
            "212.555.0199",
            "01 23 45 67 89",
            "0049 170 1234567",
            "+49 (0)170 1234567",
            "tel:+491701234567",
        ),
    ],
)
def test_a_countrys_own_numbers_are_found_where_it_is_configured(phone: str) -> None:
    assert NET(f"ring {phone} tonight") in {
        "ring [phone] tonight",
        "ring tel:[phone] tonight",
        "ring ([phone] tonight",
    }


@pytest.mark.parametrize(
    "email",
    [
        *(
            "ann@example.org",
            "ann.o'hara+films@mail.example.co.uk",
            "ANN@EXAMPLE.ORG",
            "ann@localhost",
            "jürgen@bücher.de",
        ),
        *(
            "ann＠example．org",
            "an\u200bn@exam\u200bple.org",
            "ann @ example.org",
            "ann [at] example [dot] org",
            "ann(at)example.org",
        ),
        *("ann%40example.org", "ａｎｎ@example.org", "安娜@例子.中国", "ann@example。org"),
    ],
)
def test_an_address_for_mail_is_found_however_it_is_written(email: str) -> None:
    assert ABROAD(f"write to {email}, please") == "write to [email], please"
    assert ABROAD(f'h1) searched for "{email}"') == 'h1) searched for "[email]"'


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2001: A Space Odyssey",
            "1984",
            "21 Jump Street",
            "8 1/2",
            "THX 1138",
            "300; 1917; 1941; 2046",
            "12 Angry Men",
        ),
        *(
            "films of 1979, 1982, 1995 and 2001",
            "1979 1982 1995 2001",
            "1990-1999, 2000-2009",
            "1984 (1956) 1984 (1984)",
        ),
        *(
            "1,299,000 dollars",
            "1.299.000,00 €",
            "$ 12.99, $ 14.99, $ 19.99",
            "1 2 3 4 5 6 7 8 9 10",
            "top 1000000 songs",
        ),
        *(
            "2012-01-31T12:00:00Z",
            "ISBN 978-3-16-148410-0",
            "dinner @ eight",
            "@",
            "Blade Runner 2049 (2017), 164 min",
            "C#/.NET",
        ),
        *(
            "in 1995 the film was new",
            "de 1995 a 2005",
            "½ ⅓ ② ①",
            "A) B) C)",
            "",
            " ",
            "\u200b",
            "[email]",
            "Nokia (phone)",
        ),
    ],
)
def test_years_prices_lists_and_titles_stay(text: str) -> None:
    assert NET(text) == text


@given(st.text())
def test_any_text_is_taken_and_what_holds_no_digit_and_no_sign_stays(text: str) -> None:
    found = NET(text)
    assert NET(found) == found
    if not any(char.isdigit() or char in "@＠﹫%(（[［{⟦" for char in text):
        assert found == text


@given(
    st.text(max_size=40),
    st.sampled_from([*CARDS, *IBANS]),
    st.sampled_from([*WAYS]),
    st.text(max_size=40),
)
def test_nothing_around_it_hides_a_number(before: str, secret: str, way: str, after: str) -> None:
    found = NET(f"{before} x {WAYS[way](secret)} x {after}")
    assert "[card]" in found or "[iban]" in found or "[email]" in found
    assert secret not in found


@given(st.text("0123456789", min_size=1, max_size=60), st.data())
def test_sums_from_the_beginning_are_luhns_check(digits: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(digits) - 1))
    last = data.draw(st.integers(first + 1, len(digits)))
    assert _luhn(digits)(first, last) == luhn.is_valid(digits[first:last])


@pytest.mark.parametrize(
    "text",
    [
        "a." * 5_000 + "@",
        "@" * 5_000,
        "DE89 " * 1_000,
        "a-a-" * 2_000,
        "9 " * 2_500,
        "(at" * 2_000,
        "1 a " * 2_000,
    ],
)
def test_no_text_takes_forever(text: str) -> None:
    start = time.process_time()
    veil(["Ann Smith"]).sent(text)
    ABROAD(text)
    assert time.process_time() - start < 1


def test_a_region_without_phones_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.phone_regions: 'UK'"):
        PatternRedactor(["UK"])


def test_what_was_taken_out_is_counted_by_kind() -> None:
    assert count_redactions([ABROAD("a@b.c, d@e.f"), ABROAD(PHONES[0]), "none"]) == {
        "email": 2,
        "phone": 1,
    }


# ── a person's own words ──────────────────────────────────────────────────────────────────────────


def veil(names: list[str] | None = None, own: list[str | None] | None = None) -> Redaction:
    shown = Redaction(NET, frozenset({"genre"}), frozenset({"likes"}), names=("Configured Name",))
    return shown.for_request(names or [], own or [])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Hauptstraße 12a",
            "Bahnhofstr. 5",
            "10 Downing St.",
            "221b Baker Street",
            "1600 Pennsylvania Avenue",
            "Lindenallee 7",
        ),
        *(
            "12 bis rue de la Paix",
            "Calle de Alcalá 45",
            "Via Roma, 12",
            "Keizersgracht 123",
            "长安街12号",
            "ул. Ленина, 5",
        ),
    ],
)
def test_where_a_person_lives_is_taken_out_of_their_words(text: str) -> None:
    assert veil().sent(f"I live at {text}") == "I live at [address]"


@pytest.mark.parametrize(
    "text",
    ["10 years on the road", "spring 2", "Planet of the Apes 3", "2 films on a road", "Umweg 2"],
)
def test_what_is_no_address_stays(text: str) -> None:
    assert veil().sent(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Ann Smith",
        "ANN  SMITH",
        "ann-smith",
        "Ann\u00a0Smith",
        "A\u200bnn Smith",
        "Ａｎｎ Smith",
        "Ann\nSmith",
    ],
)
def test_a_listed_name_is_taken_out_in_any_form(text: str) -> None:
    assert veil(["Ann Smith"]).sent(f"for {text}'s party") == "for [name]'s party"


def test_names_are_whole_words_but_in_scripts_without_blanks() -> None:
    assert (
        veil(["Ann", "José", "王小明"]).sent("Annie and Ann, JOSE\u0301, 我叫王小明")
        == "Annie and [name], [name], 我叫[name]"
    )
    assert veil(["", " ", "!", "\u200b"]).sent("nothing is listed!") == "nothing is listed!"
    assert veil().sent("for configured name") == "for [name]"


def test_own_ids_are_taken_out_and_words_too_short_to_be_one_stay() -> None:
    assert (
        veil([], ["user-12", None, "ab"]).sent("USER-12 not user-123 ab") == "[id] not user-123 ab"
    )


def test_a_prompt_is_made_of_what_may_be_shown_only() -> None:
    item = Item(
        id="it-7",
        title="21 Jump Street",
        text="x",
        attributes={"genre": ["Comedy", "a@b.org"], "cost": 3},
        url="https://x.y",
    )
    told = Item(id="heat", title="Heat")
    search = Event(user_id="u", type="search", text="like it-7 at 21 Jump Street, heat, ann")
    state = UserState(
        recent=(
            Recent(event=search, item=None, weight=0, verb="searched for"),
            Recent(
                event=Event(user_id="u", type="like", item_id="it-7"),
                item=item,
                weight=1,
                verb="liked",
            ),
        ),
        attributes={"likes": ["ann's films", "noir"], "income": 9},
    )
    shown, candidates, instruction = veil(["Ann"]).shown(
        state, [Candidate(item=told, prior=1)], "ask it-7"
    )
    assert shown.recent[0].event.text == "like ⟦id⟧ at ⟦address⟧, heat, ⟦name⟧"
    assert shown.recent[1].item is not None
    assert (shown.recent[1].item.title, shown.recent[1].item.attributes) == (
        "21 Jump Street",
        {"genre": ["Comedy", "⟦email⟧"]},
    )
    assert shown.attributes == {"likes": ["⟦name⟧'s films", "noir"]}
    assert (candidates[0].item.id, candidates[0].prior, instruction) == ("heat", 1, "ask ⟦id⟧")
    assert NET(instruction or "") == "ask [id]"


def test_a_number_is_found_before_a_long_text_is_cut() -> None:
    assert NET.marked(veil().words("x " * 990 + CARDS[0])).endswith("⟦card⟧")


URL = "https://shop.example/p/1?x=1#y"


def test_words_that_look_like_ids_are_looked_up() -> None:
    known = {"itm-7", "1984", "well-known", "heat", "sku_12:3", "shop/a", URL}
    texts = [f"like itm-7, ITM-8 and sku_12:3. in 1984 heat, or shop/a ({URL})?", "a-" * 5_000]
    assert sorted(known & set(possible_ids(texts))) == [URL, "itm-7", "shop/a", "sku_12:3"]
    assert possible_ids([]) == []
