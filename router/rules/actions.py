"""One sentence for the guide: what to do, by when, why you."""

from __future__ import annotations

from topics.assignments import Action, State
from topics.leads import Lead
from topics.reservations import Reservation

#: Codes for machines and for translations; the sentence is what a guide reads.
TEXTS = {
    "contact": "请在{minutes}分钟内联系这位会员{needs}：{why}。",
    "receive": "请在{minutes}分钟内确认接待这次预约{needs}：{why}。",
}
WHY = {
    "owner": "您是TA的专属导购",
    "store": "TA选择了您的门店",
    "near": "您就在附近且有空档",
}


def action(event: Lead | Reservation, store_id: str, within_ms: int, rung: str) -> Action:
    """The next action for whoever gets the lead; it names no other guide and no personal data."""
    code = "receive" if isinstance(event, Reservation) else "contact"
    why = "owner" if rung == "owner" else "store" if event.store_id == store_id else "near"
    needs = f"（需要：{'、'.join(event.needs)}）" if event.needs else ""
    text = TEXTS[code].format(minutes=max(1, within_ms // 60_000), needs=needs[:80], why=WHY[why])
    return Action(code=f"{code}.{why}", text=text)


#: The next step in each state in which a guide holds the lead, where the record itself names none.
NEXT: dict[State, Action] = {
    "offered": Action(code="answer", text="请确认是否接手。"),
    "delivered": Action(code="answer", text="请确认是否接手。"),
    "seen": Action(code="answer", text="请确认是否接手。"),
    "accepted": Action(code="reach", text="请在时限内联系这位会员，联系后点“已联系”。"),
    "contacted": Action(code="invite", text="请邀请TA到店；到店后点“已到店”。"),
    "visited": Action(code="conclude", text="请记录结果：成交或未成交。"),
}
#: The same in English, by code.
ENGLISH = {
    "contact.owner": "Contact this member in time: you are their own guide.",
    "contact.store": "Contact this member in time: they chose your store.",
    "contact.near": "Contact this member in time: you are nearby and free.",
    "receive.owner": "Confirm this reservation in time: you are their own guide.",
    "receive.store": "Confirm this reservation in time: they chose your store.",
    "receive.near": "Confirm this reservation in time: you are nearby and free.",
    "answer": "Say whether you take this.",
    "reach": "Contact this member in time, then tap “Contacted”.",
    "invite": "Invite them to the store; tap “Visited” when they came.",
    "conclude": "Note the result: won or lost.",
}


def next_step(state: State) -> Action:
    """What a guide does next about a lead they hold in that state.

    Raises:
        KeyError: nobody holds a lead in that state.

    """
    return NEXT[state]


def in_english(step: Action) -> Action:
    """The same step with its sentence in English; as it is where there is none."""
    return Action(code=step.code, text=ENGLISH.get(step.code, step.text))
