// RFT jobs: types and queries. Keys begin with the noun, so that what changed on the platform is read again.
import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import { useAccountPath } from "~/dashboard/session";
import { get, post, remove } from "./http";
import type {
  RftAudit,
  RftComparison,
  RftLogLine,
  RftMetrics,
  RftPreflight,
  RolloutDetails,
  RolloutQuery,
  RolloutSummary,
} from "./rft";
import type { components } from "./schema";

export const RFT_JOBS = "reinforcementFineTuningJobs";

type Sent = components["schemas"]["RftJob"];

/** The schema's job, with what its open parts hold. */
export interface RftJob extends Omit<Sent, "trainingConfig" | "control" | "run" | "processes" | "preflight"> {
  trainingConfig: {
    baseModel?: string;
    warmStartFrom?: string;
    outputModel?: string;
    epochs?: number;
    learningRate?: number;
    loraRank?: number;
    [field: string]: unknown;
  };
  control: RftControl;
  preflight?: RftPreflight | null;
  run?: RftRun;
  processes: { name?: string; pid?: number; peak_rss_mib?: number }[];
}

/** The run's `status.json`. */
export interface RftRun {
  state?: string;
  message?: string;
  epoch?: number;
  step?: number;
  total_steps?: number;
  percent?: number;
  mean_score?: number | null;
  optimizer_steps?: number;
  version?: number;
  best_version?: number | null;
  best_score?: number | null;
  trained_tokens?: number;
  sampled_tokens?: number;
  cost?: number;
  currency?: string;
  updated?: number;
}

interface RftControl {
  requested: {
    revision: number;
    paused: boolean;
    steps: number | null;
    learningRate: number | null;
    evaluatorVersion: number | null;
    autoEvaluatorVersion: boolean;
  };
  inForce: {
    revision: number;
    step: number | null;
    paused: boolean | null;
    learningRate: number | null;
    evaluatorVersion: number | null;
    message?: string | null;
  } | null;
}

/** Kept fresh by the job's own stream (`useLiveJob`), not read again whenever any job changes. */
const STREAMED = { streamed: true };

export function rftJobKey(id: string) {
  return [RFT_JOBS, id] as const;
}

export function useRftJob(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}`;
  return useQuery({ queryKey: rftJobKey(id), queryFn: () => get<RftJob>(path) });
}

export function useRftMetrics(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}/metrics`;
  return useQuery({
    queryKey: [...rftJobKey(id), "metrics"],
    queryFn: () => get<RftMetrics>(path),
    meta: STREAMED,
  });
}

export function useRollouts(id: string, query: RolloutQuery, enabled = true) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}/rollouts`;
  return useQuery({
    queryKey: [...rftJobKey(id), "rollouts", query],
    queryFn: ({ signal }) =>
      get<{ rollouts: RolloutSummary[]; nextPageToken: string; totalSize: number }>(
        path,
        { ...query, view: "SUMMARY" },
        signal,
      ),
    enabled,
    placeholderData: keepPreviousData,
  });
}

export function useRollout(id: string, rolloutId: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}/rollouts/${encodeURIComponent(rolloutId)}`;
  return useQuery({
    queryKey: [...rftJobKey(id), "rollout", rolloutId],
    queryFn: ({ signal }) => get<RolloutDetails>(path, undefined, signal),
    placeholderData: keepPreviousData,
    meta: STREAMED,
  });
}

/** The lines that a job's logs hold now; they come in pages, shown as they come. */
export function useRftLogs(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}/logs`;
  const query = useInfiniteQuery({
    // Not below the job's key: logs are not read again at each of its changes, the stream brings what is new.
    queryKey: ["logs", ...rftJobKey(id)],
    queryFn: ({ pageParam, signal }) =>
      get<{ lines: RftLogLine[]; nextPageToken?: string }>(
        path,
        { pageSize: 1000, pageToken: pageParam },
        signal,
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    staleTime: 30_000,
    refetchOnWindowFocus: false,
  });
  const { hasNextPage, isFetching, isError, fetchNextPage } = query;
  useEffect(() => {
    if (hasNextPage && !isFetching && !isError) fetchNextPage();
  }, [hasNextPage, isFetching, isError, fetchNextPage]);
  const { data } = query;
  const lines = useMemo(() => data?.pages.flatMap((page) => page.lines), [data]);
  return { ...query, data: lines };
}

export function useRftAudit(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}/audit`;
  return useQuery({
    queryKey: [...rftJobKey(id), "audit"],
    queryFn: () => get<RftAudit>(path),
    meta: STREAMED,
  });
}

export function useRftComparison(ids: readonly string[]) {
  const path = `${useAccountPath()}/${RFT_JOBS}:compare`;
  return useQuery({
    queryKey: [RFT_JOBS, "compare", ids],
    queryFn: () => get<RftComparison>(path, { job: ids }),
    enabled: ids.length > 1,
    placeholderData: keepPreviousData,
  });
}

/** Cancel, resume, remove. */
export function useRftActions(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}`;
  const client = useQueryClient();
  const again = () => client.invalidateQueries({ queryKey: [RFT_JOBS] });
  return {
    cancel: useMutation({ mutationFn: () => post(`${path}:cancel`), onSuccess: again }),
    resume: useMutation({ mutationFn: () => post(`${path}:resume`), onSuccess: again }),
    remove: useMutation({
      mutationFn: () => remove(path),
      onSuccess: () => {
        client.removeQueries({ queryKey: rftJobKey(id) });
        return again();
      },
    }),
  };
}
