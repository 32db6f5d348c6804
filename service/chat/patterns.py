"""Patterns and word lists by which turns are read, for English and Chinese."""

import re

ASKS_WHY = re.compile(
    r"\b(why(?! (?:not|don['’]?t)\b)|how come|what makes)\b|为什么|为何", re.IGNORECASE
)
ASKS_ABOUT = re.compile(
    r"\b(tell me (more )?about|what is .*\babout|what's .*\babout|more about|when was"
    r"|who (made|directed|wrote))\b|介绍",
    re.IGNORECASE,
)
SEEN = re.compile(
    r"(?<!have )(?<!did )(?<!do )\b(?:i|we)(?:['’]ve| have)?(?: already| just)?"
    r" (?:seen|saw|watched|read|heard|played|own|bought|know)\b"
    r"|(?:^|(?<=[,.;!?] )|(?<!not )(?<!n['’]t )(?<!n't )already )(?:seen|watched|read|own)\b"
    r"|看过|读过|听过|买过",
    re.IGNORECASE,
)
"""Matches where the person says that they know something; doesn't match "have I seen" and "I
haven't seen"."""
DISLIKE = re.compile(
    r"\b(?:i|we) (?:really )?(?:(?:don['’]?t|do not|can['’]?t|cannot|never) (?:really )?"
    r"(?:like|enjoy|stand|care for|watch|want)(?: to (?:see|watch|read))?(?: any)?"
    r"|hate|dislike|detest) (?=(?P<en>[^.;!?]+))"
    r"|(?:不喜欢|讨厌)(?P<zh>[^,。,;!?\s]+)",
    re.IGNORECASE,
)
DISLIKE_ENDS = re.compile(
    r",? \b(?:but|though|although|because|except|instead|please|so"
    r"|and (?:i|we|please|give|show))\b",
    re.IGNORECASE,
)
"""Ends the list of disliked things that follows `DISLIKE`."""
OR = re.compile(r"\b(?:or|and|nor)\b", re.IGNORECASE)
ONLY_A_POINTER = re.compile(
    r"(?:the )?(?:it|that|this|them|those|these|both|all of (?:them|those|these))"
    r"(?: (?:one|ones|film|movie|book|song|at all|much|either|already|before|once|twice"
    r"|too|as well|yesterday|years ago))*",
    re.IGNORECASE,
)
"""A verb's object that only points to picks: "it", "both of them already"."""
PLACES = re.compile(r"#?\d{1,2}(?:(?: ?(?:,|&|and))+ ?#?\d{1,2})*")
WITHOUT = re.compile(
    r"\b(?:no|without|nothing|not|except|avoid)(?: any| a| too)? (?P<what>[\w'’ -]+)", re.IGNORECASE
)
CLAUSE_ENDS = re.compile(r"[,.;!?,。;!?]|\bbut\b|\bso\b")
REJECTION = re.compile(
    r"\bnot (?:that|this|those|these|it|any of)\b|\b(?:something|anything|someone|what) else\b"
    r"|\bother (?:ones|suggestions|options)\b|\banother\b|\b(?:more|next)\b(?! about)"
    r"|换|别的|其他|再来",
    re.IGNORECASE,
)
CONTINUES = re.compile(
    r"^\W*(?:(?:and|but|also|or|maybe|rather|then|only|just|still|something \w+er)\b"
    r"|(?:what|how) about\b|但|还有)",
    re.IGNORECASE,
)
"""Matches the beginning of a turn that adds to the wish before it instead of replacing it."""
THANKS = re.compile(r"\b(?:thanks?|great|cool|nice|bye|goodbye|perfect)\b|谢|再见", re.IGNORECASE)
SMALLTALK = re.compile(
    r"^\W*(hi|hello|hey|thanks?( you)?( so much| a lot)?|bye|goodbye|good (morning|evening|night)"
    r"|ok(ay)?|great|cool|你好|您好|谢谢|再见)\W*(there|all|everyone)?\W*$",
    re.IGNORECASE,
)
_ONE_TO_TEN = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    **{f"第{word}": n for n, word in enumerate("一二三四五六七八", 1)},
    **{word: n for n, word in enumerate(_ONE_TO_TEN[:5], 1)},
}
"""Places in a list, from 1, by word."""
PLACE_NUMBER = re.compile(
    r"(?:number |no\. ?|#|第)(\d{1,2})\b|\b(\d{1,2})(?:st|nd|rd|th)\b", re.IGNORECASE
)
POINTS_TO_ONE = re.compile(
    r"\b(it|that|this|that one|this one)\b|它|这个|那个|这部|那部", re.IGNORECASE
)
POINTS_TO_ALL = re.compile(
    r"\b(them|those|these|both|all of (?:them|those|these))\b|它们|这些|那些|都", re.IGNORECASE
)
FILLER_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and another any anything are book books buy can could do else film films find for "
        "get give good hello hey hi i in is it item items just list listen make me more movie "
        "movies music my name next now of one ones only order other others pick please product "
        "products read recommend recommendations see shall should show some something song songs "
        "suggest suggestions surprise tell thing things to today tonight top try us watch we what "
        "which would you your",
    )
)
"""A wish that consists only of these words names nothing in particular."""
DECADE = re.compile(
    r"\b(?:19|20)?(\d0)'?’?s\b|\b(fifties|sixties|seventies|eighties|nineties)\b", re.IGNORECASE
)
YEAR = re.compile(r"\b(before|after|since|from|in|until)\s+((?:19|20)\d\d)\b", re.IGNORECASE)
AGE = re.compile(
    r"(?<!not )(?<!too )(?<!year )(?<!years )(?<![-\w])"
    r"(?:(?P<old>old|older|classic|vintage)|recent|newer|newest|latest|modern"
    r"|new(?! (?:age|orleans|wave|york|zealand)\b)) (?P<what>(?:[\w'’-]+ )?[\w'’-]+)",
    re.IGNORECASE,
)
"""Matches a word for the age of the wished items ("old", "newest") and, as `what`, the one or two
words after it."""
_ENGLISH_NUMBERS = {
    **{word: n for n, word in enumerate(_ONE_TO_TEN, 1)},
    "dozen": 12,
    "fifteen": 15,
    "twenty": 20,
}
NUMBERS = {
    **_ENGLISH_NUMBERS,
    **{word: n for n, word in enumerate("二三四五六七八九十", 2)},
    "两": 2,
}
COUNT = re.compile(
    r"(?:^\W*(?:(?:please|and|ok|okay|the),? )*"
    r"|\b(?:(?:give|show|list|suggest|recommend|name|pick|find|get|see|want|need|are|make it"
    r"|top|just|only)"
    r"(?: (?:me|us|the|your|best|top|just|only|another|some|list|of))*|another) )"
    rf"(?:a )?(?!(?<=the )one\b|(?<=another )one\b)(?P<n>\d{{1,2}}|{'|'.join(_ENGLISH_NUMBERS)})\b"
    r"(?![-–'’%]"
    r"| ?(?:or|to|and|(?:player|person|people|hour|hr|min|minute|day|week|year|star|part|season)s?)"
    r"\b)(?P<what>[^,.;!?]{0,60})"
    r"|(?:推荐|来|给我|要|看|列|再)(?:我|出|个)?(?P<zh>\d{1,2}|[两二三四五六七八九十])"
    r" ?(?=[部个個本首件款集])",
    re.IGNORECASE,
)
"""A number of things that is asked for, and the words after it."""
PICK_NOUN = re.compile(
    r"(?:more|others?|picks?|of (?:them|those|these)|suggestions?|recommendations?|options?|ideas?"
    r"|choices|titles|items|products|things|ones)\b",
    re.IGNORECASE,
)
ITEM_NOUN = re.compile(
    r"\b(?:films?|movies?|books?|novels?|songs?|albums?|music|games?|series|shows?|releases?)\b",
    re.IGNORECASE,
)
DECADES = {"fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80, "nineties": 90}
