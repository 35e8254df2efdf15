// Applying answers, putting a file in use, and the way back.

import { post } from "./api.js";

const at = (id) => document.getElementById(id);
const notice = at("notice");
const who = at("who");
who.value = localStorage.getItem("who") ?? "";
who.addEventListener("input", () => localStorage.setItem("who", who.value));

const trouble = (sentence) => {
  notice.hidden = !sentence;
  notice.textContent = sentence;
};

const PAUSE_MS = 1500;

async function ask(path, body, button) {
  trouble("");
  button.disabled = true;
  try {
    await post(path, { who: who.value, ...body }, trouble);
    location.reload();
  } catch (error) {
    trouble(error.message);
    button.disabled = false;
  }
}

for (const button of document.querySelectorAll(".use")) {
  button.addEventListener("click", () => {
    button.textContent = "Loading the file…";
    ask("/versions/use", { sha256: button.dataset.sha256 }, button);
  });
}

at("back")?.addEventListener("click", (event) => {
  const button = event.currentTarget;
  ask("/versions/back", { leaving: button.dataset.leaving }, button);
});

at("apply")?.addEventListener("click", async (event) => {
  event.currentTarget.disabled = true;
  trouble("");
  try {
    await post("/apply", { who: who.value }, trouble);
    at("stop").hidden = false;
    at("job").hidden = false;
    at("job-said").textContent = "The job starts…";
    follow(true);
  } catch (error) {
    trouble(error.message);
    at("apply").disabled = false;
  }
});

at("stop")?.addEventListener("click", async (event) => {
  event.currentTarget.disabled = true;
  await post("/apply/stop", {}, trouble);
});

/** Shows how far the job is until it ends; then the page shows what it made. */
async function follow(starting) {
  const patience = Date.now() + 60_000; // a slow machine takes a while to load what trains
  const before = starting ? await state() : null;
  for (;;) {
    const found = await state();
    if (found) {
      at("job-log").textContent = found.log.join("\n");
      const begun = !before || found.updated !== before.updated || found.state === "running";
      if (found.state === "running") {
        at("job-said").textContent = `Job ${found.job}: ${found.step} (step ${found.done + 1} of ${found.of}).`;
        at("job-progress").value = found.done;
      } else if (begun || Date.now() > patience) {
        location.reload();
        return;
      }
    }
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
}

async function state() {
  try {
    const answer = await fetch("/apply", { credentials: "same-origin" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null; // the service starts again; the job does not mind
  }
}

if (at("job").dataset.state === "running") follow(false);
