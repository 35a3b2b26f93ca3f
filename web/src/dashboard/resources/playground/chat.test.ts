// @vitest-environment node
import { expect, test } from "vitest";
import { added, events, NO_ANSWER, tokensPerSecond } from "./chat";

test("events are cut where they end, however they arrive", () => {
  const whole = 'data: {"a":1}\n\ndata: {"b":2}\r\n\r\n: beat\n\ndata: [DONE]\n\n';
  for (let cut = 0; cut <= whole.length; cut++) {
    const first = events(whole.slice(0, cut));
    const second = events(first.rest + whole.slice(cut));
    expect([...first.data, ...second.data]).toEqual(['{"a":1}', '{"b":2}', "[DONE]"]);
    expect(second.rest).toBe("");
  }
});

test("pieces add up to an answer with its usage", () => {
  const pieces = [
    { choices: [{ delta: { role: "assistant", reasoning_content: "hm" } }] },
    { choices: [{ delta: { content: "2+" } }] },
    { choices: [{ delta: { content: "3" }, finish_reason: "stop" }] },
    { choices: [], usage: { prompt_tokens: 9, completion_tokens: 5 } },
  ];
  const answer = pieces.reduce((sum, piece) => added(sum, JSON.stringify(piece)), NO_ANSWER);
  expect(answer).toMatchObject({
    content: "2+3",
    reasoning: "hm",
    finishReason: "stop",
    completionTokens: 5,
  });
});

test("an error in the stream is raised with its sentence", () => {
  expect(() => added(NO_ANSWER, '{"error": {"message": "The engine stopped."}}')).toThrow(
    "The engine stopped.",
  );
});

test("speed counts the tokens behind the first", () => {
  expect(tokensPerSecond({ ...NO_ANSWER, completionTokens: 11, firstAfter: 500, elapsed: 1500 })).toBe(10);
  expect(tokensPerSecond({ ...NO_ANSWER, completionTokens: 1, firstAfter: 500, elapsed: 1500 })).toBeNull();
});
