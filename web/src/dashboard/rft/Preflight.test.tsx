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
  estimate: { seconds: { low: 90, high: 10_800 } },
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
  expect(figure("Truncated")).toMatch(/^6\.\d+ ?%$/);
  expect(figure("Whole job")).toBe("90 s to 3.0 h");
  expect(screen.queryByText(/Base model:/)).toBeNull();
  expect(screen.queryByLabelText("Warning")).toBeNull();
});

test("a job with fewer rollouts a row names its own pass@k; what is not known is said to be", () => {
  const nothing = { mean_score: null, pass_at_1: null, pass_at_8: null, truncated: null, estimate: null };
  render(<Preflight preflight={{ ...FOUND, ...nothing, completion_tokens_mean: null, pass_at_8_k: 4 }} />);
  for (const name of ["Mean score", "pass@1", "pass@4", "Truncated", "Tokens a rollout", "Whole job"])
    expect(figure(name), name).toBe("unknown");
});

test("every warning is one, and baselines name their temperature", () => {
  const warnings = ["Every score is 0.", "Half of the answers are cut off."];
  const baselines = [
    { temperature: 0, mean_score: 0.1, low: 0.05, high: 0.2 },
    { temperature: 0.7, mean_score: null, low: 0, high: 1 },
  ];
  render(<Preflight preflight={{ ...FOUND, warnings, baselines }} />);
  const shown = screen.getAllByLabelText("Warning").map((icon) => icon.parentElement as HTMLElement);
  expect(shown.map((line) => within(line).getByText(/./).textContent)).toEqual(warnings);
  expect(screen.getByText(/Base model:/).textContent).toBe(
    "Base model: 0.1 [0.05, 0.2] at temperature 0; unknown at temperature 0.7",
  );
});
