// Requests to the service, sent again until they are answered, and what cards on every page have in common.

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export const randomToken = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.error ?? `The service answered ${status}.`);
    this.status = status;
    this.answer = answer;
  }
}

/**
 * Sends until the service answers: over a restart, and as often as it asks to come again.
 * What is sent must count once however often it arrives.
 */
export async function insist(path, options, onTrouble = () => {}) {
  for (let pause = 500; ; pause = Math.min(2 * pause, 5000)) {
    let response = null;
    try {
      response = await fetch(path, { credentials: "same-origin", ...options });
    } catch {
      onTrouble("The service does not answer. Trying again…");
    }
    if (response && response.status !== 503 && response.status !== 429) {
      const isJson = (response.headers.get("content-type") ?? "").includes("json");
      const answer = isJson ? await response.json() : await response.text();
      if (!response.ok) throw new Refused(response.status, isJson ? answer : {});
      return answer;
    }
    if (response) onTrouble("The service has much to do. Trying again…");
    const asked = Number(response?.headers.get("retry-after") ?? 0) * 1000;
    await sleep(Math.max(pause, asked));
  }
}

export const post = (path, body, onTrouble) =>
  insist(
    path,
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) },
    onTrouble,
  );

const remembered = () => localStorage.getItem("evidence") ?? "60";

/** Makes the slider and the button of a card work. */
export function wireCard(root) {
  const card = root.querySelector(".card");
  if (!card) return;
  const slider = card.querySelector(".opacity");
  const heat = card.querySelector(".heat");
  if (slider && heat) {
    const show = () => {
      heat.style.opacity = slider.value / 100;
      localStorage.setItem("evidence", slider.value);
    };
    slider.value = remembered();
    slider.addEventListener("input", show);
    show();
  }
  card.querySelector(".explain")?.addEventListener("click", () => explain(card));
}

async function explain(card) {
  const place = card.querySelector(".explained");
  const path = `/images/${card.dataset.image}/explanation`;
  card.querySelector(".explain").disabled = true;
  try {
    for (;;) {
      const found = await post(path, {});
      place.textContent = found.state === "waiting" ? "The run is asked; the first time takes a while…" : "";
      if (found.state !== "waiting") {
        if (found.state === "done") {
          const picture = new Image();
          picture.src = path;
          picture.alt = "Maps of the members, and deciding patches beside the nearest normal ones";
          place.append(picture);
        }
        for (const sentence of found.sentences) {
          const line = document.createElement("p");
          line.textContent = sentence;
          place.append(line);
        }
        return;
      }
      await sleep(1000);
      if (!card.isConnected) return;
    }
  } catch (error) {
    place.textContent = error.message;
  }
}
