// The page for whole videos: upload one or take a sample, follow its frames, run it again with another budget.

import { Refused, byId, complain, events, json, make } from "./api.js";
import { Actions, milliseconds, percent, set, showClass, showSaved } from "./answer.js";

const AGAIN_MS = 150; // after the slider's last move
const MIB = 2 ** 20;

let model, actions;
let video = null; // {id, name}
let running = null; // AbortController of what is under way
let timer = 0;

async function start() {
  model = await json("/v1/model");
  actions = new Actions(model);
  byId("model").textContent = model.name;
  byId("bounds").textContent =
    `At most ${Math.floor(model.limits.upload_bytes / MIB)} MiB. The server forgets it after ${minutes(model.limits.kept_s)}.`;
  actions.drawLegend(byId("legend"));
  for (const sample of model.samples) byId("samples").append(sampleButton(sample));
  byId("samples").hidden = model.samples.length === 0;
  prepareBudget();
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file can be chosen again
    if (file) upload(file);
  });
  prepareDrop();
  document.body.dataset.ready = "true";
}

function minutes(seconds) {
  return seconds >= 120 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds)} seconds`;
}

function sampleButton(sample) {
  const button = make("button", "", sample.name);
  button.type = "button";
  button.title = sample.about;
  button.addEventListener("click", () => {
    video = { id: sample.id, name: sample.name };
    choose(button);
    run();
  });
  return button;
}

function choose(button) {
  for (const each of byId("samples").querySelectorAll("button")) {
    each.setAttribute("aria-pressed", String(each === button));
  }
}

function prepareDrop() {
  const dragging = (event, on) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", on);
  };
  document.addEventListener("dragover", (event) => dragging(event, true));
  document.addEventListener("dragleave", (event) => dragging(event, false));
  document.addEventListener("drop", (event) => {
    dragging(event, false);
    const [file] = event.dataTransfer.files;
    if (file) upload(file);
  });
}

// --- the budget ---------------------------------------------------------------------------------

function prepareBudget() {
  byId("budget").hidden = model.budgets.length === 0;
  if (model.budgets.length === 0) return;
  const slider = byId("slider");
  slider.max = model.budgets.length - 1;
  const trained = model.budgets.findIndex((row) => row.as_trained);
  const place = (index) => {
    slider.value = index;
    sayBudget();
  };
  place(trained);
  slider.addEventListener("input", () => {
    sayBudget();
    clearTimeout(timer);
    timer = setTimeout(() => video && run(), AGAIN_MS);
  });
  byId("as-trained").addEventListener("click", () => {
    place(trained);
    if (video) run();
  });
}

function sayBudget() {
  const row = model.budgets[byId("slider").value];
  const text = `${row.cost.toPrecision(3)} of the cost at ${actions.highest.bits} bits`;
  const right = row.accuracy === null ? "" : `, ${percent(row.accuracy)} right in validation`;
  const trained = row.as_trained ? ", as trained" : "";
  const output = byId("budget-text");
  output.replaceChildren(make("b", "", row.cost.toPrecision(3)), text.slice(row.cost.toPrecision(3).length) + right + trained);
  byId("slider").setAttribute("aria-valuetext", text + right + trained);
}

function chosenBudget() {
  const row = model.budgets[byId("slider").value];
  return row === undefined || row.as_trained ? "" : `?budget=${row.cost}`;
}

// --- running ------------------------------------------------------------------------------------

async function upload(file) {
  choose(null);
  const control = anew();
  if (file.size > model.limits.upload_bytes) {
    const size = (file.size / MIB).toFixed(0);
    fail(new Refused(`${file.name} has ${size} MiB, more than the ${Math.floor(model.limits.upload_bytes / MIB)} MiB that this server takes: send a shorter or smaller video`, 413));
    return;
  }
  video = null;
  const form = new FormData();
  form.append("file", file);
  say(`Sending ${file.name} …`);
  try {
    const { id } = await json("/v1/videos", { method: "POST", body: form, signal: control.signal });
    video = { id, name: file.name };
    await run();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

function anew() {
  running?.abort();
  running = new AbortController();
  complain(null);
  return running;
}

function say(text) {
  byId("drop-title").textContent = text;
}

function fail(error) {
  video = error.status === 404 ? null : video;
  if (error.status === 422 || error.status === 413) byId("answer").hidden = true;
  restoreDrop();
  complain(error);
}

function restoreDrop() {
  const title = byId("drop-title");
  title.replaceChildren("Drop ", video ? "another video" : "a video", " here, or ", make("u", "", "choose a file"));
}

async function run() {
  const control = anew();
  const answer = byId("answer");
  document.body.classList.add("has-answer");
  say(`${video.name}: waiting for its turn …`);
  answer.setAttribute("aria-busy", "true");
  try {
    for await (const { kind, data } of events(`/v1/videos/${video.id}/events${chosenBudget()}`, { signal: control.signal })) {
      if (kind === "queued") say(data.before ? `${video.name}: ${data.before} before it …` : `${video.name}: decoding …`);
      else if (kind === "clip") begin(data);
      else if (kind === "frame") step(data);
      else if (kind === "result") finish(data);
      else if (kind === "failed") throw new Refused(`“${video.name}”: ${data.error}`, data.status);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(error);
  }
  answer.removeAttribute("aria-busy");
}

// --- drawing ------------------------------------------------------------------------------------

function begin(clip) {
  say(`${video.name}: recognizing …`);
  byId("answer").hidden = false;
  byId("timeline").replaceChildren(
    ...clip.pictures.map((address) => {
      const cell = make("li", "cell");
      const image = make("img");
      image.src = address;
      image.alt = "";
      cell.append(image, make("span", "action"), make("span", "chance"));
      return cell;
    }),
  );
}

function draw(index, name) {
  const look = actions.get(name);
  const cell = byId("timeline").children[index];
  cell.className = `cell done ${look.className}`;
  cell.children[1].textContent = look.short;
  cell.setAttribute("aria-label", `Frame ${index + 1}: ${look.text}`);
  return cell;
}

function step(data) {
  draw(data.index, data.action).children[2].style.setProperty("--share", data.score);
  show(data);
}

function show(data) {
  showClass(data);
  showSaved(data, actions);
  const { decode, policy, recognition } = data.ms;
  const parts = [`policy ${milliseconds(policy)}`, `recognition ${milliseconds(recognition)}`];
  if (decode) parts.push(`decoding before ${milliseconds(decode)}`);
  set("time", `${milliseconds(policy + recognition)} ms`, parts.join("\n"));
  set("cost", data.cost.toPrecision(3), `1 is ${actions.highest.bits} bits`);
}

function finish(data) {
  data.actions.forEach((name, index) => draw(index, name));
  show(data);
  restoreDrop();
  byId("said").textContent = `${data.name}, ${percent(data.score)}. ${percent(data.saved)} of the work saved.`;
  byId("note").textContent =
    "The line below a frame is the probability of the leading class by then." +
    (data.lost ? ` ${data.lost} frames were damaged; their neighbours were taken.` : "");
  document.body.dataset.runs = String(Number(document.body.dataset.runs ?? 0) + 1);
}

start().catch(complain);
