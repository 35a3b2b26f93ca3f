// Sessions of the Agent: what they are, how they are read live, and what can be said to them. The parts are those of docs/reference/sessions.md.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useAccountPath } from "~/dashboard/session";
import { get, post, remove } from "./http";
import type { components } from "./schema";
import { useWatch } from "./watch";

export interface Range {
  low: number;
  high: number;
}

export interface Interval extends Range {
  mean: number;
  rows: number;
  invalid: number;
}

interface GridPoint {
  loraRank: number;
  learningRate: number;
  beta: number | null;
}

export interface Plan {
  method: "sft" | "classification" | "dpo" | "orpo" | null;
  dataset: string | null;
  evaluationDataset: string | null;
  baseModels: string[];
  grid: { points: GridPoint[]; loraRanks: number[]; learningRates: number[]; betas: number[] };
  epochs: number | null;
  subsample: number | null;
  parallel: number | null;
  batchSizeSamples: number | null;
  maxContextLength: number | null;
  evaluation: { path: "validation_loss" | "evaluator" | "generated" | null; evaluator: string | null };
  finalRun: boolean | null;
  deploy: boolean | null;
  strongModel: string | null;
  weakModel: string | null;
  outputModel: string | null;
  deployment: string | null;
  approvals: { plan: boolean; promotion: boolean };
  seed: number;
}

export interface Gate {
  id: number;
  kind: "question" | "plan" | "promotion";
  text: string;
  questions: { field: string; text: string; choices: string[] }[];
  answered: boolean;
}

export interface Estimate {
  trainingSeconds: Range;
  inferenceSeconds: Range;
  totalSeconds: Range;
  trainingTokens: number;
  inferenceTokens: number;
  currency: string | null;
  trainingCost: Range | null;
  inferenceCost: Range | null;
  totalCost: Range | null;
  byPhase: Record<string, Range>;
  basis: string;
}

export interface CandidateResult {
  /** From 1; 0 is the base model itself. */
  number: number;
  candidate: (GridPoint & { baseModel: string }) | null;
  run: {
    job: string;
    state: string;
    message: string;
    model: string | null;
    seconds: number | null;
    tokens: number | null;
  } | null;
  loss: Interval | null;
  bitsPerByte: number | null;
  score: Interval | null;
  pValue: number | null;
  better: boolean | null;
  failed: string;
}

export interface Comparison {
  metric: "loss" | "score";
  base: Interval;
  tuned: Interval;
  difference: Interval;
  pValue: number;
  statement: string;
}

interface Deployed {
  model: string;
  deployment: string;
  endpoint: string;
  snippet: string;
}

type Wire = components["schemas"]["AgentSession"];

export type AgentSession = Omit<
  Wire,
  "plan" | "approvedPlan" | "pendingGate" | "estimate" | "candidates" | "heldOut" | "deployed"
> & {
  plan: Plan;
  approvedPlan?: Plan | null;
  pendingGate?: Gate | null;
  estimate?: Estimate | null;
  candidates: CandidateResult[];
  heldOut?: Comparison | null;
  deployed?: Deployed | null;
};

export interface SessionEvent {
  sequence: number;
  time: string;
  kind: "status_info" | "user_message" | "answer" | "ask_user" | "warning" | "result" | "error";
  text: string;
  data: Record<string, unknown>;
}

const NOUN = "sessions";

export function useSessions() {
  const account = useAccountPath();
  return useQuery({
    queryKey: [NOUN, account],
    queryFn: ({ signal }) =>
      get<{ sessions: AgentSession[] }>(
        `${account}/sessions`,
        { pageSize: 200, orderBy: "createTime desc" },
        signal,
      ),
    select: (page) => page.sessions,
  });
}

/** One session, kept up to date by the stream. */
export function useAgentSession(id: string) {
  const path = `${useAccountPath()}/sessions/${id}`;
  const client = useQueryClient();
  const key = [NOUN, path];
  const query = useQuery({
    queryKey: key,
    queryFn: ({ signal }) => get<AgentSession>(path, undefined, signal),
  });
  // Not before it is known to be there: a stream that names what is not there is refused as a whole.
  useWatch(query.data ? `sessions/${path.slice("/v1/".length)}` : null, ({ kind, data }) => {
    if (kind === "session") client.setQueryData(key, data.session);
  });
  return query;
}

/** Everything that was said and done, oldest first; it grows while the page is open. */
export function useSessionEvents(id: string): { events: SessionEvent[]; error: unknown; ready: boolean } {
  const path = `${useAccountPath()}/sessions/${id}`;
  const [live, setLive] = useState<SessionEvent[]>([]);
  const read = useQuery({
    queryKey: ["sessionEvents", path],
    queryFn: ({ signal }) => allEvents(path, signal),
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another session begins with an empty history
  useEffect(() => setLive([]), [path]);
  useWatch(read.data ? `sessions/${path.slice("/v1/".length)}` : null, ({ kind, data }) => {
    if (kind === "session-event") setLive((before) => merged(before, [data.event]));
  });
  return { events: merged(read.data ?? [], live), error: read.error, ready: !read.isPending };
}

async function allEvents(path: string, signal: AbortSignal): Promise<SessionEvent[]> {
  const all: SessionEvent[] = [];
  for (;;) {
    const page = await get<{ events: SessionEvent[]; nextPageToken?: string }>(
      `${path}/events`,
      { pageSize: 1000, after: all.at(-1)?.sequence },
      signal,
    );
    all.push(...page.events);
    if (!page.nextPageToken || page.events.length === 0) return all;
  }
}

/** Both histories as one: each event once, in order. */
export function merged(first: readonly SessionEvent[], second: readonly SessionEvent[]): SessionEvent[] {
  const by = new Map([...first, ...second].map((event) => [event.sequence, event]));
  return [...by.values()].sort((a, b) => a.sequence - b.sequence);
}

/** Ways to move a session on. */
export function useSessionActions(id: string) {
  const path = `${useAccountPath()}/sessions/${id}`;
  const client = useQueryClient();
  const again = () => {
    client.invalidateQueries({ queryKey: [NOUN] });
  };
  return {
    send: useMutation({
      mutationFn: (message: string) => post<AgentSession>(`${path}:send`, { message }),
      onSuccess: (session) => client.setQueryData([NOUN, path], session),
    }),
    cancel: useMutation({ mutationFn: () => post(`${path}:cancel`), onSuccess: again }),
    discard: useMutation({ mutationFn: () => remove(path), onSuccess: again }),
  };
}

export function useStartSession() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { instruction: string; displayName?: string }) =>
      post<AgentSession>(`${account}/sessions`, body),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useReport(session: AgentSession | undefined) {
  const path = `${useAccountPath()}/sessions/${session?.name.split("/").pop()}/report`;
  return useQuery({
    queryKey: [NOUN, path],
    enabled: !!session?.reportUrl,
    queryFn: async ({ signal }) => {
      const answer = await fetch(path, { signal, credentials: "same-origin" });
      if (!answer.ok) throw new Error(`The report could not be read (${answer.status}).`);
      return { path, text: await answer.text() };
    },
  });
}
