// Requests to the server, and its events.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is it still running?", 0);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function json(path, options) {
  const answer = await request(path, options);
  return answer.status === 204 ? null : answer.json();
}

async function refusal(answer) {
  let text = `The server answered ${answer.status}.`;
  try {
    text = (await answer.json()).error ?? text;
  } catch {
    // not JSON: the status says it
  }
  return new Refused(text, answer.status);
}

// Server-sent events, one by one: {kind, data}.
export async function* events(path, options) {
  const reader = (await request(path, options)).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.event) yield { kind: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

export const byId = (id) => document.getElementById(id);

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function sentence(text) {
  const line = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.?!]$/.test(line) ? line : `${line}.`;
}

export function complain(error) {
  const alert = byId("alert");
  alert.textContent = error ? sentence(error.message ?? String(error)) : "";
  alert.hidden = !error;
}
