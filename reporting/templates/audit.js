"use strict";
// Answers live in the page until they are saved; the list below it always shows them all.
const cards = [...document.querySelectorAll(".card")];
const list = document.getElementById("answers");
const count = document.getElementById("count");
const link = document.getElementById("download");
let saved = true;

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const classOf = (card) => card.querySelector("select").value;

function rows() {
  const answered = cards.filter((card) => card.dataset.answer);
  return answered.map((card) => {
    const { sha256, path, label, answer } = card.dataset;
    return [sha256, path, answer === "wrong" ? classOf(card) : label, answer];
  });
}

function show() {
  const answered = rows();
  const lines = [["sha256", "path", "label", "answer"], ...answered].map((row) => row.map(cell).join(","));
  list.value = lines.join("\n") + "\n";
  count.textContent = `${answered.length} of ${cards.length} answered`;
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([list.value], { type: "text/csv" }));
}

function answer(card, word) {
  // The same key again takes the answer back.
  if (card.dataset.answer === word) delete card.dataset.answer;
  else card.dataset.answer = word;
  for (const button of card.querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.value === card.dataset.answer));
  saved = false;
  show();
}

function go(card, step) {
  const next = cards[cards.indexOf(card) + step];
  if (next) next.focus();
}

for (const card of cards) {
  for (const button of card.querySelectorAll("button"))
    button.addEventListener("click", () => answer(card, button.value));
  card.querySelector("select").addEventListener("change", () => {
    if (card.dataset.answer !== "wrong") answer(card, "wrong");
    else show();
  });
}

const words = { w: "wrong", r: "right", u: "unsure" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLSelectElement) return;
  const card = event.target instanceof Element ? event.target.closest(".card") : null;
  const key = event.key.toLowerCase();
  if (!card) {
    if (key in words || key === "n") cards[0]?.focus();
    return;
  }
  if (key in words) {
    answer(card, words[key]);
    if (card.dataset.answer) go(card, 1);
  } else if (key === "n" || key === "arrowright") go(card, 1);
  else if (key === "p" || key === "arrowleft") go(card, -1);
  else if (/^[1-9]$/.test(key)) {
    const select = card.querySelector("select");
    if (!select.options[key - 1]) return;
    select.selectedIndex = key - 1;
    if (card.dataset.answer !== "wrong") answer(card, "wrong");
    else show();
  } else return;
  event.preventDefault();
});

link.addEventListener("click", () => { saved = true; });
document.getElementById("copy").addEventListener("click", () => {
  list.select();
  // Pages opened from a file have no other clipboard in every browser.
  saved = document.execCommand("copy");
  count.textContent = saved ? "Copied" : "Copy the selected text";
});
addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
show();
