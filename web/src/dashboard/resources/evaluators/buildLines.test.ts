// @vitest-environment node
import { expect, test } from "vitest";
import { buildLines } from "./buildLines";

test("levels are read from the words", () => {
  const text =
    "Resolved 3 packages\nwarning: no lock file\nTraceback (most recent call last):\n  NameError: x\n";
  expect(buildLines(text).map((line) => line.level)).toEqual(["INFO", "WARNING", "ERROR", "ERROR"]);
});

test("no text, no lines; the last line feed opens no line", () => {
  expect(buildLines("")).toEqual([]);
  expect(buildLines("one\n")).toHaveLength(1);
});
