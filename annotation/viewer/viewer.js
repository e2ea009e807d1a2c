// Applies the filters while they are typed or chosen. Without it the button does.
"use strict";
const form = document.querySelector("form.filters");
let timer = 0;
let running = new AbortController();

async function refresh() {
  running.abort();
  running = new AbortController();
  const filled = [...new FormData(form)].filter(([, value]) => value !== "");
  const address = "/?" + new URLSearchParams(filled);
  try {
    const answer = await fetch(address, { signal: running.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const results = page.querySelector("#results");
    if (!answer.ok || !results) throw new Error(String(answer.status));
    document.querySelector("#results").replaceWith(results);
    history.replaceState(null, "", address);
  } catch (error) {
    if (error.name !== "AbortError") form.submit();
  }
}

form.querySelector("button").hidden = true;
form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(refresh, 150);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  refresh();
});
