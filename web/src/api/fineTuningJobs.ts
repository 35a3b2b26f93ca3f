// What jobs of all kinds have in common: starting one, checking its options, estimating it, and the newest of each kind.
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { get, post, queryText } from "./http";
import type { components } from "./schema";

export type RftJob = components["schemas"]["RftJob"];
export type SftJob = components["schemas"]["SftJob"];
export type DpoJob = components["schemas"]["DpoJob"];
export type JobKind = "rft" | "sft" | "dpo";

/** The collection of each kind as the API's paths spell it, which is also what query keys begin with. */
export const JOB_NOUN = {
  rft: "reinforcementFineTuningJobs",
  sft: "supervisedFineTuningJobs",
  dpo: "dpoJobs",
} as const;

/** Where the page of a job is, below `/dashboard/fine-tuning/`. */
export const JOB_PATH = { rft: "reinforcement", sft: "supervised", dpo: "dpo" } as const;

const JOB_ID = {
  rft: "reinforcementFineTuningJobId",
  sft: "supervisedFineTuningJobId",
  dpo: "dpoJobId",
} as const;

/** Whether a job goes on, waits or is being ended: its state will still change. */
export function unfinished(state: string): boolean {
  return /PENDING|VALIDATING|RUNNING|PAUSED|CANCELLING|DELETING/.test(state);
}

export interface AnyJob {
  kind: JobKind;
  name: string;
  displayName?: string;
  state: string;
  createTime: string;
  completedTime?: string;
  baseModel?: string;
  outputModel?: string;
  percent: number;
  /** The run's latest figures. */
  run: Record<string, unknown>;
}

/** The newest jobs of all kinds, newest first. */
export function useNewestJobs(most: number) {
  const account = useAccountPath();
  const list = (kind: JobKind) => ({
    queryKey: [JOB_NOUN[kind], "newest", most],
    queryFn: () =>
      get<Record<string, (RftJob | SftJob | DpoJob)[]>>(`${account}/${JOB_NOUN[kind]}`, {
        pageSize: most,
      }).then((page) => (page[JOB_NOUN[kind]] ?? []).map((job) => summary(kind, job))),
  });
  const rft = useQuery(list("rft"));
  const sft = useQuery(list("sft"));
  const dpo = useQuery(list("dpo"));
  const queries = [rft, sft, dpo];
  const known = queries.every((query) => query.data);
  return {
    data: known
      ? queries
          .flatMap((query) => query.data ?? [])
          .sort((a, b) => b.createTime.localeCompare(a.createTime))
          .slice(0, most)
      : undefined,
    error: queries.find((query) => query.error)?.error ?? null,
    isPending: queries.some((query) => query.isPending),
    refetch: () => {
      for (const query of queries) query.refetch();
    },
  };
}

function summary(kind: JobKind, job: RftJob | SftJob | DpoJob): AnyJob {
  const options = ("trainingConfig" in job ? job.trainingConfig : job) as {
    baseModel?: string;
    outputModel?: string;
  };
  return {
    kind,
    name: job.name,
    displayName: job.displayName ?? undefined,
    state: job.state,
    createTime: job.createTime,
    completedTime: job.completedTime ?? undefined,
    baseModel: options.baseModel,
    outputModel: options.outputModel,
    percent: job.jobProgress.percent,
    run: job.run ?? {},
  };
}

/** Mean score by step of an RFT job, for a small curve. */
export function useRewardCurve(name: string, live: boolean) {
  return useQuery({
    queryKey: [JOB_NOUN.rft, name, "curve"],
    queryFn: async () => {
      const answer = await get<{ events: { kind: string; mean_score?: number | null }[] }>(
        `/v1/${name}/metrics`,
      );
      return answer.events.flatMap((event) =>
        event.kind === "chunk" && typeof event.mean_score === "number" ? [event.mean_score] : [],
      );
    },
    staleTime: live ? 5_000 : 300_000,
  });
}

export interface Estimate {
  steps: number;
  rollouts: number;
  promptTokens: { low: number; high: number };
  sampledTokens: number | { low: number; high: number };
  trainedTokens: number | { low: number; high: number };
  seconds: { low: number; high: number };
  cost: { low: number; high: number; currency: string } | null;
  assumptions: string[];
}

export type JobBody = Record<string, unknown>;

/** What a job with this body would take; null: not enough is known to ask. */
export function useEstimate(kind: JobKind, body: JobBody | null) {
  const path = `${useAccountPath()}/${JOB_NOUN[kind]}:estimate`;
  return useQuery({
    queryKey: ["estimate", kind, body],
    queryFn: () => post<Estimate>(path, body),
    enabled: body !== null,
    placeholderData: keepPreviousData,
    retry: false,
  });
}

/** Has the server check the options; its error names what is wrong. null: not enough is known to ask. */
export function useValidation(kind: JobKind, body: JobBody | null) {
  const path = `${useAccountPath()}/${JOB_NOUN[kind]}:validate`;
  return useQuery({
    queryKey: ["validate", kind, body],
    queryFn: () => post(path, body),
    enabled: body !== null,
    retry: false,
  });
}

export function useStartJob(kind: JobKind) {
  const path = `${useAccountPath()}/${JOB_NOUN[kind]}`;
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, body }: { id: string; body: JobBody }) =>
      post<{ name: string }>(path + queryText({ [JOB_ID[kind]]: id }), body),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [JOB_NOUN[kind]] });
    },
  });
}

/** One job of a kind, as the API shows it. */
export function useJob(kind: JobKind, id: string) {
  const path = `${useAccountPath()}/${JOB_NOUN[kind]}/${id}`;
  return useQuery({
    queryKey: [JOB_NOUN[kind], id],
    queryFn: () => get<RftJob | SftJob | DpoJob>(path),
    enabled: id !== "",
  });
}
