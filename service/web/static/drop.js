// Dropped and chosen files: sent in small portions, each outcome shown as it comes.

import { insist, Refused } from "./api.js";

const AT_ONCE = 4;
const MOST_BYTES = 24 * 2 ** 20;

const progress = document.getElementById("progress");
const outcomes = document.getElementById("outcomes");
const list = document.getElementById("outcome-list");

/** All files below what was dropped, folders too. */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((done, fail) => entry.file(done, fail)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, fail) => reader.readEntries(done, fail));
        if (!some.length) break;
        for (const each of some) await walk(each);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

function show(image) {
  const line = document.createElement("li");
  if (image.status === "ok") {
    const link = document.createElement("a");
    link.href = `/images/${image.image}`;
    link.textContent = image.name;
    const p = image.probability === null ? "" : ` ${image.probability.toFixed(3)}`;
    line.append(link, ` ${image.triage ?? ""} ${image.decision}${p}`);
  } else {
    line.className = "failed";
    line.textContent = `${image.name}: ${image.error}`;
  }
  list.prepend(line);
}

function portions(files) {
  const found = [];
  let bytes = 0;
  for (const file of files) {
    const last = found.at(-1);
    if (last && last.length < AT_ONCE && bytes + file.size <= MOST_BYTES) last.push(file);
    else {
      found.push([file]);
      bytes = 0;
    }
    bytes += file.size;
  }
  return found;
}

/** Sends files one portion after another and calls back after each. */
export async function send(files, onScored) {
  const counts = { ok: 0, failed: 0 };
  outcomes.hidden = false;
  for (const portion of portions(files)) {
    const form = new FormData();
    form.append("from", "page");
    for (const file of portion) form.append("files", file, file.name);
    const trouble = (sentence) => (progress.textContent = sentence);
    try {
      const { images } = await insist("/score", { method: "POST", body: form }, trouble);
      for (const image of images) {
        counts[image.status] += 1;
        show(image);
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      for (const file of portion) show({ status: "failed", name: file.name, error: error.message });
      counts.failed += portion.length;
    }
    const failed = counts.failed ? `, ${counts.failed} could not be used` : "";
    progress.textContent = `${counts.ok} of ${files.length} images scored${failed}.`;
    await onScored();
  }
}

export function wireDrop(onScored, onDone) {
  const zone = document.getElementById("drop");
  const take = async (files) => {
    if (!files.length) return;
    await send(files, onScored);
    await onDone();
  };
  for (const name of ["files", "folder"]) {
    const input = document.getElementById(name);
    input.addEventListener("change", async () => {
      const files = [...input.files];
      input.value = "";
      await take(files);
    });
  }
  // A file dropped beside the zone would otherwise replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? zone.classList.remove("over"));
  addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    await take(await filesOf(event.dataTransfer));
  });
}
