"""One sentence for the guide: what to do, by when, why you."""

from __future__ import annotations

from topics.assignments import Action
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
