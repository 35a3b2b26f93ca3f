import { cleanup, render, screen, within } from "@testing-library/react";
import { afterEach, expect, test } from "vitest";
import type { RftPreflight } from "~/api/rft";
import { Preflight } from "./Preflight";

const FOUND: RftPreflight = {
  rows: 16,
  rollouts: 128,
  invalid: 3,
  threshold: 1,
  mean_score: 0.25,
  low: 0.2,
  high: 0.31,
  pass_at_1: 0.24,
  pass_at_8: 0.75,
  pass_at_8_k: 8,
  groups: 16,
  varying_groups: 11,
  truncated: 0.0625,
  completion_tokens_mean: 41.5,
  estimate: { rollouts: 128, seconds: { low: 90, high: 10_800 } },
  baselines: [],
  warnings: [],
  verdict: "There is something to learn.",
};

/** The figure below a name. */
const figure = (name: string) => screen.getByText(name).nextElementSibling?.textContent;

afterEach(cleanup);

test("what was found stands with its intervals, and what the job would take in the largest fitting unit", () => {
  render(<Preflight preflight={FOUND} />);
  expect(screen.getByText("There is something to learn.")).toBeTruthy();
  expect(figure("Mean score")).toBe("0.25 [0.2, 0.31]");
  expect(figure("pass@1")).toBe("0.24");
  expect(figure("pass@8")).toBe("0.75");
  expect(figure("Groups that vary")).toBe("11 of 16");
  expect(figure("Invalid")).toBe("3 of 128");
  expect(figure("Truncated")).toBe("6 %");
  expect(figure("Whole job")).toBe("90 s to 3.0 h");
  expect(screen.queryByLabelText("Warning")).toBeNull();
});

test("a job with fewer rollouts a row names its own pass@k; what is not known is said to be", () => {
  const nothing = { mean_score: null, pass_at_1: null, pass_at_8: null, truncated: null, estimate: null };
  render(<Preflight preflight={{ ...FOUND, ...nothing, completion_tokens_mean: null, pass_at_8_k: 4 }} />);
  for (const name of ["Mean score", "pass@1", "pass@4", "Truncated", "Tokens a rollout", "Whole job"])
    expect(figure(name), name).toBe("unknown");
});

test("every warning is one", () => {
  const warnings = ["Every score is 0.", "Half of the answers are cut off."];
  render(<Preflight preflight={{ ...FOUND, warnings }} />);
  const shown = screen.getAllByLabelText("Warning").map((icon) => icon.parentElement as HTMLElement);
  expect(shown.map((line) => within(line).getByText(/./).textContent)).toEqual(warnings);
  expect(screen.queryByRole("table")).toBeNull();
});

test("the base model at each temperature is a row, with no more digits than a few rows tell", () => {
  const baselines = [
    {
      temperature: 0,
      mean_score: 0.289352,
      low: 0.276852,
      high: 0.302778,
      pass_at_1: 0.166667,
      rollouts: 16,
    },
    { temperature: 0.7, mean_score: null, low: 0, high: 1, pass_at_1: null, rollouts: 0 },
  ];
  render(<Preflight preflight={{ ...FOUND, baselines }} />);
  const [head, ...rows] = within(screen.getByRole("table")).getAllByRole("row");
  const cells = (row: HTMLElement) => [...row.children].map((cell) => cell.textContent);
  expect(cells(head as HTMLElement)).toEqual([
    "Temperature",
    "Mean score",
    "95 % interval",
    "Solved (≥ 1)",
    "Rollouts",
  ]);
  expect(rows.map(cells)).toEqual([
    ["0", "0.289", "0.277–0.303", "17 %", "16"],
    ["0.7", "unknown", "0–1", "unknown", "0"],
  ]);
});

test("what the whole job would roll out names rows, candidates and epochs, where they were recorded", () => {
  const seconds = { low: 90, high: 10_800 };
  render(
    <Preflight preflight={{ ...FOUND, estimate: { rollouts: 48, rows: 12, n: 4, epochs: 1, seconds } }} />,
  );
  expect(figure("Whole job's rollouts")).toBe("48 (12 rows, 4 each, 1 epoch)");
  cleanup();
  render(<Preflight preflight={{ ...FOUND, estimate: { rollouts: 48, seconds } }} />);
  expect(screen.queryByText("Whole job's rollouts")).toBeNull();
});
