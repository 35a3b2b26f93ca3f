import { expect, test } from "vitest";
import type { Pivot } from "../rows";
import { cellFilter, explain, format, heat, keyLabel } from "./pivot";

test("numbers read as what they are", () => {
  expect(format(0.66666, "avg")).toBe("0.667");
  expect(format(1234, "count")).toBe((1234).toLocaleString());
  expect(format(0.5, "pass@k")).toBe("50.0%");
  expect(format(null, "avg")).toBe("");
  expect(explain({ value: 0.5, count: 8, low: 0.4, high: 0.6 }, "avg")).toBe(
    "0.500, 95 % interval 0.400 to 0.600, 8 values",
  );
  expect(explain({ value: null, count: 1, low: null, high: null }, "stderr")).toBe(
    "none: 1 value, too few for this",
  );
  expect(keyLabel([null, ""])).toBe("(none) · (empty)");
});

test("colours run from the least to the largest value, and say nothing where all are alike", () => {
  const cell = (value: number | null) => ({ value, count: 1, low: null, high: null });
  const pivot = {
    cells: [
      [cell(0.2), null],
      [cell(0.6), cell(0.4)],
    ],
  } as unknown as Pivot;
  const shade = heat(pivot);
  expect([shade(cell(0.2)), shade(cell(0.6)), shade(null), shade(cell(null))]).toEqual([0, 1, null, null]);
  expect(heat({ cells: [[cell(1), cell(1)]] } as unknown as Pivot)(cell(1))).toBeNull();
});

test("a cell leads to the rollouts in it, on top of the filter that was there", () => {
  const kept = [{ logic: "OR" as const, filters: [] }];
  const found = cellFilter(
    kept,
    [
      { fields: ["$.eval_metadata.name"], key: ["a"] },
      { fields: ["$.x"], key: [3] },
    ],
    [],
  );
  expect(found?.[0]).toBe(kept[0]);
  expect(found?.[1]?.filters).toEqual([
    { field: "$.eval_metadata.name", operator: "==", value: "a", type: "text" },
    { field: "$.x", operator: "==", value: "3", type: "number" },
  ]);
  expect(cellFilter([], [{ fields: ["$.x"], key: [null] }], [])).toBeNull();
});
