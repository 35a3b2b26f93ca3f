// The seven phases of a session as a timeline: where it stands, what each took, and what came out of it.

import { shortId } from "~/api/names";
import type { AgentSession, CandidateResult, Comparison } from "~/api/sessions";
import { figure } from "~/design/figures";

export type PhaseState = "done" | "now" | "waiting" | "failed" | "later" | "skipped";

interface PhaseLine {
  id: string;
  title: string;
  state: PhaseState;
  /** Seconds at work so far; null: none. */
  seconds: number | null;
  what: string;
}

const PHASES: [string, string][] = [
  ["inspection", "Inspect the data"],
  ["plan", "Plan and price"],
  ["sweep", "Sweep"],
  ["promotion", "Promote a candidate"],
  ["final_run", "Final run"],
  ["evaluation", "Held-out evaluation"],
  ["deployment", "Deploy"],
  ["report", "Report"],
];
const ORDER = PHASES.map(([id]) => id);

export function phaseLines(session: AgentSession): PhaseLine[] {
  const at = ORDER.indexOf(session.phase);
  const ended = session.state === "succeeded" || session.state === "failed" || session.state === "cancelled";
  return PHASES.map(([id, title], place) => {
    const seconds = session.spent[id] ?? null;
    let state: PhaseState = place < at ? "done" : place > at ? "later" : "now";
    if (session.state === "succeeded") state = skipped(session, id) ? "skipped" : "done";
    else if (ended) state = place < at ? "done" : place === at ? "failed" : "skipped";
    else if (state === "now" && session.state === "waiting") state = "waiting";
    else if (state === "done" && skipped(session, id)) state = "skipped";
    return { id, title, state, seconds, what: what(session, id, state) };
  });
}

function skipped(session: AgentSession, id: string): boolean {
  const plan = session.approvedPlan;
  if (!plan) return false;
  return (id === "final_run" && plan.finalRun === false) || (id === "deployment" && plan.deploy === false);
}

function what(session: AgentSession, id: string, state: PhaseState): string {
  if (state === "later") return "";
  if (state === "skipped")
    return session.state === "succeeded" || session.state === "running" ? "not wanted" : "";
  if (state === "now" || state === "failed") return session.message;
  switch (id) {
    case "inspection":
      return session.plan.dataset ? `read ${shortId(session.plan.dataset)}` : "needs an answer";
    case "plan":
      return session.approvedPlan ? "approved" : "waits for your approval";
    case "sweep": {
      const tried = session.candidates.filter((one) => one.number > 0);
      const failed = tried.filter((one) => one.failed).length;
      if (!tried.length) return "needs an answer";
      return `${tried.length} ${tried.length === 1 ? "candidate" : "candidates"}${failed ? `, ${failed} failed` : ""}`;
    }
    case "promotion":
      if (state === "waiting") return "waits for your choice";
      return session.winner ? `candidate ${session.winner}` : "the base model stays";
    case "evaluation":
      return session.heldOut ? gain(session.heldOut) : "";
    case "deployment":
      return session.deployed ? shortId(session.deployed.deployment) : "";
    default:
      return "";
  }
}

/** "score 0.12 to 0.98". */
function gain(found: Comparison): string {
  return `${found.metric} ${figure(found.base.mean)} to ${figure(found.tuned.mean)}`;
}

/** What candidates are compared by, and whether less of it is better. */
export function metricOf(candidates: readonly CandidateResult[]): "score" | "loss" {
  return candidates.some((one) => one.score) ? "score" : "loss";
}

/** Candidates with the best first; those without figures last, in their own order. */
export function ranked(candidates: readonly CandidateResult[]): CandidateResult[] {
  const metric = metricOf(candidates);
  const value = (one: CandidateResult) => {
    const mean = one[metric]?.mean;
    return mean === undefined ? Number.POSITIVE_INFINITY : metric === "loss" ? mean : -mean;
  };
  return [...candidates].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    return left === right ? a.number - b.number : left - right;
  });
}

export function phaseTitle(id: string): string {
  return PHASES.find(([each]) => each === id)?.[1] ?? id;
}
