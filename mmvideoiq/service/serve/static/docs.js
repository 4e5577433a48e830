// The OpenAPI document as a page.

import { byId, complain, json, make } from "./api.js";

let schemas = {};

async function start() {
  const [api, model] = await Promise.all([json("/v1/openapi.json"), json("/v1/model")]);
  byId("model").textContent = model.name;
  schemas = api.components.schemas;
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) byId("operations").append(draw(path, method, operation));
  }
  document.body.dataset.ready = "true";
}

function draw(path, method, operation) {
  const box = make("details", "card operation");
  const head = make("summary");
  head.append(make("span", "method", method.toUpperCase()), make("span", "path", path), make("span", "", operation.summary));
  const inside = make("div", "inside");
  inside.append(make("p", "", operation.description));
  const given = (operation.parameters ?? []).map((each) => [each.name, `${each.description} (${each.in})`]);
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    for (const [name, field] of Object.entries(schema?.properties ?? {})) given.push([name, `${field.description ?? field.type} (${type})`]);
  }
  if (given.length) inside.append(make("h3", "", "Given"), table(given));
  const answers = Object.entries(operation.responses).map(([status, answer]) => [status, answer.description]);
  inside.append(make("h3", "", "Answers"), table(answers));
  for (const answer of Object.values(operation.responses)) {
    const schema = answer.content?.["application/json"]?.schema;
    const name = schema?.$ref?.split("/").pop();
    if (name && name !== "Error") {
      inside.append(make("h3", "", name), table(fields(schemas[name])));
      break;
    }
  }
  inside.append(make("h3", "", "For example"), make("pre", "", example(path, method, operation)));
  box.append(head, inside);
  return box;
}

function fields(schema) {
  return Object.entries(schema.properties).map(([name, field]) => [name, [describe(field), field.description].filter(Boolean).join(": ")]);
}

function describe(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" or ");
  if (schema.type === "array") return `list of ${describe(schema.items)}`;
  if (schema.type === "object") return `{${Object.keys(schema.properties).join(", ")}}`;
  return [schema.type].flat().join(" or ");
}

function example(path, method, operation) {
  const words = ["curl"];
  const types = Object.keys(operation.requestBody?.content ?? {});
  if (types.includes("multipart/form-data")) words.push("-F file=@video.mp4");
  else if (types.includes("application/json")) words.push(`-H 'Content-Type: application/json' -d '{"source": "https://example.org/live.m3u8"}'`);
  else if (types.length) words.push("--data-binary @frame.rgb");
  else if (method !== "get") words.push(`-X ${method.toUpperCase()}`);
  if (path.endsWith("/events") || path === "/v1/streams") words.push("-N");
  return `${words.join(" ")} ${location.origin}${path.replace("{id}", "ID")}`;
}

function table(rows) {
  const body = make("tbody");
  for (const [name, text] of rows) {
    const row = make("tr");
    row.append(make("td", "", name), make("td", "", text));
    body.append(row);
  }
  const whole = make("table");
  whole.append(body);
  return whole;
}

start().catch(complain);
