"use strict";
// Conversations arrive as JSON and become text nodes: nothing in them is ever read as HTML.
const conversations = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list");
const search = document.getElementById("search");
const count = document.getElementById("count");
const told = document.getElementById("told");
const buttons = [...document.querySelectorAll("button[data-tag]")];
let tag = "";

const made = (name, text, kind) => {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const number = (value) => value.toLocaleString("en-US");

function fill(text, { pieces, trained, ids }) {
  // trained: lengths of runs of pieces, the first of them not trained; ids: of each piece, or the number of tokens that it stands for
  const ends = [];
  trained.reduce((sum, length, run) => (ends[run] = sum + length), 0);
  const starts = [];
  let run = 0;
  let at = 0;
  pieces.forEach((piece, index) => {
    while (index >= ends[run]) run += 1;
    starts[index] = at;
    at += ids[index].length ?? ids[index];
    const token = made("span", piece, run % 2 ? "trained" : "prompt");
    token.dataset.index = index;
    text.append(token);
  });
  text.told = (index) => {
    const last = starts[index] + (ids[index].length ?? ids[index]) - 1;
    const from = number(starts[index]);
    const places = last > starts[index] ? `positions ${from} to ${number(last)}` : `position ${from}`;
    const known = Array.isArray(ids[index]) ? ` · id ${ids[index].join(" ")}` : "";
    return `${places}${known} · ${text.children[index].classList.contains("trained") ? "trained" : "not trained"}`;
  };
}

function point(text, index) {
  for (const before of text.querySelectorAll(".here")) before.classList.remove("here");
  const token = text.children[index];
  if (!token) return;
  token.classList.add("here");
  token.scrollIntoView({ block: "nearest" });
  text.at = index;
  told.textContent = text.told(index);
}

function shown(conversation) {
  const details = made("details", "");
  const { place, row, tokens, share, tags } = conversation;
  const summary = made("summary", `${place} · row ${number(row)} · ${tokens} · ${share} trained`);
  for (const each of tags) summary.append(made("span", each, "tag"));
  const text = made("div", "", "text");
  text.tabIndex = 0;
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", `Tokens of ${place}; the arrow keys move from one to the next`);
  text.dir = "auto";
  details.append(summary, text);
  const filled = () => text.hasChildNodes() || fill(text, conversation);
  details.addEventListener("toggle", filled);
  text.addEventListener("focus", filled);
  text.addEventListener("mouseover", (event) => {
    if (event.target.dataset.index) told.textContent = text.told(Number(event.target.dataset.index));
  });
  text.addEventListener("mouseleave", () => (told.textContent = ""));
  text.addEventListener("blur", () => (told.textContent = ""));
  text.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point(text, Math.min(Math.max((text.at ?? -1) + step, 0), text.children.length - 1));
  });
  conversation.text = [place, ...conversation.pieces].join("").toLowerCase();
  return details;
}

function filter() {
  const wanted = search.value.toLowerCase();
  let found = 0;
  conversations.forEach((conversation, index) => {
    const keep = (!tag || conversation.tags.includes(tag)) && conversation.text.includes(wanted);
    list.children[index].classList.toggle("hidden", !keep);
    found += keep;
  });
  count.textContent = `${found} of ${conversations.length} shown`;
}

list.append(...conversations.map(shown));
search.addEventListener("input", filter);
for (const button of buttons) {
  button.addEventListener("click", () => {
    tag = button.dataset.tag;
    for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
    filter();
  });
}
document.getElementById("edges").addEventListener("click", ({ currentTarget }) => {
  currentTarget.setAttribute("aria-pressed", String(list.classList.toggle("edges")));
});
document.getElementById("open").addEventListener("click", ({ currentTarget }) => {
  const open = currentTarget.getAttribute("aria-pressed") !== "true";
  currentTarget.setAttribute("aria-pressed", String(open));
  for (const each of list.children) each.open = open && !each.classList.contains("hidden");
});
filter();
