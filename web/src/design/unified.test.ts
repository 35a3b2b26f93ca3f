import { expect, test } from "vitest";
import { pairLines, readDiff } from "./unified";

const TEXT =
  "--- a/e.py\n+++ b/e.py\n@@ -3,4 +3,5 @@ def f():\n same\n-old one\n-old two\n+new one\n+++ plus\n+more\n end\n\\ No newline at end of file\n";

test("lines carry the numbers of their side; file names are no lines", () => {
  const lines = readDiff(TEXT);
  expect(lines.map((line) => [line.kind, line.before, line.after])).toEqual([
    ["hunk", null, null],
    ["same", 3, 3],
    ["removed", 4, null],
    ["removed", 5, null],
    ["added", null, 4],
    ["added", null, 5],
    ["added", null, 6],
    ["same", 6, 7],
  ]);
  expect(lines[5]?.text).toBe("++ plus");
});

test("a changed run stands beside what took its place", () => {
  const pairs = pairLines(readDiff(TEXT)).map(([left, right]) => [left?.text ?? null, right?.text ?? null]);
  expect(pairs.slice(2)).toEqual([
    ["old one", "new one"],
    ["old two", "++ plus"],
    [null, "more"],
    ["end", "end"],
  ]);
});

test("an empty diff has no lines", () => {
  expect(readDiff("")).toEqual([]);
});
