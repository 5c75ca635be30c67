// Asks how far the import is until it is done, then shows what came of it.
const card = document.querySelector("[data-status]");
const bar = card.querySelector("progress");
const state = card.querySelector("[data-state]");
const note = card.querySelector("[data-note]");
const error = card.querySelector("[data-error]");
const attempt = card.querySelector("[data-attempt]");
const number = new Intl.NumberFormat("en-GB");
let wait = 300;

function show(status) {
  state.textContent = status.state;
  state.className = `badge ${status.state}`;
  attempt.textContent = status.attempt;
  error.hidden = !status.last_error;
  error.textContent = status.last_error ?? "";

  const progress = status.progress;
  if (!progress) return;

  if (progress.total) {
    bar.max = progress.total;
    bar.value = progress.current;
  }

  const total = progress.total ? ` of about ${number.format(progress.total)}` : "";
  note.textContent = `${progress.note ?? "working"}: ${number.format(progress.current)}${total} rows`;
}

function end() {
  bar.remove();
  note.textContent = "This import has ended; nothing was imported.";
}

async function ask() {
  try {
    const answer = await fetch(card.dataset.status, { headers: { accept: "application/json" } });
    if (answer.status === 401) return location.assign("/login");
    if (!answer.ok) throw new Error(answer.statusText);
    const status = await answer.json();
    if ("successful" in status) return location.reload();
    show(status);
    if (status.finished) return end();
    wait = Math.min(wait * 1.2, 2000);
  } catch {
    note.textContent = "The server does not answer; the import goes on, and this page keeps asking.";
    wait = 3000;
  }

  setTimeout(ask, wait);
}

ask();
