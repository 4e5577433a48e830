// The page for what goes on: the device's camera, whose frames are sent, or a stream that the server reads.

import { Refused, byId, complain, events, json, make } from "./api.js";
import { Actions, milliseconds, percent, set, showClass, showSaved } from "./answer.js";

const SHOWN = 120; // newest frames
const FPS = 10; // of a camera, at most
const SAID_MS = 4000; // between two announcements

let model, actions;
let running = null; // AbortController of what is under way
let again = null; // starts it over
let ended = Promise.resolve(); // when what was before has left its place
let before = null; // the last answer
let said = 0;
let opened = null; // the camera's id and size, on the server

async function start() {
  model = await json("/v1/model");
  actions = new Actions(model);
  byId("model").textContent = model.name;
  actions.drawLegend(byId("legend"));
  if (model.limits.streams === "off") {
    byId("source").disabled = byId("follow").disabled = true;
    byId("stream-note").textContent = "This server reads no streams; it is started with --streams public or any for that.";
  } else if (model.limits.streams === "public") {
    byId("stream-note").textContent = "http(s) of public hosts, also HLS. The server reads it.";
  }
  if (model.limits.live === 0) {
    byId("camera").disabled = true;
    complain(new Refused("This server takes no live video", 0));
  }
  byId("camera").addEventListener("click", () => begin(camera));
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(stream);
  });
  byId("stop").addEventListener("click", stop);
  byId("restart").addEventListener("click", () => begin(again));
  window.addEventListener("pagehide", () => {
    close();
    stop();
  });
  document.body.dataset.ready = "true";
}

function stop() {
  running?.abort();
  running = null;
  byId("stop").disabled = true;
}

function begin(source) {
  stop();
  const control = new AbortController();
  running = control;
  again = source;
  ended = ended.then(() => follow(source, control));
}

async function follow(source, control) {
  if (control.signal.aborted) return;
  before = null;
  complain(null);
  byId("strip").replaceChildren();
  document.body.dataset.starts = String(Number(document.body.dataset.starts ?? 0) + 1);
  try {
    await source(control.signal);
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
  }
  if (running === control) stop();
}

// --- the camera ---------------------------------------------------------------------------------

async function camera(signal) {
  if (!navigator.mediaDevices) throw new Refused("The browser gives its camera to pages of https and of this machine (localhost) alone", 0);
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
  } catch (error) {
    throw new Refused(error.name === "NotAllowedError" ? "The camera was not allowed: allow it in the browser's settings of this page" : "No camera was found", 0);
  }
  try {
    signal.throwIfAborted();
    const video = byId("video");
    video.srcObject = media;
    await video.play();
    reveal(false);
    opened = await json("/v1/cameras", { method: "POST", signal });
    const take = taker(video, opened.width, opened.height);
    while (!signal.aborted) {
      const due = performance.now() + 1000 / FPS;
      show(await json(`/v1/cameras/${opened.id}`, { method: "POST", body: take(), headers: { "Content-Type": "application/octet-stream" }, signal }));
      await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
    }
  } finally {
    for (const track of media.getTracks()) track.stop();
    byId("video").srcObject = null;
    await close();
  }
}

async function close() {
  const place = opened;
  opened = null;
  if (place) await fetch(`/v1/cameras/${place.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

// The middle of the picture in the model's size, as RGB bytes.
function taker(video, width, height) {
  const canvas = make("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  return () => {
    const scale = Math.min(video.videoWidth / width, video.videoHeight / height);
    const [w, h] = [width * scale, height * scale];
    context.drawImage(video, (video.videoWidth - w) / 2, (video.videoHeight - h) / 2, w, h, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const pixels = new Uint8Array(width * height * 3);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
    return pixels;
  };
}

// --- a stream -----------------------------------------------------------------------------------

async function stream(signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ source: byId("source").value, fps: FPS }), signal };
  for await (const { kind, data } of events("/v1/streams", options)) {
    if (kind === "frame") {
      reveal(true);
      byId("picture").src = data.picture;
      show(data);
    } else if (kind === "notice") complain(new Refused(data.text, 0));
    else if (kind === "failed") throw new Refused(data.error, data.status);
  }
}

// --- drawing ------------------------------------------------------------------------------------

function reveal(isStream) {
  byId("answer").hidden = false;
  byId("stop").disabled = false;
  byId("picture").hidden = !isStream;
  byId("video").hidden = isStream;
}

function show(data) {
  showClass(data);
  showSaved(data, actions);
  const total = (ms) => ms.policy + ms.recognition;
  const spent = total(data.ms) - (before ? total(before.ms) : 0);
  set("time", `${milliseconds(spent)} ms`, "policy and recognition of the newest");
  set("frames", String(data.frames), data.dropped ? `${data.dropped} dropped` : "since the start");
  const strip = byId("strip");
  strip.append(make("li", actions.get(data.action).className));
  while (strip.children.length > SHOWN) strip.firstChild.remove();
  before = data;
  if (performance.now() > said + SAID_MS) {
    said = performance.now();
    byId("said").textContent = `${data.name}, ${percent(data.score)}`;
  }
}

start().catch(complain);
