"""Patterns and word lists by which turns are read, in seven languages. What a turn wishes for is
read by `service.wish`; here is what only a conversation has: its moves, and how it points to
picks."""

import re

ASKS_WHY = re.compile(
    r"\b(why(?! (?:not|don['’]?t)\b)|how come|what makes|warum(?! nicht)|wieso(?! nicht)|weshalb"
    r"|por qué(?! no\b)|a qué viene|pourquoi(?! pas)|почему(?! бы)|зачем)\b"
    r"|为什么(?!不)|为何|为啥|なぜ|どうして|なんで|理由は",
    re.IGNORECASE,
)
ASKS_ABOUT = re.compile(
    r"\b(tell me (more )?about|what is .*\babout|what's .*\babout|more about|when was"
    r"|who (made|directed|wrote)|erzähl\w* (mir )?(mehr |etwas )?(über|von)|worum geht|mehr über"
    r"|beschreib\w*|cuéntame|háblame|de qué (?:va|trata)|más sobre|parle[- ]moi|en savoir plus"
    r"|de quoi (?:parle|s['’]agit)|dis[- ]m['’]en plus|расскажи\w*|о ч[её]м|подробнее)\b"
    r"|介绍|讲(?:的是|了)?什么|详细说说|说说第|について(?:教えて|詳しく)|詳しく"
    r"|どんな(?:話|内容|映画|本|商品)",
    re.IGNORECASE,
)
SEEN = re.compile(
    r"(?<!have )(?<!did )(?<!do )\b(?:i|we)(?:['’]ve| have)?(?: already| just)?"
    r" (?:seen|saw|watched|read|heard|played|own|bought|know)\b"
    r"|(?:^|(?<=[,.;!?] )|(?<!not )(?<!n['’]t )(?<!n't )already )(?:seen|watched|read|own)\b"
    r"|\b(?:kenne|kennen)(?: ich| wir)?(?: den| die| das| es| ihn| sie)?(?: schon| bereits)\b"
    r"|\b(?:schon|bereits) (?:gesehen|gelesen|gehört|gekauft)\b"
    r"|\b(?:kenne|hab\w* ich|habe) (?:ich )?schon\b"
    r"|\bya (?:la |lo |las |los )?(?:he|hemos) (?:visto|leído|oído|comprado)\b"
    r"|\bya (?:la|lo|las|los) (?:vi|conozco|tengo)\b"
    r"|\bdéjà (?:vue?s?|lue?s?|entendue?s?|achetée?s?)\b|\bconnais déjà\b"
    r"|\bуже (?:видел\w*|смотрел\w*|читал\w*|слышал\w*|купил\w*|знаю)"
    r"|看过|读过|听过|买过|もう(?:見|観|読)|すでに(?:見|観|読)|(?:見|観|読)たことが?ある|知ってい",
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
OBJECT_ANYWHERE = re.compile(
    r"[^\x00-\x7f]|kenne|habe|schon|bereits|\bya\b|connais|gesehen|gelesen", re.IGNORECASE
)
"""Tells a verb of another language than English."""
ONLY_A_POINTER = re.compile(
    r"(?:the )?(?:it|that|this|them|those|these|both|all of (?:them|those|these))"
    r"(?: (?:one|ones|film|movie|book|song|at all|much|either|already|before|once|twice"
    r"|too|as well|yesterday|years ago))*",
    re.IGNORECASE,
)
"""A verb's object that only points to picks: "it", "both of them already"."""
PLACES = re.compile(r"#?\d{1,2}(?:(?: ?(?:,|&|and))+ ?#?\d{1,2})*")
TASTE = re.compile(
    r"\b(?:(?:ich|wir) (?:mag|mögen|hasse|hassen|verabscheue|kann|ertrage)\b"
    r"|no (?:me|nos) gustan?\b|(?:odio|detesto)\b|je (?:n['’]aime|déteste|hais)|j['’]aime pas"
    r"|я (?:не люблю|не выношу|ненавижу)|мне не нравятся|терпеть не могу|не люблю|ненавижу)"
    r"|(?:不喜欢|讨厌|受不了)|(?:嫌い|苦手|好きではな|好きじゃな)",
    re.IGNORECASE,
)
"""Matches where the person says what they like or not in general; what they refuse there is not
only refused now."""
CLAUSE_ENDS = re.compile(r"[,.;!?,。;!?]|\bbut\b|\bso\b")
REJECTION = re.compile(
    r"\bnot (?:that|this|those|these|it|any of)\b|\b(?:something|anything|someone|what) else\b"
    r"|\bother (?:ones|suggestions|options)\b|\banother\b|\b(?:more|next)\b(?! about)"
    r"|\b(?:et)?was ander(?:es|s)\b|\bander[en]s? (?:vorschl\w+|ideen)\b|\bweitere\b"
    r"|\bnoch (?:mehr|eine?n?|was)\b|\bmehr davon\b|\botr[ao]s?\b(?! vez)"
    r"|\bmás (?:opciones|ideas)\b|\bautre chose\b|\bd['’]autres\b|\bun(?:e)? autre\b"
    r"|\bдруг(?:ое|ие|ой|ую)\b|\bещ[её]\b"
    r"|换|别的|其他|再来|別の|他の|ほかの|もっと(?!安|高|短|長|新|古)",
    re.IGNORECASE,
)
CONTINUES = re.compile(
    r"^\W*(?:(?:and|but|also|or|maybe|rather|then|only|just|still|something \w+er)\b"
    r"|(?:what|how) about\b"
    r"|(?:und|aber|oder|doch|lieber|dann|nur|noch|auch|etwas \w+er)\b"
    r"|(?:y|pero|o|también|mejor|entonces|solo|algo más)\b"
    r"|(?:et|mais|ou|aussi|plutôt|alors|seulement|plus)\b"
    r"|(?:и|но|а|или|тоже|лучше|тогда|только|ещё|еще)\b"
    r"|但|还有|还要|不过|而且|最好|でも|それと|あと|ただ|できれば|もう少し)",
    re.IGNORECASE,
)
"""Matches the beginning of a turn that adds to the wish before it instead of replacing it."""
THANKS = re.compile(
    r"\b(?:thanks?|great|cool|nice|bye|goodbye|perfect|danke\w*|tschüss|super|perfekt|gracias|adiós"
    r"|perfecto|genial|merci|au revoir|parfait|спасибо|пока|отлично)\b"
    r"|谢|再见|ありがとう|さようなら",
    re.IGNORECASE,
)
SMALLTALK = re.compile(
    r"^\W*(hi|hello|hey|thanks?( you)?( so much| a lot)?|bye|goodbye|good (morning|evening|night)"
    r"|ok(ay)?|great|cool|hallo|guten (morgen|tag|abend)|servus|moin|danke( schön| sehr| dir)?"
    r"|vielen dank|tschüss|hola|buen[oa]s( días| tardes| noches)?|(muchas )?gracias|adiós"
    r"|bonjour|salut|bonsoir|merci( beaucoup)?|au revoir"
    r"|привет|здравствуй(те)?|добрый (день|вечер)|спасибо( большое)?|пока"
    r"|你好|您好|嗨|谢谢(你|您)?|多谢|再见|早上好|晚上好"
    r"|こんにちは|こんばんは|おはよう(ございます)?|ありがとう(ございます)?|さようなら)\W*"
    r"(there|all|everyone|zusammen|a todos|tous)?\W*$",
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
    **{f"{word}つ目": n for n, word in enumerate("一二三四五", 1)},
}
"""Places in a list, from 1, by word."""
STEMS = {
    stem: n
    for listed in (
        ("erste", "zweite", "dritte", "vierte", "fünfte"),
        ("primer", "segund", "tercer", "cuart", "quint"),
        ("premi[eè]r", "deuxièm", "troisièm", "quatrièm", "cinquièm"),
        ("перв", "втор", "трет", "четв[её]рт", "пят"),
    )
    for n, stem in enumerate(listed, 1)
}
"""The same in other languages, by the beginning of the word, as a regular expression."""
PLACE_NUMBER = re.compile(
    r"(?:number |nummer |nr\. ?|número |numéro |номер |no\. ?|#|第)(\d{1,2})(?!\d)"
    r"|\b(\d{1,2})(?:(?:st|nd|rd|th)\b|番目|つ目|本目)",
    re.IGNORECASE,
)
POINTS_TO_ONE = re.compile(
    r"\b(it|that|this|that one|this one|diese[rsn]?|ese|esa|celui-ci|celle-ci|ce film"
    r"|этот|эту|его)\b|它|这个|那个|这部|那部|それ|これ",
    re.IGNORECASE,
)
POINTS_TO_ALL = re.compile(
    r"\b(them|those|these|both|all of (?:them|those|these)|alle davon)\b|它们|这些|那些|都",
    re.IGNORECASE,
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
