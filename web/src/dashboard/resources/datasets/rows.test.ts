// @vitest-environment node
import { expect, test } from "vitest";
import { said } from "./rows";

test("a conversation: the last user message and the answer", () => {
  const row = {
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: [{ type: "text", text: "2+3?" }] },
      { role: "assistant", content: "5" },
    ],
  };
  expect(said(row)).toEqual({ prompt: "2+3?", answer: "5", messages: 3 });
});

test("a prompt without an answer, a pair, and a row that is neither", () => {
  expect(said({ messages: [{ role: "user", content: "Draw" }] })).toEqual({
    prompt: "Draw",
    answer: "",
    messages: 1,
  });
  const pair = {
    input: { messages: [{ role: "user", content: "Hi" }] },
    preferred_output: [{ role: "assistant", content: "Hello" }],
    non_preferred_output: [{ role: "assistant", content: "No" }],
  };
  expect(said(pair)).toEqual({ prompt: "Hi", answer: "Hello", messages: 2 });
  expect(said({ messages: [null, 3], other: 1 }).prompt).toBe("");
});
