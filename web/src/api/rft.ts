// What an RFT job writes while it runs, and what is made of it: lines, rollouts, the audit, a comparison (docs/reference/dashboard.md).
import type { ChatMessage } from "~/conversation/messages";
import type { LogLine } from "~/design/logs";
import type { Token } from "~/design/TokenView";
import type { Query } from "./http";
import type { RftJob, RftRun } from "./reinforcementFineTuningJobs";

/** A line of `metrics.jsonl`; fields in docs/reference/training.md. */
export type MetricsLine = { step: number } & Record<string, number | null>;

/** A line of `events.jsonl`: `chunk`, `evaluation`, `version`, `control`. */
export interface RunEvent {
  kind: string;
  time?: number;
  step?: number;
  epoch?: number;
  chunk?: number;
  version?: number;
  sealed?: number;
  metrics?: Record<string, number | null>;
  [field: string]: unknown;
}

export interface RftMetrics {
  name: string;
  state: string;
  run?: RftRun | null;
  metrics: MetricsLine[];
  events: RunEvent[];
}

export interface RolloutSummary {
  id: string;
  rolloutId: string;
  kind: "train" | "evaluation";
  step: number;
  epoch: number;
  rowIndex: number;
  k: number;
  attempt: number;
  version: number;
  score: number | null;
  isScoreValid: boolean;
  reason: string;
  prompt: string | null;
  answer: string | null;
  metrics: Record<string, number> | null;
  status: { code: number; message: string } | null;
  turns: number | null;
  completionTokens: number | null;
  truncated: boolean | null;
  advantage: number | null;
  time: string | null;
}

export interface EvaluationRow {
  messages?: ChatMessage[];
  tools?: unknown[] | null;
  ground_truth?: unknown;
  input_metadata?: Record<string, unknown>;
  rollout_status?: { code: number; message: string; details?: unknown[] };
  evaluation_result?: {
    score?: number | null;
    is_score_valid?: boolean;
    reason?: string | null;
    error?: string | null;
    metrics?: Record<
      string,
      { score?: number | null; is_score_valid?: boolean; reason?: string | null; data?: unknown }
    > | null;
    [field: string]: unknown;
  } | null;
  execution_metadata?: Record<string, unknown>;
  eval_metadata?: Record<string, unknown> | null;
  created_at?: string;
  [field: string]: unknown;
}

interface TokenTurn {
  turn: number;
  model?: string;
  finishReason: string | null;
  temperature: number | null;
  /** Tokens of earlier turns that stand in front of these. */
  start?: number;
  tokens: Token[];
}

export interface RolloutDetails extends Omit<RolloutSummary, "turns"> {
  row: EvaluationRow;
  /** The other rollouts of its row and step. */
  group: RolloutSummary[];
  /** One rollout of the same row for each step or epoch. */
  history: RolloutSummary[];
  turns: TokenTurn[];
}

export interface RolloutQuery extends Query {
  step?: number;
  epoch?: number;
  kind?: "train" | "evaluation";
  rowIndex?: number;
  valid?: boolean;
  minScore?: number;
  maxScore?: number;
  contains?: string;
  orderBy?: string;
  offset?: number;
  pageSize?: number;
}

export interface RftAudit {
  rollouts: number;
  lengthCorrelation: {
    spearman: number | null;
    low: number | null;
    high: number | null;
    points: [number, number, string][];
  };
  topScored: RolloutSummary[];
  duplicates: {
    answer: string;
    count: number;
    share: number;
    meanScore: number | null;
    rolloutIds: string[];
  }[];
  duplicateShare: number | null;
  metricDominance: { metric: string; correlation: number | null; share: number | null }[];
  bySteps: {
    step: number;
    duplicateShare: number | null;
    lengthCorrelation: number | null;
    meanTokens: number | null;
  }[];
  /** Of a job with a second evaluator; absent in files of earlier versions. */
  auditEvaluator?: {
    evaluator: string;
    version: number;
    rollouts: number;
    invalid: number;
    agreement: { spearman: number | null; low: number | null; high: number | null };
    auroc: number | null;
    bySteps: { step: number; rollouts: number; score: number; auditScore: number }[];
    failed: string;
  } | null;
  findings: { severity: "info" | "warning"; title: string; detail: string }[];
}

/** What a few rows said before the first step (docs/reference/training.md). */
export interface RftPreflight {
  rows: number;
  rollouts: number;
  invalid: number;
  threshold: number;
  mean_score: number | null;
  low: number;
  high: number;
  pass_at_1: number | null;
  pass_at_8: number | null;
  pass_at_8_k: number;
  groups: number;
  varying_groups: number;
  truncated: number | null;
  completion_tokens_mean: number | null;
  estimate: {
    rollouts: number;
    /** Absent in what older versions recorded, with `n` and `epochs`. */
    rows?: number;
    n?: number;
    epochs?: number;
    seconds: { low: number; high: number } | null;
  } | null;
  baselines: {
    temperature: number;
    mean_score: number | null;
    low: number;
    high: number;
    /** Absent in what older versions recorded. */
    pass_at_1?: number | null;
    rollouts: number;
  }[];
  warnings: string[];
  verdict: string;
}

export interface RftComparison {
  jobs: {
    job: RftJob;
    curve: { step: number; meanScore: number | null }[];
    heldOut: { step: number; score: number | null; low: number | null; high: number | null }[];
    seconds: number | null;
    trainedTokens: number | null;
    sampledTokens: number | null;
    cost: Cost | null;
  }[];
  differences: { field: string; values: unknown[] }[];
}

export type Cost = { low?: number; high?: number; amount?: number; currency: string };

export interface RftLogLine extends LogLine {
  position: string | number;
}
