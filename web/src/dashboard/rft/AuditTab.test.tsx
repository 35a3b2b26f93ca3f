import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RftAudit, RolloutSummary } from "~/api/rft";
import { AuditTab } from "./AuditTab";

// A canvas, which jsdom cannot draw: its name and series say what it would show.
vi.mock("~/design/Chart", () => ({
  Chart: (props: { label: string; series: { label: string }[] }) => (
    <figure aria-label={props.label}>{props.series.map((one) => one.label).join(", ")}</figure>
  ),
}));

const JOB = { name: "accounts/local/reinforcementFineTuningJobs/sums" } as RftJob;
const NOTHING: RftAudit = {
  rollouts: 0,
  lengthCorrelation: { spearman: null, low: null, high: null, points: [] },
  topScored: [],
  duplicates: [],
  duplicateShare: null,
  metricDominance: [],
  bySteps: [],
  auditEvaluator: null,
  findings: [],
};
const FULL: RftAudit = {
  ...NOTHING,
  rollouts: 80,
  lengthCorrelation: { spearman: 0.82, low: 0.7, high: 0.9, points: [[12, 1, "long"]] },
  topScored: [
    { rolloutId: "best", score: 1, isScoreValid: true, step: 3, completionTokens: 12, answer: "it is 4" },
  ] as RolloutSummary[],
  duplicates: [{ answer: "no", count: 20, share: 0.25, meanScore: 0, rolloutIds: ["twin", "other"] }],
  duplicateShare: 0.25,
  metricDominance: [{ metric: "politeness", correlation: 0.97, share: 0.94 }],
  findings: [
    { severity: "warning", title: "The score grows with length", detail: "Rank correlation 0.82." },
    { severity: "info", title: "A quarter of the answers are equal", detail: "20 of 80 say no." },
  ],
};

function show(audit: RftAudit) {
  const asked: string[] = [];
  const opened: string[] = [];
  vi.stubGlobal("fetch", async (path: string) => {
    asked.push(path);
    return new Response(JSON.stringify(audit));
  });
  const client = new QueryClient();
  client.setQueryData(["session"], { account: "local", role: "admin", user: null, expires: "", version: "" });
  render(
    <QueryClientProvider client={client}>
      <AuditTab job={JOB} onRollout={(id) => opened.push(id)} />
    </QueryClientProvider>,
  );
  return { asked, opened };
}

// Whoever asks for the session begins to watch the server; nothing comes from this one.
class SilentEvents {
  static CLOSED = 2;
  readyState = 0;
  addEventListener() {}
  close() {}
}
vi.stubGlobal("EventSource", SilentEvents);

afterEach(cleanup);

test("without scored rollouts there is nothing to audit", async () => {
  const { asked } = show(NOTHING);
  expect(await screen.findByText("Nothing to audit yet")).toBeTruthy();
  expect(asked).toEqual(["/v1/accounts/local/reinforcementFineTuningJobs/sums/audit"]);
});

test("findings come first, warnings told from notes; what they were read from stands below", async () => {
  show(FULL);
  const findings = within(await screen.findByRole("list", { name: "Findings" })).getAllByRole("listitem");
  expect(findings.map((one) => one.querySelector("p")?.textContent)).toEqual(
    FULL.findings.map((one) => one.title),
  );
  expect(within(findings[0] as HTMLElement).getByLabelText("Warning")).toBeTruthy();
  expect(within(findings[1] as HTMLElement).getByLabelText("Note")).toBeTruthy();
  expect(screen.getByText(/Rank correlation/, { selector: "p.mt-2" }).textContent).toContain(
    "0.82 (95 % interval 0.7 to 0.9)",
  );
  const metric = screen.getByRole("rowheader", { name: "politeness" }).closest("tr") as HTMLElement;
  expect(within(metric).getByText(/^94/)).toBeTruthy();
  expect(screen.getByText(/Read from 80 scored rollouts/)).toBeTruthy();
  expect(screen.queryByText(/Second evaluator/)).toBeNull();
});

test("an answer counts as repeated where different rows were given it, and the panel says so", async () => {
  show(FULL);
  const table = await screen.findByRole("table", { name: "One answer to several rows" });
  expect(within(table).getByText("no")).toBeTruthy();
  cleanup();
  show({ ...FULL, duplicates: [], duplicateShare: 0 });
  expect(await screen.findByText("No answer was given to more than one row")).toBeTruthy();
  expect(screen.queryByText(/given (twice|more than once)/)).toBeNull();
});

test("a best-scored rollout and a repeated answer open the rollout", async () => {
  const { opened } = show(FULL);
  await userEvent.click(await screen.findByText("it is 4"));
  await userEvent.click(screen.getByText("no"));
  expect(opened).toEqual(["best", "twin"]);
});

test("a reward that nothing speaks against is said to look right; without figures nothing is claimed", async () => {
  const { points: _, ...length } = FULL.lengthCorrelation;
  show({ ...FULL, findings: [], lengthCorrelation: { ...length, points: [] } });
  expect(await screen.findByText(/Nothing looks wrong with the reward/)).toBeTruthy();
  cleanup();
  show({ ...NOTHING, rollouts: 4 });
  expect(await screen.findByText(/there is little to judge the reward by/)).toBeTruthy();
  expect(screen.queryByText(/Nothing looks wrong/)).toBeNull();
});

test("a second evaluator's view is drawn beside the score, or waited for", async () => {
  const second = {
    evaluator: "accounts/local/evaluators/judge",
    version: 1,
    rollouts: 40,
    invalid: 0,
    agreement: { spearman: 0.4, low: 0.1, high: 0.6 },
    auroc: 0.71,
    bySteps: [{ step: 1, rollouts: 40, score: 0.5, auditScore: 0.25 }],
    failed: "",
  };
  show({ ...FULL, auditEvaluator: second });
  expect(await screen.findByText("Second evaluator: judge")).toBeTruthy();
  expect(screen.getByLabelText("Score and second evaluator").textContent).toBe("Score, Second evaluator");
  expect(screen.getByText(/40 rollouts scored by both/).textContent).toContain(
    "rank correlation 0.4 (95 % interval 0.1 to 0.6), AUROC 0.71. Nothing is trained on it.",
  );
  cleanup();
  show({ ...FULL, auditEvaluator: { ...second, bySteps: [], rollouts: 0 } });
  expect(await screen.findByText("It has scored nothing yet")).toBeTruthy();
});
