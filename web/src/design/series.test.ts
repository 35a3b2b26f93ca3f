import { expect, describe as suite, test } from "vitest";
import { bytes, change, count, figure, percent } from "./figures";
import { align, describe, ema, stack } from "./series";

suite("ema", () => {
  test("weighs by 2 / (n + 1), from the first value on", () => {
    expect(ema([1, 0, 0], 3)).toEqual([1, 0.5, 0.25]);
  });
  test("a gap stays a gap and does not move the mean", () => {
    expect(ema([null, 1, null, 0], 3)).toEqual([null, 1, null, 0.5]);
  });
  test("a span of 0 leaves the values", () => {
    expect(ema([3, null, 1], 0)).toEqual([3, null, 1]);
  });
});

test("stack sums upwards and keeps what was never measured empty", () => {
  expect(
    stack([
      [1, null, null],
      [2, 4, null],
    ]),
  ).toEqual([
    [1, 0, null],
    [3, 4, null],
  ]);
});

test("align puts curves on one x", () => {
  expect(
    align([
      { x: [0, 2], values: [1, 2] },
      { x: [1, 2], values: [5, 6] },
    ]),
  ).toEqual({
    x: [0, 1, 2],
    values: [
      [1, null, 2],
      [null, 5, 6],
    ],
  });
});

test("a curve in words", () => {
  expect(describe([0, 1, 2], [{ label: "Reward", values: [0.1, 0.6, 0.5] }])).toBe(
    "Reward: 0.1 at 0 to 0.5 at 2, between 0.1 and 0.6.",
  );
  expect(describe([0], [{ label: "Reward", values: [null] }])).toBe("Reward: no values.");
});

test("figures", () => {
  expect([0, 0.12345, -12.3456, 1234.5, 1.25e-5, null].map(figure)).toEqual([
    "0",
    "0.1235",
    "−12.35",
    "1,235",
    "1.3e-5",
    "none",
  ]);
  expect([change(0.12), change(-0.0341), change(0.0001)]).toEqual(["+0.120", "−0.034", "±0"]);
  expect([count(12345), percent(0.1234), percent(0.0123), bytes(180_000)]).toEqual([
    "12,345",
    "12.3 %",
    "1.23 %",
    "0.18 MB",
  ]);
});
