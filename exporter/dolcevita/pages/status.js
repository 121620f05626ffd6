// Keeps the page live without loading it anew, and filters at once. Without it, all of it works.
"use strict";

const EVERY = 15000;

// Filters act at once: their button is for those without a script.
document.documentElement.classList.add("live");

async function refresh(address) {
  let text;
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    text = await answer.text();
  } catch {
    return; // The exporter is being restarted: what is shown says of when it is.
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  const next = page.getElementById("live");
  const now = document.getElementById("live");
  if (!next) return;
  document.title = page.title;
  // The headline is a live region: touched only when it says something else.
  const said = now.querySelector(".headline");
  const says = next.querySelector(".headline");
  if (said.textContent === says.textContent) says.replaceWith(said);
  const held = now.contains(document.activeElement) ? document.activeElement : null;
  now.replaceChildren(...next.childNodes);
  if (held) {
    const same = [...now.querySelectorAll("a, button, input, select, [tabindex]")].find((e) => who(e) === who(held));
    same?.focus({ preventScroll: true });
  }
}

function who(element) {
  return [element.tagName, element.id, element.name, element.getAttribute("href")].join(" ");
}

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form) return;
  const address = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value) address.searchParams.set(name, value);
  history.replaceState(null, "", address);
  refresh(address);
});

setInterval(() => {
  if (!document.hidden) refresh(location.href);
}, EVERY);
