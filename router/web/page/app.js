"use strict";
// A guide's page: cards come by the stream, answers go by POST. All text is set as text, never as markup.

const WORDS = {
  zh: {
    title: "待办线索", other: "English", on: "已连接", off: "重新连接中…", left: "剩余", late: "已超时",
    emptyTitle: "暂无待办", emptyText: "有新线索时会立刻出现在这里。",
    signedOut: "登录已失效，请从企业微信重新打开。", elsewhere: "已在其他窗口打开，本窗口停止更新。",
    sending: "正在提交…", retrying: "尚未确认，正在重试…", moved: "这条线索的状态已变化。",
    paused: "连续多次未应答，暂停派发新线索至", notYours: "这条线索已不在您名下。", failed: "提交失败，请稍后再试。", why: "为什么是您：", member: "会员", store: "门店", lead: "编号",
    kinds: { lead: "线索", reservation: "预约", list: "名单" },
    states: { offered: "新", delivered: "新", seen: "新", accepted: "已接手", contacted: "已联系", visited: "已到店" },
    actions: { accepted: "接手", declined: "婉拒", contacted: "已联系", visited: "已到店", won: "成交", lost: "未成交" },
    pool: "门店待领取", take: "领取", tiers: { vip: "VIP", repeat: "老客", new: "新客", prospect: "潜客" },
    waits: (minutes) => `已等 ${minutes} 分钟`, taken: "已被领取，或您手上已满。",
  },
  en: {
    title: "Your leads", other: "中文", on: "Connected", off: "Reconnecting…", left: "left", late: "Overdue",
    emptyTitle: "Nothing to do", emptyText: "A new lead will appear here at once.",
    signedOut: "You are signed out. Open the page from WeCom again.",
    elsewhere: "Opened in another window; this one has stopped.",
    sending: "Sending…", retrying: "Not confirmed yet, trying again…", moved: "This lead has moved on.",
    paused: "Several offers ran out unanswered. No new leads until", notYours: "This lead is not yours any more.", failed: "That did not work. Try again later.",
    why: "Why you: ", member: "Member", store: "Store", lead: "No.",
    kinds: { lead: "Lead", reservation: "Reservation", list: "List" },
    states: { offered: "New", delivered: "New", seen: "New", accepted: "Accepted", contacted: "Contacted", visited: "Visited" },
    actions: { accepted: "Accept", declined: "Decline", contacted: "Contacted", visited: "Visited", won: "Won", lost: "Lost" },
    pool: "Waiting at your store", take: "Take", tiers: { vip: "VIP", repeat: "Repeat", new: "New", prospect: "Prospect" },
    waits: (minutes) => `waiting ${minutes} min`, taken: "Somebody was quicker, or your hands are full.",
  },
};
// What a guide may say next; the first one is the way forward.
const SAY = {
  offered: ["accepted", "declined"], delivered: ["accepted", "declined"], seen: ["accepted", "declined"],
  accepted: ["contacted"], contacted: ["visited"], visited: ["won", "lost"],
};
const POOL_MS = 20000; // how often the pool is looked at: cards come by themselves, the pool is asked for
const RETRY_MS = 1000, RETRY_MS_MAX = 30000, SAY_TRIES_MAX = 8, SETTLED_MS = 5000;

const find = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
// Between half and all of a doubling wait: a thousand phones must not come back in the same second.
const jittered = (tries) => Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** tries) * (0.5 + Math.random() / 2);
const cards = new Map(); // kind|lead -> { card, element, said, busy }
let pool = [], poolSaid = "", taking = false, poolShown = "";
let language = localStorage.getItem("language") || document.documentElement.lang;
let pausedUntil = Number(sessionStorage.getItem("pausedUntil")); // a page that is loaded again still says why
let source = null, after = "", tries = 0, stopped = "", attempt = 0;

const words = () => WORDS[language] || WORDS.zh;
const keyOf = (card) => `${card.kind}|${card.lead_id}`;

function send(path, body) {
  return fetch(path, {
    method: "POST", credentials: "same-origin", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-Lead-Router": "1" },
  });
}

async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname);
    await send("/v1/session", { token }).catch(() => null);
  }
  showWords();
  setInterval(showTimes, 1000);
  setInterval(lookAtPool, POOL_MS);
  connect();
}

async function lookAtPool() {
  if (stopped || document.hidden) return;
  const answer = await fetch("/v1/pool", { credentials: "same-origin" }).catch(() => null);
  if (answer && answer.ok) pool = (await answer.json()).leads;
  showPool();
}

async function takeFromPool(lead) {
  taking = true;
  poolSaid = "sending";
  showPool();
  const status = await post({ response_id: newId(), lead_id: lead.lead_id, kind: lead.kind, action: "grabbed" }, () => {
    poolSaid = "retrying";
    showPool();
  });
  if (status === 401) return stop("signedOut");
  taking = false;
  poolSaid = status === 200 ? "" : [403, 404, 409].includes(status) ? "taken" : "failed";
  lookAtPool(); // the card itself comes by the stream
}

// The same id until there is an answer: whatever was lost on the way, it counts once. 0: there was none.
async function post(body, again) {
  for (let turn = 0; turn < SAY_TRIES_MAX; turn++) {
    const answer = await send("/v1/responses", body).catch(() => null);
    const status = answer ? answer.status : 0;
    if (status && ![202, 429].includes(status) && status < 500) return status;
    again();
    await wait(jittered(turn));
  }
  return 0;
}

async function connect() {
  const mine = ++attempt; // whoever connects later makes this one stop
  if (source) source.close();
  const session = await fetch("/v1/session", { credentials: "same-origin" }).catch(() => null);
  if (mine !== attempt) return;
  if (session && session.status === 401) return stop("signedOut");
  if (!session || !session.ok) return reconnect();
  const query = new URLSearchParams({ lang: language });
  if (after) query.set("after", after);
  source = new EventSource(`/v1/inbox/stream?${query}`);
  const on = (name, act) => source.addEventListener(name, (event) => {
    if (mine !== attempt) return;
    tries = 0;
    after = event.lastEventId || after;
    act(JSON.parse(event.data));
    show();
  });
  source.onopen = () => { showLink(true); lookAtPool(); };
  source.onerror = () => { if (mine === attempt) reconnect(); };
  on("reload", () => { cards.clear(); });
  on("snapshot", (data) => {
    const held = new Map(data.cards.map((card) => [keyOf(card), card]));
    for (const key of [...cards.keys()]) if (!held.has(key)) cards.delete(key);
    for (const card of held.values()) take(card);
  });
  on("card", take);
  on("gone", (over) => {
    cards.delete(keyOf(over));
    if (over.paused_until_ms) sessionStorage.setItem("pausedUntil", pausedUntil = over.paused_until_ms);
  });
  on("bye", (end) => {
    if (end.reason === "elsewhere") stop("elsewhere");
    else reconnect();
  });
}

async function reconnect() {
  const mine = ++attempt;
  if (source) source.close();
  showLink(false);
  await wait(jittered(tries++));
  if (mine === attempt) connect();
}

function stop(why) {
  attempt++;
  if (source) source.close();
  stopped = why;
  if (why === "signedOut") cards.clear();
  show();
  showLink(false);
}

function take(card) {
  const held = cards.get(keyOf(card));
  if (held && held.card.seq > card.seq) return;
  const moved = !held || held.card.seq < card.seq;
  if (moved) cards.set(keyOf(card), { element: held ? held.element : null, card, busy: false, said: "" });
  else held.card = card;
}

async function say(held, action) {
  const { kind, lead_id, attempt: offer, seq } = held.card;
  held.busy = true;
  held.said = "sending";
  show();
  const key = keyOf(held.card);
  const status = await post({ response_id: newId(), lead_id, kind, action, attempt: offer }, () => settle(key, seq, "retrying", true));
  if (status === 401) return stop("signedOut");
  if (status === 200) { // the card itself follows by the stream, in a moment
    settle(key, seq, "", true);
    return void setTimeout(() => settle(key, seq, ""), SETTLED_MS);
  }
  settle(key, seq, { 409: "moved", 403: "notYours", 404: "notYours" }[status] ?? "failed");
}

function settle(key, seq, said, busy = false) {
  const held = cards.get(key);
  if (!held || held.card.seq !== seq) return; // it has moved on meanwhile
  held.busy = busy;
  held.said = said;
  show();
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function show() {
  const list = find("cards");
  const held = [...cards.values()].sort((a, b) => (a.card.respond_by_ms || Infinity) - (b.card.respond_by_ms || Infinity)
    || a.card.at_ms - b.card.at_ms);
  for (const each of held) {
    if (!each.element) each.element = find("card").content.cloneNode(true).firstElementChild;
    fill(each);
  }
  const wanted = held.map((each) => each.element);
  if (wanted.length !== list.children.length || wanted.some((element, row) => list.children[row] !== element)) {
    list.replaceChildren(...wanted);
  }
  find("empty").hidden = held.length > 0 || stopped !== "" || !after;
  find("notice").hidden = stopped === "";
  find("notice").textContent = stopped && words()[stopped];
  showPool();
  document.title = held.length ? `(${held.length}) ${words().title}` : words().title;
  showTimes();
}

function fill(held) {
  const { card, element } = held, at = (name) => element.querySelector(name);
  // an offer's sentence ends in the reason: its code says so
  const cut = card.action.code.includes(".") ? Math.max(...["：", ": "].map((mark) => card.action.text.lastIndexOf(mark))) : -1;
  at(".state").textContent = `${words().kinds[card.kind] || card.kind} · ${words().states[card.state] || card.state}`;
  at(".what").textContent = cut > 0 ? card.action.text.slice(0, cut) : card.action.text;
  at(".why").textContent = cut > 0 ? words().why + card.action.text.slice(cut + 1).trim() : "";
  at(".ids").textContent = [
    `${words().member} ${card.member_id}`, card.store_id && `${words().store} ${card.store_id}`, `${words().lead} ${card.lead_id}`,
  ].filter(Boolean).join(" · ");
  at(".said").hidden = !held.said;
  at(".said").textContent = held.said && words()[held.said];
  const actions = SAY[card.state] || [], buttons = at(".say");
  if ([...buttons.children].map((button) => button.dataset.action).join() !== actions.join()) {
    buttons.replaceChildren(...actions.map((action, row) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.action = action;
      if (row === 0) button.className = "go";
      button.addEventListener("click", () => say(cards.get(keyOf(card)), action));
      return button;
    }));
  }
  for (const button of buttons.children) {
    button.textContent = words().actions[button.dataset.action];
    button.disabled = held.busy;
  }
}

function showPool() {
  find("pool").hidden = stopped !== "" || (!pool.length && !poolSaid);
  find("pool").querySelector("h2").textContent = words().pool;
  find("poolSaid").hidden = !poolSaid;
  find("poolSaid").textContent = poolSaid && words()[poolSaid];
  const texts = pool.map((lead) => [
    words().tiers[lead.tier], words().kinds[lead.kind] || lead.kind, lead.lead_id,
    words().waits(Math.max(0, Math.floor((Date.now() - lead.arrival_ms) / 60000))),
  ].join(" · "));
  const shown = JSON.stringify([texts, taking]);
  if (shown === poolShown) return; // a card has come: whoever is about to press a button here keeps it
  poolShown = shown;
  find("waiting").replaceChildren(...pool.map((lead, at) => {
    const row = find("row").content.cloneNode(true).firstElementChild, button = row.querySelector("button");
    row.querySelector("span").textContent = texts[at];
    button.textContent = words().take;
    button.disabled = taking;
    button.addEventListener("click", () => takeFromPool(lead));
    return row;
  }));
}

function showTimes() {
  find("paused").hidden = pausedUntil <= Date.now();
  find("paused").textContent = `${words().paused} ${new Date(pausedUntil).toLocaleTimeString(language)}`;
  for (const { card, element } of cards.values()) {
    if (!element) continue;
    const place = element.querySelector(".left");
    const left_s = Math.floor((card.respond_by_ms - Date.now()) / 1000);
    place.hidden = !card.respond_by_ms;
    place.classList.toggle("late", left_s < 60);
    place.textContent = left_s < 0 ? words().late : spelled(left_s);
  }
}

function spelled(left_s) {
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(left_s / 3600), clock = `${two(Math.floor(left_s / 60) % 60)}:${two(left_s % 60)}`;
  const text = hours ? `${hours}:${clock}` : clock;
  return language === "en" ? `${text} ${words().left}` : `${words().left} ${text}`;
}

function showLink(on) {
  find("link").className = on ? "on" : "off";
  find("link").textContent = on ? words().on : stopped ? "" : words().off;
}

function showWords() {
  document.documentElement.lang = language;
  find("title").textContent = words().title;
  find("language").textContent = words().other;
  find("empty").querySelector("h2").textContent = words().emptyTitle;
  find("empty").querySelector("p").textContent = words().emptyText;
  show();
}

// A new link opened in the same tab changes nothing but what stands behind the #.
addEventListener("hashchange", () => { if (location.hash) location.reload(); });
find("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem("language", language);
  after = ""; // all cards come again, in the other language
  showWords();
  if (!stopped) connect();
});
start();
