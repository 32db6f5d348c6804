"""Tells what of a wish is refused: what each cue that says "no" is about."""

import re
from collections.abc import Sequence

from service.wish.pieces import CUES, Token
from service.wish.wordings import Phrases

PHRASE = 3
"""Most words of something refused that has no name in the catalogue."""
LETTERS = 12
"""The same in letters, where spaces don't part words."""
COLONS = frozenset(":：")
EXPLAINS = re.compile(r"(?:was|das|die|der|that|which|que|qui|что|котор\w+)$", re.IGNORECASE)
"""Words that begin a clause which explains the one before."""
ASKED = frozenset("?？:：—–")
"""Marks over which an answer refuses what was asked about."""
HARD = frozenset(".;!。！；\n()（）|?？:：—–…")


def refuse(tokens: list[Token], spoken: Phrases) -> None:
    """Marks what each cue refuses: what follows it; else, or if it belongs after what it refuses,
    what precedes it."""
    for place, cue in enumerate(tokens):
        if cue.kind not in CUES:
            continue
        cue.dropped = True
        behind = cue.kind == "after" and not _explained(tokens, place)
        following = [] if behind or cue.kind == "other" else _following(tokens, place)
        more = bool(following) or (cue.kind != "after" and _says_something(tokens, place))
        chosen = following if more else _preceding(tokens, place)
        if chosen:
            low, high = min(place, *chosen), max(place, *chosen)
            for n in range(low, high + 1):
                tokens[n].dropped = True
            for n in chosen:
                tokens[n].refused = True
        elif cue.kind != "other":
            _refuse_words(tokens, place, spoken)


def refuse_too(tokens: Sequence[Token], same: Sequence[tuple[int, int]]) -> None:
    """Marks things of which a part of the sentence says "too" after one that is refused, as in "no
    westerns, and musicals neither". `same`: where that is said."""
    last: Token | None = None
    for n, token in enumerate(tokens):
        if token.kind == "want":
            last = None
        if not token.thing:
            continue
        if token.refused:
            last = token
        elif last is not None:
            after = next((one for one in tokens[n + 1 :] if one.thing or one.kind == "end"), None)
            end = after.start if after is not None and after.kind == "end" else token.end + 25
            if any(last.end <= low and high <= end for low, high in same):
                token.refused = token.dropped = True
                last = token
        else:
            last = None


def _explained(tokens: Sequence[Token], place: int) -> bool:
    """Whether a clause follows that says what a cue refuses, where nothing before does."""
    explains = [token for token in tokens[place + 1 : place + 3] if token.kind != "comma"]
    return bool(explains and EXPLAINS.match(explains[0].text)) and not _preceding(tokens, place)


def _says_something(tokens: Sequence[Token], place: int) -> bool:
    """Whether a word that is no filler follows a cue before its part ends."""
    for token in tokens[place + 1 :]:
        if token.kind in {"word", "filler", "article"}:
            if token.kind == "word":
                return True
        else:
            break
    return False


def _following(tokens: Sequence[Token], place: int) -> list[int]:
    """The places of the things that a cue refuses after it. What it refuses may be in a clause that
    explains it, as in "nothing that was made in the 80s"."""
    found: list[int] = []
    reach = PHRASE
    n = place + 1
    while n < len(tokens):
        token = tokens[n]
        if token.thing:
            if not token.negative:
                found.append(n)
        elif token.kind in {"end", "want", *CUES}:
            if found or token.text[:1] not in COLONS:
                break
        elif token.kind == "comma":
            explains = (
                not found and n + 1 < len(tokens) and bool(EXPLAINS.match(tokens[n + 1].text))
            )
            reach += PHRASE * explains
            if not explains and not _goes_on(tokens, n, bool(found)):
                break
        elif (token.kind == "article" and found and tokens[n - 1].kind != "or") or (
            token.kind == "word" and not found and _words_between(tokens, place, n) >= reach
        ):
            break
        n += 1
    return found


def _words_between(tokens: Sequence[Token], first: int, last: int) -> int:
    return sum(token.kind == "word" for token in tokens[first + 1 : last])


def _goes_on(tokens: Sequence[Token], place: int, found: bool) -> bool:
    """Whether a list goes on after a comma: only things, joints and their like stand up to the end
    of the part, and a joint comes before the last of them."""
    if tokens[place].text == "、":
        return True
    if not found:
        return False
    joined = False
    things = 0
    for token in tokens[place + 1 :]:
        if token.kind in {"end", "want", *CUES}:
            break
        if token.kind == "article" and not joined:
            return False
        joined = joined or token.kind in {"or", "and"}
        things += token.thing
        if token.kind == "word" or (token.kind == "filler" and not things and not joined):
            return False
    return joined and things > 0


def _preceding(tokens: Sequence[Token], place: int) -> list[int]:
    """The places of the things that a cue refuses before it: the last of its part of the sentence,
    with those that a list joins to it. A cue that has a part to itself, as in "Horror? No." or
    "comedies bore me, so skip them", refuses what the part before names."""
    found: list[int] = []
    alone, crossed = True, False
    for n in range(place - 1, -1, -1):
        token = tokens[n]
        if token.thing and not token.negative:
            if token.refused:
                break
            found.append(n)
            alone = False
        elif token.kind == "want" or (token.kind in CUES and found):
            break
        elif token.kind == "end":
            asked = token.text[:1] in ASKED
            again = crossed and asked and found[-1:] == [n + 1] and tokens[n - 1].thing
            if not again and (not alone or (token.text[:1] in HARD and not asked)):
                break
            crossed = crossed or asked
        elif token.kind == "comma" and found and not _joined_before(tokens, n):
            break
        elif token.kind == "word":
            if found:
                break
            alone = alone and tokens[place].kind != "after"
    return found


def _joined_before(tokens: Sequence[Token], comma: int) -> bool:
    """Whether a list goes over a comma to its left."""
    if tokens[comma].text == "、":
        return tokens[comma - 1].thing or tokens[comma - 1].kind in {"and", "or"}
    after = tokens[comma + 1 :]
    joint = next((n for n, token in enumerate(after) if token.kind in {"or", "and"}), None)
    return (
        joint is not None
        and all(
            token.thing or token.kind in {"filler", "or", "and"} for token in after[: joint + 1]
        )
        and comma > 0
        and tokens[comma - 1].thing
    )


def _refuse_words(tokens: list[Token], place: int, spoken: Phrases) -> None:
    """Marks the words that a cue refuses where nothing has a name in the catalogue."""
    cue = tokens[place]
    steps = range(place - 1, -1, -1) if cue.kind == "after" else range(place + 1, len(tokens))
    words: list[Token] = []
    for n in steps:
        token = tokens[n]
        if token.kind == "word" and len(words) < PHRASE:
            words.append(token)
        elif token.kind not in {"filler", "article"} or words:
            break
    words.sort(key=lambda token: token.start)
    said = (" " if spoken.spaced else "").join(token.text for token in words)
    if said and (spoken.spaced or 1 < len(said) <= LETTERS) and len(said) > 2:
        for token in words:
            token.dropped = True
        words[0].refused = True
        words[0].of = said
