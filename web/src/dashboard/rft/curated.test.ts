import { expect, test } from "vitest";
import type { MetricsLine, RftMetrics } from "~/api/rft";
import { curatedCurves, rewardCurve } from "./curated";

const data: RftMetrics = {
  name: "j",
  state: "RUNNING",
  metrics: [{ step: 0, entropy: 0.5, seconds: 2 } as unknown as MetricsLine],
  events: [
    { kind: "evaluation", step: 0, version: 0, score: 0.4, low: 0.3, high: 0.5 },
    {
      kind: "chunk",
      chunk: 0,
      step: 0,
      epoch: 0,
      sealed: 1,
      mean_score: 0.5,
      kept_groups: 6,
      constant_groups: 3,
      dropped_groups: 4,
      seconds: 7,
      metrics: { length: 1 },
    },
    {
      kind: "chunk",
      chunk: 1,
      step: 1,
      epoch: 0,
      sealed: 0,
      mean_score: 0.6,
      kept_groups: 0,
      constant_groups: 10,
      dropped_groups: 10,
      seconds: 8,
      metrics: { length: 0.5, form: 1 },
    },
    { kind: "evaluation", step: 2, version: 2, score: 0.7, low: 0.6, high: 0.8 },
  ],
};
const curve = (id: string) => curatedCurves(data).find((one) => one.id === id);
const values = (id: string, label: string) => curve(id)?.series.find((one) => one.label === label)?.values;

test("rewards and held-out scores share one axis of steps", () => {
  const { x, series } = rewardCurve(data);
  expect(x).toEqual([0, 1, 2]);
  expect(series.map((one) => one.values)).toEqual([
    [0.5, 0.6, null],
    [0.4, null, 0.7],
  ]);
  expect(series[1]?.band).toEqual({ low: [0.3, null, 0.6], high: [0.5, null, 0.8] });
});

test("dropped groups are told apart: all scores equal, or too few valid", () => {
  expect(values("groups", "Kept")).toEqual([6, 0]);
  expect(values("groups", "All scores equal")).toEqual([3, 10]);
  expect(values("groups", "Too few valid")).toEqual([1, 0]);
});

test("the time of a step counts training only where a step was taken", () => {
  expect(values("time", "Rollouts")).toEqual([7, 8]);
  expect(values("time", "Training")).toEqual([2, null]);
});

test("the evaluator's metrics are found in any chunk; what was never measured has no curve", () => {
  expect(curve("metrics-0")?.series.map((one) => [one.label, one.values])).toEqual([
    ["form", [null, 1]],
    ["length", [1, 0.5]],
  ]);
  expect(curve("truncated")).toBeUndefined();
});

test("what is healthy of mismatch and ratio depends on how old rollouts may be", () => {
  const lines = [{ step: 0, mismatch_max: 0.2, ratio_p99: 1.4 } as unknown as MetricsLine];
  const healthy = (staleness: number) =>
    curatedCurves({ ...data, metrics: lines }, staleness)
      .filter((one) => one.id === "mismatch" || one.id === "ratio")
      .map((one) => one.healthy);
  expect(healthy(0)).toEqual([
    "Far below 0.01 nats and flat: both compute the same policy.",
    "Around 1: the batch was sampled by the policy that is trained.",
  ]);
  expect(healthy(1)[0]).toContain("1 version older than the policy that learns from them");
  expect(healthy(4)[0]).toContain("up to 4 versions older");
  expect(healthy(4).join(" ")).not.toContain("0.01");
});
