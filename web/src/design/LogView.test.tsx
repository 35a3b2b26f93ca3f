import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { LogView } from "./LogView";
import { filterLines, findLines, type LogLine, plain } from "./logs";

const LINES: LogLine[] = [
  { time: 1_700_000_000, level: "INFO", source: "learner", message: "step 1" },
  { time: null, level: "DEBUG", source: "agent", message: "asked the model" },
  { time: null, level: "ERROR", source: "agent", message: "Step failed" },
];

test("a level shows itself and what is above it", () => {
  expect(filterLines(LINES, "INFO", "")).toEqual([0, 2]);
  expect(filterLines(LINES, "DEBUG", "agent")).toEqual([1, 2]);
});

test("a search finds places among the lines that are shown", () => {
  expect(findLines(LINES, [0, 2], "step")).toEqual([0, 1]);
  expect(findLines(LINES, [0, 2], "")).toEqual([]);
});

test("control codes of a terminal are taken away, long lines cut", () => {
  expect(plain("\u001b[31mred\u001b[0m\r done")).toBe("red done");
  expect(plain("x".repeat(6000))).toHaveLength(5000 + "… (6,000 characters)".length);
});

test("the head tells lines and size", () => {
  render(<LogView label="Logs" lines={LINES} />);
  expect(screen.getByText(/3 lines, 35 B/)).toBeTruthy();
});
