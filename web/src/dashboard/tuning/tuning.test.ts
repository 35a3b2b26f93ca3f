import { expect, test } from "vitest";
import { jsonLines, withLine } from "~/api/tuningJobs";
import { curvesOf, newest } from "./curves";
import { runsOf } from "./masks";
import { parseTuningSearch } from "./search";
import { money } from "./TuningTiles";

const LINES = [
  { step: 0, epoch: 0, eval_loss: 0.7 },
  { step: 1, epoch: 0.5, loss: 0.6, learning_rate: 1e-3 },
  { step: 2, epoch: 1, loss: 0.5, learning_rate: 1e-3 },
  { step: 2, epoch: 1, eval_loss: 0.4 },
];

test("steps and evaluations stand on one x, with gaps where one was not measured", () => {
  const [loss, rate] = curvesOf("sft", LINES);
  expect(loss?.x).toEqual([0, 1, 2]);
  expect(loss?.series.map((one) => one.values)).toEqual([
    [null, 0.6, 0.5],
    [0.7, null, 0.4],
  ]);
  expect(rate?.label).toBe("Learning rate");
  expect(curvesOf("sft", LINES)).toHaveLength(2);
  expect(newest(LINES, "eval_loss")).toBe(0.4);
});

test("a line that comes twice counts once; an evaluation is another line of its step", () => {
  expect(withLine(LINES, { step: 2, epoch: 1, loss: 0.5 })).toBe(LINES);
  expect(withLine(LINES, { step: 3, epoch: 1.5, loss: 0.4 })).toHaveLength(5);
});

test("a file that is being written is read up to its last whole line", () => {
  expect(jsonLines('{"step":1}\n{"ste')).toEqual([{ step: 1 }]);
});

test("a mask is read in runs", () => {
  expect(runsOf(["a", "b", "c", "d"], [0, 0, 1, 0])).toEqual([
    { weight: 0, tokens: ["a", "b"] },
    { weight: 1, tokens: ["c"] },
    { weight: 0, tokens: ["d"] },
  ]);
});

test("a wrong link shows the page", () => {
  expect(parseTuningSearch({ tab: "nonsense", sample: "-1", step: "x" })).toEqual({});
  expect(parseTuningSearch({ tab: "rows", sample: 3, step: 11 })).toEqual({
    tab: "rows",
    sample: 3,
    step: "11",
  });
});

test("money in whole units and billionths", () => {
  expect(money({ currencyCode: "EUR", units: "3", nanos: 250_000_000 })).toBe("3.25 EUR");
});
