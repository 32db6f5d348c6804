"""Words that a reason may use without saying anything of its item, and how reasons word what a
person did, in English and Chinese.

Written for `eval.reader` alone, and not shared with what writes reasons: a reader that took the
writer's lists would take over its mistakes."""

import re
from collections.abc import Iterator, Mapping

from service.schema import Meaning


def listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = listed(
    """
    a about above after again all almost along already also although am among an and another any
    anything are around as at away back be became because become been before being below beside
    besides between both but by can could did do does doing done down during each either else ever
    every few first for from get gets give given gives go goes had has have having he her here hers
    him his how i if in into is it its itself just keep let like likewise many may me might more
    most much my near of off often on once one ones only onto or other others our out over own per
    rather same she should since so some something still such than that the their theirs them then
    there these they this those though through thus to together too toward towards under until up
    upon us very was way we were what when where which while who whom whose why will with within
    would you your yours yourself
    act based choice choices choose chosen close closest comes common described know latest placed
    something content fit fits liked likes liking lists lot make
    makes match matches named people person reason recommended ranked share shared shares sharing
    similar taste two
    album article book books course film films game item items job movie movies music novel piece
    place post product products record series show song thing title titled track video words work
    asked bought cart clicked commented disliked followed interested looked played put rated
    returned searched seen skipped subscribed took viewed wanted watched wish
    """
)
"""English words of grammar, of the frames around a reason, and for a thing of any kind."""
NEGATORS = listed(
    "no not never without hardly barely scarcely neither nor nothing nobody lacks lacking"
)
UNNEGATED = listed("only just but merely")
"""After these a negator denies nothing, as in "not only"."""
HAN_WORDS = listed(
    """
    你 您 我 他 她 它 它们 人 人们 的 地 得 了 过 着 和 与 跟 同 及 或 并 并且 而 而且 也 都 还 又
    再 就 才 很 更 最 是 有 在 于 为 由 以 让 把 被 给 对 对于 从 到 向 用 因 因为 所以 如 像 等
    其 之 此 这 那 该 这个 那个 这款 这部 这本 这首 这件 这家 个 款 部 本 首 件 位 名 种 类 部分
    一 一个 一款 一部 一本 一样 一起 同样 两 两者 两个 两款 两部 两本 二者 双方 共同 共同点 共有
    都有 都是 相同 相似 类似 相近 接近 同类 同款 同属 属于 来自 出自 带有 含有 具有 包含 融合 围绕
    关于 有关 讲述 描述 主题 题材 类型 类别 种类 标签 特点 特征 风格 作者 导演 主演 品牌 产地 价格
    年份 年 年代 元 适合 适用 用于 可以 可 能 会 要 想 想要 正 正好 刚好 刚刚 最近 近来 以前 之前
    之后 曾 曾经 已经 时 时候 其他 其他人 别的 别人 大家 很多 许多 不少 一些 多 欢迎 受 受欢迎
    热门 流行 推荐 原因 理由 支持 符合 匹配 满足 要求 需要 需求 愿望 口味 喜好 喜欢 看 看过 听
    听过 读 读过 买 买过 用过 评分 打 打了 分 星 评 评论 搜索 搜 搜过 关注 订阅 分享 加入 购物车
    放进 收藏 点开 点击 播放 浏览 退回 跳过 尚未 还没 没看过 新 新近 新品 发布 上映 出版 上市 上架
    电影 影片 片 片子 书 书籍 图书 小说 作品 商品 产品 东西 歌 歌曲 音乐 专辑 游戏 文章 节目 视频
    选 选过 选择 所选 出品 执导 出版 材质 介绍 用词 接触 接触过 又见 同样 特点 类 与之
    什么 来 某 某一 课程 剧 剧集 物品 项目 内容 词语 次数 按 按照 程度 排列 排序
    """
)
"""The same in Chinese, for `eval.words.covered`."""
HAN_DENIED = re.compile(
    r"(?:[没沒](?:有)?|无|無|未|零|免|不(?![但仅只错同锈过少论管断久]))[再含加添有任何太那么会是要用放带很]*$"
)
"""The end of a Chinese text after which what follows is denied, as 几乎不 before 酸."""

_NUMERALS = "one 一|two 两|three 三|four 四|five 五|six 六|seven 七|eight 八|nine 九|ten 十"
NUMERALS = {
    word: number for number, pair in enumerate(_NUMERALS.split("|"), 1) for word in pair.split()
}

OTHER_VERBS = {
    "viewed": ("looked at", "saw"),
    "clicked": ("clicked on", "opened"),
    "played": ("watched", "listened to"),
    "rated": ("gave",),
    "bought": ("purchased",),
    "has seen": ("have seen", "had seen", "saw"),
}
"""Other words for a meaning's verb."""
HAN_VERBS: dict[str, tuple[str, ...]] = {
    "不喜欢": ("dislike",),
    "踩过": ("dislike",),
    "喜欢": ("like",),
    "点赞": ("like",),
    "赞过": ("like",),
    "看过": ("view", "seen", "play"),
    "看了": ("view", "seen", "play"),
    "浏览": ("view",),
    "查看": ("view",),
    "点开": ("click",),
    "点击": ("click",),
    "点过": ("click",),
    "播放": ("play",),
    "听过": ("play",),
    "玩过": ("play",),
    "评分": ("rating",),
    "打了": ("rating",),
    "打过": ("rating",),
    "评了": ("rating",),
    "评为": ("rating",),
    "评论": ("comment",),
    "退回": ("return",),
    "退过": ("return",),
    "退货": ("return",),
    "购买": ("purchase",),
    "买过": ("purchase",),
    "买了": ("purchase",),
    "加入购物车": ("add_to_cart",),
    "加入了购物车": ("add_to_cart",),
    "放进购物车": ("add_to_cart",),
    "放进了购物车": ("add_to_cart",),
    "放入购物车": ("add_to_cart",),
    "加购": ("add_to_cart",),
    "移出购物车": ("remove_from_cart",),
    "移出了购物车": ("remove_from_cart",),
    "从购物车": ("remove_from_cart",),
    "关注": ("follow",),
    "订阅": ("subscribe",),
    "分享": ("share",),
    "跳过": ("skip",),
    "搜索": ("search",),
    "搜过": ("search",),
    "屏蔽": ("block",),
}
"""Event types that a Chinese verb may stand for. Longer verbs are read first."""
HAN_VERB = re.compile("|".join(sorted(HAN_VERBS, key=len, reverse=True)))


def verbs_of(meanings: Mapping[str, Meaning]) -> dict[str, frozenset[str]]:
    """English verbs, longest first, each with the event types that it may stand for."""
    types: dict[str, set[str]] = {}
    for type_, meaning in meanings.items():
        for verb in _wordings(meaning.plain_verb or type_.replace("_", " ")):
            types.setdefault(verb, set()).add(type_)
    return {verb: frozenset(types[verb]) for verb in sorted(types, key=len, reverse=True)}


def _wordings(verb: str) -> Iterator[str]:
    yield verb
    yield from OTHER_VERBS.get(verb, ())


# ── what a reason says of its source ──────────────────────────────────────────────────────────────

ORIGINS = {
    "popular": (
        r"\b(?:very |most )?popular\b(?: (?:with|among) (?:others|other people|people|many)\b)?"
        r"|(?:很|最)?受(?:其他|别)?人?(?:们)?欢迎"
    ),
    "rising": (
        r"\bliked (?:by )?more (?:people )?lately(?: than before)?\b"
        r"|最近(?:比以前|比之前)?(?:更受(?:人)?欢迎|喜欢的人更多)|近来更受欢迎"
    ),
    "unseen": (
        r"\b(?:not (?:yet )?seen by you(?: yet)?|you have(?:n't| not) seen (?:it|this)(?: yet)?)\b"
        r"|你(?:还没|尚未|还没有|没有?)(?:看|见|接触)过"
    ),
    "new": (
        r"\b(?:published|released|added) (?:lately|recently)\b"
        r"|(?:最近|新近|近期|刚刚?)(?:发布|上架|上市|出版)"
    ),
}
"""Phrases that say where an item came from, in both languages."""
ASKED = (
    r"\byou(?:'ve| have| just| had)?(?: just)? "
    r"(?:asked(?: for)?|wanted|wished for|were looking for|are looking for|look for)[:\s]+"
    r"(?P<what>(?:(?!,\s*(?:and |so )?(?:this|it|here|that|which|so|one)\b)[^:;.!?—])+)"
    r"|[你您](?:刚才|现在|今天)?(?:说过?)?(?:想要|想看|想找|想听|想读|想买|要求|提到|问到|要找|要|找)"
    r"(?:的)?(?:是|了|过)?[:： ]?(?P<han>[^,，。;；:：!！?？]+)"
)
"""What was asked for, according to a reason, as the group `what` or `han`."""
SHARED = re.compile(
    r"\b(?:both|the two|shares?|in common|have the same)\b"
    r"|两者|二者|两部|两本|两款|两个|共同|都有|都是|一样",
    re.IGNORECASE,
)
"""Where a reason begins to say what its item and the cited ones share."""

# ── how reasons word what somebody did ────────────────────────────────────────────────────────────

QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|《([^》]*)》|「([^」]*)」')
PLACES = 0xE000, 0xF8FF
"""Characters that stand for a quotation while the rest is read; no text has a use for them."""
Q = f"[{chr(PLACES[0])}-{chr(PLACES[1])}]"
NUMBER = r"\d+(?:\.\d+)?"
_UNITS = r"(?:[ -]?stars?| points?| out of \d+| ?/ ?\d+)?"
GIVEN = rf"(?:,? ?\(?(?:with |at |as |to )?({NUMBER}){_UNITS}\)?)?"
LIST = rf"{Q}{GIVEN}(?:(?:,? and|,? or|,) {Q}{GIVEN})*".replace(f"({NUMBER})", f"(?:{NUMBER})")
YOU = r"\byou(?:'ve|’ve| have| had)?(?: also| once| recently| just| already| both| lately)*"
WHO = (
    r"(?P<count>[\d,]+|\w+)?\s*\b(?:other )?(?:people|person|others|readers|viewers|listeners|"
    r"customers|buyers|users) who (?:also )?"
)
_HAN_NUMBER = (
    r"(?:另?有)?\s*(?P<count>\d+|[一二两三四五六七八九十]|很多|许多|不少|其他|别的)\s*[位个名]?"
)
_HAN_REST = r"[^人,，。;；:：]*"
HAN_COUNTS = (
    f"{_HAN_NUMBER}{_HAN_REST}{Q}{_HAN_REST}人",
    f"{_HAN_NUMBER}人{_HAN_REST}{Q}(?={_HAN_REST}也)",
)
HAN_STARS = r"\d+(?:\.\d+)?(?=\s*(?:分|颗?星))"
