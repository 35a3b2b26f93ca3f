// The job that stands in this file, as docs/reference/dashboard.md ("run.html") writes it: read, inflated where it is packed, never fetched.
import type { WholeRollout } from "~/api/control";
import type { EvaluatorVersion, FileDifference, SourceFile } from "~/api/evaluators";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { MetricsLine, RftAudit, RolloutSummary, RunEvent } from "~/api/rft";
import type { ChatMessage } from "~/conversation/messages";
import type { Token } from "~/design/TokenView";

export interface RunRollout extends Omit<RolloutSummary, "turns"> {
  messages: ChatMessage[];
  turns:
    | {
        turn: number;
        finishReason: string | null;
        temperature: number | null;
        tokens: [string, number | null][];
      }[]
    | null;
}

export interface RunStep {
  step: number;
  epoch: number;
  version: number;
  evaluatorVersion: number | null;
  learningRate: number | null;
  meanScore: number | null;
  rollouts: RunRollout[];
  total: number;
}

export type RunEvaluatorVersion = EvaluatorVersion & {
  used: boolean;
  files: SourceFile[];
  diff: FileDifference[] | null;
};

export interface RunData {
  format: number;
  made: string;
  platform: string;
  job: RftJob;
  metrics: MetricsLine[];
  events: RunEvent[];
  evaluator: { name: string; versions: RunEvaluatorVersion[] };
  steps: RunStep[];
  evaluations: RunStep[];
  audit: Omit<RftAudit, "topScored">;
  kept: { rollouts: number; of: number; withTokens: number };
}

/** What stands in `#run-data`. Throws an Error that says what is wrong with the file. */
export async function readRun(text: string): Promise<RunData> {
  if (!text.trim()) throw new Error("This file holds no run: it is the viewer alone.");
  let held: unknown;
  try {
    held = JSON.parse(text);
  } catch {
    throw new Error("The run in this file is damaged: it is not JSON. Fetch the report again.");
  }
  const packed = held as { encoding?: string; data?: string };
  if (packed.encoding === "gzip+base64") held = JSON.parse(await inflate(packed.data ?? ""));
  else if (packed.encoding !== undefined)
    throw new Error(`The run in this file is packed as ${packed.encoding}, which this viewer does not know.`);
  const run = held as RunData;
  if (run.format !== 1)
    throw new Error(`The run in this file has format ${run.format}; this viewer reads format 1.`);
  return run;
}

async function inflate(data: string): Promise<string> {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** A rollout as tiles take it. */
export function asRollout(rollout: RunRollout): WholeRollout {
  return { ...rollout, turns: rollout.turns?.length ?? null, row: { messages: rollout.messages } };
}

/** A turn's tokens as the token view takes them; the rollout's advantage holds for each that was sampled. */
export function asTokens(tokens: readonly [string, number | null][], advantage: number | null): Token[] {
  return tokens.map(([text, logprob]) => ({
    text,
    logprob,
    sampled: logprob !== null,
    advantage: logprob === null ? null : advantage,
  }));
}
