import { expect, test } from "vitest";
import type { AgentSession, CandidateResult, Plan } from "~/api/sessions";
import { merged, type SessionEvent } from "~/api/sessions";
import { phaseLines, ranked } from "./phases";
import { planRows } from "./planRows";
import { reportParts } from "./reportParts";

const PLAN: Plan = {
  method: "sft",
  dataset: "accounts/a/datasets/d",
  evaluationDataset: null,
  baseModels: ["accounts/a/models/m"],
  grid: { points: [], loraRanks: [8, 16], learningRates: [], betas: [] },
  epochs: null,
  subsample: null,
  parallel: null,
  batchSizeSamples: null,
  maxContextLength: null,
  evaluation: { path: null, evaluator: null },
  finalRun: null,
  deploy: null,
  strongModel: null,
  weakModel: null,
  outputModel: null,
  deployment: null,
  approvals: { plan: true, promotion: true },
  seed: 42,
};

function session(fields: Partial<AgentSession>): AgentSession {
  return {
    state: "running",
    phase: "sweep",
    plan: PLAN,
    spent: {},
    candidates: [],
    message: "",
    winner: null,
    ...fields,
  } as AgentSession;
}

const states = (fields: Partial<AgentSession>) => phaseLines(session(fields)).map((line) => line.state);

test("what is behind is done, what is ahead comes later, and a gate waits", () => {
  expect(states({})).toEqual(["done", "done", "now", "later", "later", "later", "later", "later"]);
  expect(states({ state: "waiting", phase: "promotion" })[3]).toBe("waiting");
  expect(states({ state: "failed" }).slice(1, 4)).toEqual(["done", "failed", "skipped"]);
  expect(states({ state: "succeeded", phase: "report", approvedPlan: { ...PLAN, deploy: false } })).toEqual([
    "done",
    "done",
    "done",
    "done",
    "done",
    "done",
    "skipped",
    "done",
  ]);
});

test("candidates: the lowest loss first, the highest score first, those without figures last", () => {
  const one = (number: number, metric: "loss" | "score", mean?: number) =>
    ({ number, [metric]: mean === undefined ? null : { mean } }) as unknown as CandidateResult;
  expect(ranked([one(1, "loss", 0.4), one(2, "loss"), one(3, "loss", 0.2)]).map((row) => row.number)).toEqual(
    [3, 1, 2],
  );
  expect(
    ranked([one(1, "score", 0.4), one(2, "score"), one(3, "score", 0.9)]).map((row) => row.number),
  ).toEqual([3, 1, 2]);
});

test("a plan says which of its lines nobody asked for", () => {
  const rows = new Map(planRows(PLAN, { ...PLAN, epochs: 2, subsample: 0 }).map((row) => [row.label, row]));
  expect(rows.get("Epochs")).toMatchObject({ values: ["2"], assumed: true });
  expect(rows.get("Settings tried")).toMatchObject({ values: ["LoRA ranks 8, 16"], assumed: false });
  expect(rows.get("Rows of the sweep")?.values).toEqual(["all"]);
  expect(rows.has("Evaluation dataset")).toBe(false);
});

test("a report shows the pictures beside it and nothing from elsewhere", () => {
  const text =
    "a\n![S](scoreboard.svg)\nb\n![x](https://e.example/x.svg)\n![y](../y.svg)\n```\n![z](z.svg)\n```";
  const parts = reportParts(text);
  expect(parts.map((part) => (part.kind === "figure" ? part.file : "text"))).toEqual([
    "text",
    "scoreboard.svg",
    "text",
  ]);
});

test("an event that came twice is shown once, in order", () => {
  const event = (sequence: number) => ({ sequence }) as SessionEvent;
  expect(merged([event(1), event(2)], [event(3), event(2)]).map((each) => each.sequence)).toEqual([1, 2, 3]);
});
