// What both pages show of an answer: the class, the likeliest ones, what it cost, and what an action looks like.

import { byId, make } from "./api.js";

const STEPS = 5;

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

export const milliseconds = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toString());

export function set(id, text, small = "") {
  const place = byId(id);
  place.firstChild.data = text;
  place.querySelector("small").textContent = small;
}

// How the actions look and are called, by name.
export class Actions {
  constructor(model) {
    this.looks = new Map();
    const processed = model.actions.filter((action) => !action.skip);
    this.highest = processed.reduce((a, b) => (b.cost > a.cost ? b : a));
    for (const [place, action] of processed.entries()) {
      const size = action.size ? `, ${action.size} pixels` : "";
      const step = processed.length > STEPS ? Math.floor((place * STEPS) / processed.length) : place;
      this.looks.set(action.name, { className: `step-${step}`, text: `${action.bits} bits${size}`, short: action.name });
    }
    for (const action of model.actions.filter((each) => each.skip)) {
      const text = action.skip > 1 ? `${action.skip} skipped` : "skipped";
      this.looks.set(action.name, { className: "skipped", text, short: "skip" });
    }
  }

  get(name) {
    return this.looks.get(name);
  }

  drawLegend(list) {
    list.replaceChildren(
      ...[...this.looks.values()].map((look) => {
        const item = make("li");
        item.append(make("span", `swatch ${look.className}`), look.text);
        return item;
      }),
    );
  }
}

export function showClass(answer) {
  byId("label").textContent = answer.name;
  byId("score").textContent = percent(answer.score);
  const list = byId("bars");
  while (list.children.length > answer.top.length) list.lastChild.remove();
  answer.top.forEach((row, place) => {
    const item = list.children[place] ?? list.appendChild(bar());
    item.children[0].textContent = row.name;
    item.children[0].title = row.name;
    item.children[1].firstChild.style.setProperty("--share", row.score);
    item.children[2].textContent = percent(row.score);
  });
}

function bar() {
  const item = make("li");
  const track = make("span", "track");
  track.append(make("span", "fill"));
  track.firstChild.style.display = "block";
  item.append(make("span", "name"), track, make("span", "percent"));
  return item;
}

export function showSaved(answer, actions) {
  set("saved", percent(answer.saved), `of the operations that ${actions.highest.bits} bits take for every frame`);
}
