// The queue: one image at a time, answered by keys; the next shows once the answer is acknowledged.

import { insist, post, randomToken, Refused, wireCard } from "./api.js";
import { wireDrop } from "./drop.js";

const byId = (name) => document.getElementById(name);
const place = byId("card");
const waiting = byId("waiting");
const notice = byId("notice");
const form = byId("answers");
const kindField = byId("kind-field");
const kind = byId("kind");
const who = byId("who");
const undoButton = byId("undo");

let queue = null; // what the service said last
let busy = false;
// What this tab answered, so that undo takes back its own answers only, also after a reload.
const given = JSON.parse(sessionStorage.getItem("given") ?? "[]");

who.value = localStorage.getItem("who") ?? "";
who.addEventListener("change", () => localStorage.setItem("who", who.value.trim()));

const current = () => place.querySelector(".card");

function say(sentence) {
  notice.hidden = !sentence;
  notice.textContent = sentence;
}

function take(answer) {
  queue = answer;
  const { images = 0, normal = 0, minority = 0, unsure = 0 } = answer.counts;
  const word = answer.waiting === 1 ? "image waits" : "images wait";
  waiting.textContent =
    `${answer.waiting} ${word}. Answered: ${normal} normal, ${minority} minority, ${unsure} unsure, ` +
    `of ${images} scored.`;
  byId("kinds").replaceChildren(...answer.kinds.map((name) => new Option(name)));
}

async function show(digest, why = "") {
  if (!digest) {
    place.replaceChildren();
    const note = document.createElement("p");
    note.className = "empty";
    note.textContent = queue.counts.images ? "Nothing waits. All images are answered." : "No image yet. Drop some above.";
    place.append(note);
  } else {
    // Our own template, in which every text is escaped.
    place.innerHTML = await insist(`/images/${digest}/card`, {}, say);
    if (why) {
      const reason = document.createElement("p");
      reason.className = "why soft";
      reason.textContent = `Asked because: ${why}.`;
      current().querySelector(".facts").prepend(reason);
    }
    wireCard(place);
  }
  for (const button of form.querySelectorAll("[data-answer]")) button.disabled = !digest;
  undoButton.disabled = !given.length;
  const following = queue.next.find((each) => each.image !== digest);
  if (following) new Image().src = `/images/${following.image}/draw/picture`;
}

const showNext = () => show(queue.next[0]?.image, queue.next[0]?.why);

async function refresh() {
  take(await insist("/queue", {}, say));
  say("");
  if (!current() && !busy) await showNext();
}

/** Runs one thing at a time: a second key while an answer is on its way must not answer the next image. */
async function alone(work) {
  if (busy) return;
  busy = true;
  form.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    say(error.message);
    if (error instanceof Refused && error.status === 409) {
      const card = current();
      take(await insist("/queue", {}, say));
      if (card) await show(card.dataset.image);
    }
  } finally {
    busy = false;
    form.removeAttribute("aria-busy");
  }
}

const answer = (word, kindName = null) =>
  alone(async () => {
    const card = current();
    if (!card) return;
    const body = {
      image: card.dataset.image,
      answer: word,
      kind: kindName,
      who: who.value.trim(),
      token: randomToken(),
      seen: card.dataset.standing ? Number(card.dataset.standing) : null,
    };
    const done = await post("/answers", body, say);
    say("");
    given.push({ image: body.image, entry: done.entry.number });
    sessionStorage.setItem("given", JSON.stringify(given.slice(-200)));
    take(done);
    // A skipped image goes to the end; where it is alone there, it would show at once again.
    await showNext();
    place.focus({ preventScroll: true });
  });

const undo = () =>
  alone(async () => {
    const last = given.at(-1);
    if (!last) return;
    take(await post("/answers/undo", { ...last, who: who.value.trim(), token: randomToken() }, say));
    given.pop();
    sessionStorage.setItem("given", JSON.stringify(given));
    await show(last.image, "you took your answer back");
    say("");
  });

function askKind(open) {
  kindField.hidden = !open;
  if (open) {
    kind.value = "";
    kind.focus();
  } else place.focus({ preventScroll: true });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = kind.value.trim();
  if (!name || kindField.hidden) return;
  askKind(false);
  answer("minority", name);
});
byId("kind-cancel").addEventListener("click", () => askKind(false));
kind.addEventListener("keydown", (event) => event.key === "Escape" && askKind(false));

const perform = (word) => (word === "kind" ? current() && askKind(true) : answer(word));

for (const button of form.querySelectorAll("[data-answer]"))
  button.addEventListener("click", () => perform(button.dataset.answer));
undoButton.addEventListener("click", undo);

const words = { n: "normal", m: "minority", k: "kind", u: "unsure", s: "skip" };
addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement && !["range", "file"].includes(event.target.type);
  if (typing || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "z") {
    event.preventDefault();
    undo();
  } else if (key in words && !event.ctrlKey) {
    event.preventDefault();
    perform(words[key]);
  }
});

wireDrop(refresh, () => busy || showNext());
refresh();
// Another tab or a watched folder may have changed the queue.
setInterval(() => document.hidden || busy || refresh(), 10000);
addEventListener("visibilitychange", () => document.hidden || busy || refresh());
