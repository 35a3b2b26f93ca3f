import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createMemoryHistory, createRootRoute, createRouter, RouterProvider } from "@tanstack/react-router";
import { cleanup, render, screen } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, expect, test, vi } from "vitest";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RftMetrics, RftPreflight, RunEvent } from "~/api/rft";
import { JobHeader } from "./JobHeader";
import { JobTabs, tabOf } from "./JobTabs";
import { Summary } from "./Summary";
import { Tiles } from "./Tiles";

// A canvas, which jsdom cannot draw.
vi.mock("~/design/Chart", () => ({
  Chart: (props: { label: string }) => <figure aria-label={props.label} />,
}));

const VERDICT = { verdict: "There is something to learn.", baselines: [], warnings: [] };
const UNKNOWN = {
  mean_score: null,
  pass_at_1: null,
  pass_at_8: null,
  truncated: null,
  completion_tokens_mean: null,
};
const PREFLIGHT = {
  ...VERDICT,
  ...UNKNOWN,
  rows: 4,
  rollouts: 32,
  estimate: null,
} as unknown as RftPreflight;
const JOB = {
  name: "accounts/local/reinforcementFineTuningJobs/sums",
  state: "JOB_STATE_COMPLETED",
  createTime: "2026-01-01T00:00:00Z",
  trainingConfig: { baseModel: "accounts/x/models/base", outputModel: "accounts/local/models/sums" },
  preflight: PREFLIGHT,
  preflightOnly: false,
  maxStaleness: 0,
} as unknown as RftJob;

const metrics = (...events: RunEvent[]): RftMetrics => ({ name: "", state: "", metrics: [], events });
const SOME = metrics({ kind: "preflight" }, { kind: "chunk", step: 0, mean_score: 0.5, score_std: 0.1 });

function show(job: RftJob, data: RftMetrics) {
  render(<Summary job={job} metrics={data} search={{}} onSearch={() => {}} />);
}

function routed(component: () => ReactNode) {
  const router = createRouter({ routeTree: createRootRoute({ component }), history: createMemoryHistory() });
  const client = new QueryClient();
  client.setQueryData(["session"], { account: "local", role: "admin", user: null, expires: "", version: "" });
  render(
    <QueryClientProvider client={client}>
      <RouterProvider router={router as never} />
    </QueryClientProvider>,
  );
}

async function tiles(job: RftJob) {
  routed(() => <Tiles job={job} metrics={metrics()} />);
  await screen.findByText("Models");
}

// Whoever asks for the session begins to watch the server; nothing comes from this one. Nothing is laid out either.
class Silent {
  static CLOSED = 2;
  readyState = 0;
  addEventListener() {}
  close() {}
  observe() {}
  disconnect() {}
}
vi.stubGlobal("EventSource", Silent);
vi.stubGlobal("ResizeObserver", Silent);

// The router goes to the top of a new page, which jsdom has none of.
vi.stubGlobal("scrollTo", () => {});

afterEach(cleanup);

test("the page of a preflight shows what it found, no curves and no model", async () => {
  const job = { ...JOB, preflightOnly: true };
  show(job, metrics({ kind: "preflight" }));
  expect(screen.getByText(PREFLIGHT.verdict)).toBeTruthy();
  expect(screen.queryByRole("figure")).toBeNull();
  expect(screen.queryByText(/ended before its first step/)).toBeNull();
  await tiles(job);
  expect(screen.getByText("none is made")).toBeTruthy();
  expect(screen.getByText("Preflight only")).toBeTruthy();
  expect(screen.getAllByRole("link").map((link) => link.textContent)).toEqual(["base"]);
});

test("a preflight has nothing of what only training brings: reward, epochs, audit, studio", async () => {
  const job = { ...JOB, preflightOnly: true };
  await tiles(job);
  expect(screen.queryByText("Mean reward")).toBeNull();
  const tabs = () => screen.getAllByRole("tab").map((tab) => tab.textContent);
  render(<JobTabs job={job} metrics={metrics()} search={{}} onSearch={() => {}} />);
  expect(tabs()).toEqual(["Summary", "Logs", "Options"]);
  expect(tabOf(job, "epoch")).toBe("summary");
  cleanup();
  render(<JobTabs job={JOB} metrics={metrics()} search={{}} onSearch={() => {}} />);
  expect(tabs()).toEqual(["Summary", "Epoch 0", "Audit", "Logs", "Options"]);
  cleanup();
  routed(() => <JobHeader job={job} />);
  expect(await screen.findByRole("link", { name: "Start the job itself" })).toBeTruthy();
  for (const name of ["Studio", "Compare", "Clone"]) expect(screen.queryByRole("link", { name })).toBeNull();
});

test("whiskers are spoken of where held-out rows have them", () => {
  show(JOB, SOME);
  expect(screen.queryByText(/whiskers/)).toBeNull();
  cleanup();
  show(JOB, metrics(...SOME.events, { kind: "evaluation", step: 0, score: 0.5, low: 0.4, high: 0.6 }));
  expect(screen.getByText(/whiskers are 95 % intervals/)).toBeTruthy();
});

test("a preflight that is not there yet, or came to nothing, says so", () => {
  const job = { ...JOB, preflightOnly: true, preflight: null };
  show({ ...job, state: "JOB_STATE_RUNNING" }, metrics());
  expect(screen.getByText("The preflight has not ended yet")).toBeTruthy();
  cleanup();
  show({ ...job, state: "JOB_STATE_FAILED" }, metrics());
  expect(screen.getByText("This preflight came to no end")).toBeTruthy();
});

test("a job's own preflight is shown before its first step, and above its curves after", async () => {
  show({ ...JOB, state: "JOB_STATE_RUNNING" }, metrics({ kind: "preflight" }));
  expect(screen.getByText(PREFLIGHT.verdict)).toBeTruthy();
  expect(screen.getByText("No step has ended yet")).toBeTruthy();
  cleanup();
  show(JOB, SOME);
  expect(screen.getByText(PREFLIGHT.verdict)).toBeTruthy();
  expect(screen.getByLabelText("Reward")).toBeTruthy();
  await tiles(JOB);
  expect(screen.getAllByRole("link").map((link) => link.textContent)).toEqual(["sums", "base"]);
});

test("what a job has cost is shown with its currency, in the form that its run gives it", async () => {
  await tiles({ ...JOB, run: { cost: 1.25, currency: "EUR" } } as unknown as RftJob);
  expect(screen.getByText("1.25 EUR")).toBeTruthy();
  expect(screen.getByText("at the operator's prices")).toBeTruthy();
});
