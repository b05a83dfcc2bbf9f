"""Answers in which a model declines or speaks of itself as a model, told apart from people who say no.

The beginning decides, since a refusal begins with itself: "I can't believe it", "I'm sorry, but I can't come tonight" and
"I can't create art any more" stay; "I cannot create explicit content" and "I'm sorry, but as an AI…" go.
"""

from __future__ import annotations

import re

_SORRY = r"(?:(?:i['’]m|i am|we['’]re)?\s*(?:so |very |really |truly )?sorry|i apologi[sz]e|(?:my )?apologies|unfortunately)\b"
_NOT = (
    r"(?:i|we)\s*(?:can(?:no|['’])t|can not|won['’]t|will not|do(?:n['’]t| not) feel comfortable|"
    r"(?:am|['’]m|are|['’]re) (?:not able to|unable to|not allowed to|not comfortable(?: with)?))"
)
_MAKE = r"(?:generat|creat|produc|provid|writ|shar|engag|participat|discuss)(?:e|ing)?(?: in| with)?"
_MADE = (
    r"(?:explicit|harmful|illegal|violent|sexual|inappropriate|offensive|content\b|material\b|text that|a response|an answer|an argument|"
    r"a story that|information (?:on|about|that)|instructions|guidance|advice on|assistance|medical|legal)"
)
_DECLINED = (
    rf"(?:{_MAKE} (?:you with )?(?:any |such |a |an |this kind of )?{_MADE}"
    r"|fulfil+(?:ing)?\b|comply(?:ing)? with|assist(?:ing)? (?:you )?(?:with|in)\b"
    r"|help(?:ing)? (?:you )?with (?:this|that|your request|requests)\b|role-?play)"
)
_MODEL = r"(?:ai|a\.i\.|artificial intelligence|(?:large |ai )?language model|virtual assistant|chatbot)\b"
_FORMS = (
    rf"(?:{_SORRY}[\s,.;:!—-]*)?(?:(?:but|that)\s+)*{_NOT}\s+(?:\w+ly )?{_DECLINED}",
    rf"(?:{_SORRY}[\s,.;:!—-]*)?(?:(?:but|that)\s+)*{_NOT}\b.*\banything else (?:that )?(?:i|we) can (?:help|assist)",
    rf".{{0,60}}\b(?:as an?|i['’]?\s?a?m (?:just |only )?an?) {_MODEL}",
    r"\[?refused\]?\W*$",
)
_FORM = re.compile("|".join(rf"\W*(?:{form})" for form in _FORMS), re.IGNORECASE | re.DOTALL)


def is_refusal(text: str) -> bool:
    """Whether a text is a model's refusal, by how it begins."""
    return bool(_FORM.match(text.strip()[:300]))
