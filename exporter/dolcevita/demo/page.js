// Follows the evening: what arrives, the clock, the sky, and the two buttons.
"use strict";

const body = document.body;
const hours = document.querySelectorAll("#time, .phone .hour");
const day = document.getElementById("date");
const now = document.getElementById("now");
const steps = document.getElementById("steps");
const sky = {
  night: document.querySelector(".night"),
  stars: document.querySelector(".stars.near"),
  dawn: document.querySelector(".dawn"),
  moon: document.getElementById("moon"),
  sun: document.getElementById("sun"),
};
const HOUR = 3600;

let clock = { ...body.dataset };
let read = performance.now();

function story() {
  const passed = (performance.now() - read) / 1000;
  return Math.min(Number(clock.story) + Number(clock.speed) * passed, Number(clock.until));
}

// How much of the way from one hour to another is gone, 0 to 1.
function way(at, from, to) {
  return Math.min(1, Math.max(0, (at / HOUR - from) / (to - from)));
}

function draw() {
  const at = story();
  const minutes = Math.floor(at / 60);
  const text = [Math.floor(minutes / 60) % 24, minutes % 60].map((n) => String(n).padStart(2, "0")).join(":");
  for (const hour of hours) if (hour.textContent !== text) hour.textContent = text;
  const date = at >= 24 * HOUR ? day.dataset.second : day.dataset.first;
  if (day.textContent !== date) day.textContent = date;
  const dark = way(at, 20.25, 22.5) * (1 - way(at, 28.5, 30.5));
  sky.night.style.opacity = dark;
  sky.stars.style.opacity = dark;
  sky.dawn.style.opacity = way(at, 29, 32.5);
  const across = way(at, 21, 30.5);
  sky.moon.style.transform = `translate(${31 + across * 3}vw, ${62 - Math.sin(across * Math.PI) * 48}vh)`;
  sky.moon.style.opacity = Math.min(dark * 1.4, 1);
  const risen = way(at, 29.8, 33);
  sky.sun.style.transform = `translate(64vw, ${78 - risen * 66}vh)`;
  sky.sun.style.opacity = risen;
  body.classList.toggle("asleep", at > 25.5 * HOUR);
  body.classList.toggle("fete", at > 22.5 * HOUR && at < 25 * HOUR && Number(clock.speed) > 60);
  requestAnimationFrame(draw);
}

function narrate() {
  now.textContent = steps.lastElementChild?.querySelector(".text").textContent ?? "";
}

function happen(event) {
  clock = event.clock;
  read = performance.now();
  body.dataset.seen = event.seen;
  body.dataset.stage = event.stage;
  if (!event.phone) {
    steps.insertAdjacentHTML("beforeend", event.html);
    narrate();
    return;
  }
  const phone = document.getElementById(event.phone);
  phone.querySelector(".messages").insertAdjacentHTML("afterbegin", event.html);
  phone.dataset.lit = "";
  phone.classList.remove("buzz");
  phone.getBoundingClientRect();
  phone.classList.add("buzz");
}

for (const name of ["crash", "repair"]) {
  const button = document.getElementById(name);
  button?.addEventListener("click", async () => {
    button.disabled = true;
    const answer = await fetch(`/${name}`, { method: "POST" }).catch(() => undefined);
    button.disabled = Boolean(answer?.ok);
  });
}

narrate();
draw();
const address = new URL("/events", location.href);
address.search = location.search;
address.searchParams.set("seen", body.dataset.seen);
const following = new EventSource(address);
following.onmessage = (message) => {
  happen(JSON.parse(message.data));
  if (["over", "failed"].includes(body.dataset.stage)) following.close();
};
following.onopen = () => {
  body.classList.remove("gone");
  narrate();
};
following.onerror = () => {
  body.classList.add("gone");
  now.textContent = now.dataset.gone;
};
