import { expect, test } from "vitest";
import type { MetricsLine, RftMetrics, RunEvent } from "~/api/rft";
import { withLines } from "./live";

const line = (step: number) => ({ step, loss: step }) as MetricsLine;
const chunk = (number: number): RunEvent => ({ kind: "chunk", chunk: number, step: number, time: number });
const before: RftMetrics = { name: "j", state: "RUNNING", metrics: [line(0)], events: [chunk(0)] };

test("a new stream tells everything again: only what is not there yet is added", () => {
  const after = withLines(before, [line(0), line(1)], [chunk(0), chunk(1), chunk(1)]);
  expect(after.metrics.map((one) => one.step)).toEqual([0, 1]);
  expect(after.events.map((one) => one.chunk)).toEqual([0, 1]);
  expect(before.metrics).toHaveLength(1);
});

test("nothing new leaves the same object, so that nothing is drawn again", () => {
  expect(withLines(before, [line(0)], [chunk(0)])).toBe(before);
});

test("a chunk that was not sealed and the next one share a step, and are two", () => {
  const unsealed = { ...chunk(5), step: 3, sealed: 0 };
  const next = { ...chunk(6), step: 3, sealed: 1 };
  expect(withLines(before, [], [unsealed, next]).events).toHaveLength(3);
});
