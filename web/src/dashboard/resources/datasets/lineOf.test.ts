// @vitest-environment node
import { expect, test } from "vitest";
import { lineNumber, lineOf } from "./lineOf";

test("the line that an error names is found, whatever its place", async () => {
  const file = new Blob(['{"a": 1}\n{broken\n{"c": 3}']);
  expect(await lineOf(file, "Dataset validation failed: invalid JSON on line 2")).toEqual({
    line: 2,
    text: "{broken",
  });
  expect(await lineOf(file, "line 3 has no messages")).toEqual({ line: 3, text: '{"c": 3}' });
  expect(await lineOf(file, "line 9")).toBeNull();
  expect(await lineOf(file, "too large")).toBeNull();
});

test("a long line is cut", async () => {
  const found = await lineOf(new Blob(["x".repeat(5000)]), "Line 1: too long");
  expect(found?.text.length).toBeLessThan(500);
});

test("numbers that are no lines do not count", () => {
  expect(lineNumber("deadline 5 passed")).toBeNull();
  expect(lineNumber("on line 12, field messages")).toBe(12);
});
