import { expect, test } from "vitest";
import type { WholeRollout } from "~/api/control";
import { nearest } from "~/design/Scrubber";
import { drawingOf, gridOf, historyOf, SHOWN } from "./drawings";
import { inForceFrom, marksOf, placeOf, problemsIn, rateAt, versionsOf } from "./steering";

const chunk = (step: number, evaluator_version: number, learning_rate = 1e-3) => ({
  kind: "chunk",
  step,
  evaluator_version,
  learning_rate,
});
const EVENTS = [
  { kind: "evaluation", version: 0, step: 0 },
  chunk(0, 3),
  chunk(1, 3),
  { kind: "evaluation", version: 2, step: 2 },
  chunk(2, 4),
  chunk(3, 4, 1e-4),
];

test("a mark stands where the evaluator or the learning rate changed, and nowhere else", () => {
  expect(marksOf(EVENTS).map((mark) => [mark.x, mark.label])).toEqual([
    [2, "evaluator 4"],
    [3, "rate 1.0e-4"],
  ]);
  expect(marksOf([], 7)[0]).toMatchObject({ x: 7, label: "rewound to 7" });
});

test("a version is in force from the first step that it scored", () => {
  expect(inForceFrom(EVENTS, 4)).toBe(2);
  expect(inForceFrom(EVENTS, 3)).toBe(0);
  expect(inForceFrom(EVENTS, 5)).toBeNull();
});

test("versions are those of the held-out evaluations; without any, the steps", () => {
  expect(versionsOf(EVENTS)).toEqual({ kind: "evaluation", values: [0, 2] });
  expect(versionsOf([chunk(0, 1), chunk(1, 1)])).toEqual({ kind: "train", values: [0, 1] });
});

test("a build that failed points at the line of this file, the innermost one", () => {
  const log =
    'Checking\n  File "/x/conftest.py", line 3, in f\n  File "/x/evaluation.py", line 7, in <module>\n  File "/x/evaluation.py", line 41\nSyntaxError: invalid syntax\n';
  expect(problemsIn(log, "evaluation.py")).toEqual([{ line: 41, message: "SyntaxError: invalid syntax" }]);
  expect(problemsIn(log, "other.py")).toEqual([]);
});

test("the slider of the learning rate is logarithmic and comes back to where it was", () => {
  for (const rate of [1e-5, 1e-4, 1e-3, 5e-3]) expect(rateAt(placeOf(rate))).toBeCloseTo(rate, 6);
  expect(placeOf(1)).toBe(1000);
  expect(placeOf(0)).toBe(0);
});

const rollout = (rowIndex: number, step: number, fields: Partial<WholeRollout> = {}) =>
  ({ id: `${rowIndex}-${step}`, rowIndex, step, answer: "", ...fields }) as WholeRollout;

test("the grid shows the newest rollout of each row, sixteen at most, each in its place", () => {
  const newestFirst = [rollout(2, 5), rollout(1, 4), rollout(2, 4), rollout(0, 4)];
  expect(gridOf(newestFirst).map((one) => one.id)).toEqual(["0-4", "1-4", "2-5"]);
  expect(gridOf(Array.from({ length: 40 }, (_, row) => rollout(row, 1)))).toHaveLength(SHOWN);
  expect(historyOf([rollout(1, 3), rollout(1, 0), rollout(1, 3)]).map((one) => one.step)).toEqual([0, 3]);
});

test("a drawing is taken from the whole row where the summary was cut", () => {
  const cut = "```svg\n<svg viewBox='0 0 1 1'><rect";
  expect(drawingOf(rollout(0, 0, { answer: cut }))).toBeNull();
  const row = { messages: [{ role: "assistant", content: `${cut}/></svg>\n\`\`\`` }] };
  expect(drawingOf(rollout(0, 0, { answer: cut, row }))).toBe("<svg viewBox='0 0 1 1'><rect/></svg>");
});

test("a scrubber stands at the value, or at the last one below it", () => {
  expect(nearest([0, 6, 12], 7)).toBe(1);
  expect(nearest([0, 6, 12], 12)).toBe(2);
  expect(nearest([], 3)).toBe(-1);
});
