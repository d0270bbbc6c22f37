// The unmodified openai SDK for Node against a running fleet: base URL and keys come from the environment.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { toFile } from "openai";

const baseURL = `${process.env.ARGOSY_BASE_URL}/v1`;
const client = new OpenAI({ baseURL, apiKey: process.env.ARGOSY_API_KEY, maxRetries: 0 });
const question = [{ role: "user", content: "Say hello in one short sentence." }];

test("a chat completion answers with usage and its cost", async () => {
  const { data, response } = await client.chat.completions
    .create({ model: "smollm2", messages: question, max_tokens: 24 })
    .withResponse();
  assert.ok(data.choices[0].message.content.length > 0);
  assert.ok(data.usage.completion_tokens > 0);
  assert.match(response.headers.get("argosy-cost"), /^0\.\d+$/);
  assert.match(response.headers.get("x-request-id"), /^req_/);
});

test("a streamed chat completion comes in chunks and ends with its usage", async () => {
  const stream = await client.chat.completions.create({
    model: "smollm2", messages: question, max_tokens: 24, stream: true, stream_options: { include_usage: true },
  });
  let text = "", chunks = 0, last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    chunks += 1;
    last = chunk;
  }
  assert.ok(text.length > 0 && chunks > 2);
  assert.ok(last.usage.completion_tokens > 0);
  assert.match(last.argosy.cost_usd, /^0\.\d+$/);
});

test("embeddings have the model's dimensions, as floats and as base64", async () => {
  const floats = await client.embeddings.create({
    model: "all-minilm-l6-v2", input: ["a ship", "a boat"], encoding_format: "float",
  });
  const decoded = await client.embeddings.create({ model: "all-minilm-l6-v2", input: ["a ship", "a boat"] });
  assert.equal(floats.data.length, 2);
  assert.equal(floats.data[0].embedding.length, 384);
  decoded.data[1].embedding.forEach((x, i) => assert.ok(Math.abs(x - floats.data[1].embedding[i]) < 1e-6));
});

test("models are listed and read", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("smollm2") && names.includes("all-minilm-l6-v2"));
  assert.equal((await client.models.retrieve("smollm2")).object, "model");
});

test("a file goes into a vector store and is found there", async () => {
  const text = "The harbour of Ragusa lent its name to the argosy, a large merchant ship.";
  const store = await client.vectorStores.create({ name: "harbours" });
  const file = await client.files.create({ file: await toFile(Buffer.from(text), "ragusa.txt"), purpose: "assistants" });
  const attached = await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id }, { pollIntervalMs: 200 });
  assert.equal(attached.status, "completed");
  const found = await client.vectorStores.search(store.id, { query: "Which harbour named the ship?" });
  assert.match(found.data[0].content[0].text, /Ragusa/);
  assert.equal(await (await client.files.content(file.id)).text(), text);
  await client.vectorStores.delete(store.id);
  await client.files.delete(file.id);
  await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
});

test("a file has attributes, and searches are filtered by them", async () => {
  const store = await client.vectorStores.create({ name: "years" });
  const ids = [];
  for (const year of [2023, 2024]) {
    const file = await client.files.create({ file: await toFile(Buffer.from(`Ragusa had ${year} berths.`), `${year}.txt`), purpose: "assistants" });
    await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id, attributes: { year, port: "Ragusa" } }, { pollIntervalMs: 200 });
    ids.push(file.id);
  }
  const search = (filters) => client.vectorStores.search(store.id, { query: "How many berths?", filters, ranking_options: { ranker: "auto", score_threshold: 0 } });
  const newer = { type: "and", filters: [{ type: "eq", key: "port", value: "Ragusa" }, { type: "gt", key: "year", value: 2023 }] };
  const found = await search(newer);
  assert.deepEqual(found.data.map((item) => [item.file_id, item.attributes]), [[ids[1], { year: 2024, port: "Ragusa" }]]);
  const updated = await client.vectorStores.files.update(ids[0], { vector_store_id: store.id, attributes: { year: 2025, port: "Ragusa" } });
  assert.equal(updated.attributes.year, 2025);
  assert.equal((await search(newer)).data.length, 2);
  await assert.rejects(search({ type: "like", key: "port", value: "R%" }), (error) => error instanceof OpenAI.BadRequestError && error.param === "filters");
});

test("a wrong key is the SDK's AuthenticationError", async () => {
  const stranger = new OpenAI({ baseURL, apiKey: "argosy_dev_nobody_nothing", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key");
});

test("an unknown model is the SDK's NotFoundError", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "gpt-nonesuch", messages: question }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
});

test("a bad parameter is the SDK's BadRequestError and names the parameter", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "smollm2", messages: question, max_tokens: -1 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "max_tokens",
  );
});
