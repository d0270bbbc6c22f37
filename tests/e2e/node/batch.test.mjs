// A batch of 2,000 requests, of which 1 % cannot be run, through the unmodified openai SDK for Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: `${process.env.ARGOSY_BASE_URL}/v1`, apiKey: process.env.ARGOSY_API_KEY });
const model = process.env.ARGOSY_BATCH_MODEL;
const lines = 2000;
const final = ["completed", "failed", "expired", "cancelled"];

const request = (id, name = model) => JSON.stringify({
  custom_id: id, method: "POST", url: "/v1/chat/completions",
  body: { model: name, messages: [{ role: "user", content: id }], max_tokens: 16 },
});
const broken = [
  (id) => `{"custom_id": "${id}", "method": "POST"`,
  (id) => JSON.stringify({ custom_id: id, method: "POST", body: {} }),
  (id) => request(id, "no-such-model"),
  () => request("1"),
];
const isBad = (number) => number % 100 === 99;
const parsed = async (fileId) =>
  (await (await client.files.content(fileId)).text()).trimEnd().split("\n").map((line) => JSON.parse(line));

test("a batch of 2,000 lines answers the good ones and says what is wrong with the others", async () => {
  const numbers = [...Array(lines).keys()];
  const content = numbers.map((n) => (isBad(n) ? broken[Math.floor(n / 100) % broken.length](`bad-${n}`) : request(`${n}`)));
  const file = await client.files.create({ file: await toFile(Buffer.from(content.join("\n")), "requests.jsonl"), purpose: "batch" });
  let batch = await client.batches.create({
    input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
  });
  while (!final.includes(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    batch = await client.batches.retrieve(batch.id);
  }
  assert.equal(batch.status, "completed");
  assert.deepEqual(
    [batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed], [lines, 1980, 20]);
  const answers = await parsed(batch.output_file_id);
  assert.deepEqual(
    new Set(answers.map((answer) => answer.custom_id)), new Set(numbers.filter((n) => !isBad(n)).map(String)));
  assert.equal(answers.length, 1980);
  assert.ok(answers.every((answer) => answer.response.status_code === 200 && answer.error === null));
  const errors = await parsed(batch.error_file_id);
  assert.deepEqual(errors.map((line) => line.error.line).sort((a, b) => a - b), numbers.filter(isBad).map((n) => n + 1));
  const counts = {};
  for (const line of errors) counts[line.error.code] = (counts[line.error.code] ?? 0) + 1;
  assert.deepEqual(counts, { batch_line_invalid: 10, model_not_found: 5, duplicate_custom_id: 5 });
});
