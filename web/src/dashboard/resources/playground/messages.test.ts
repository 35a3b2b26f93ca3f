// @vitest-environment node
import { expect, test } from "vitest";
import { messages, type Said } from "./useChat";

const said = (role: Said["role"], content: string): Said => ({ role, content });

test("a prompt whose answer failed is not sent again with the next one", () => {
  const turns = [
    said("user", "a"),
    said("assistant", "A"),
    said("user", "b"),
    said("assistant", ""),
    said("user", "c"),
  ];
  expect(messages(turns, "").map((one) => one.content)).toEqual(["a", "A", "c"]);
});

test("the system prompt comes first, an empty one not at all", () => {
  expect(messages([said("user", "a")], "Be brief.")[0]).toEqual({ role: "system", content: "Be brief." });
  expect(messages([said("user", "a")], "  ")).toHaveLength(1);
});
