// Steering a running RFT job, and going back in one (docs/reference/dashboard.md, "Control of a running RFT job").
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { get, post } from "./http";
import { shortId } from "./names";
import { RFT_JOBS, type RftJob, rftJobKey } from "./reinforcementFineTuningJobs";
import type { EvaluationRow, RolloutQuery, RolloutSummary } from "./rft";

interface ControlRequest {
  paused?: boolean;
  /** Go on for so many steps, then pause. */
  steps?: number;
  /** null: the job's own again. */
  learningRate?: number | null;
  evaluatorVersion?: number | null;
  autoEvaluatorVersion?: boolean;
}

export function useControl(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}`;
  const client = useQueryClient();
  return useMutation({
    mutationFn: (request: ControlRequest) => post<RftJob>(`${path}:control`, request),
    onSuccess: (job) => client.setQueryData([...rftJobKey(id)], job),
  });
}

/** A new job that begins as this one was at policy version `version`. */
export function useRewind(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}`;
  const client = useQueryClient();
  return useMutation({
    mutationFn: (version: number) => post<RftJob>(`${path}:rewind`, { version }),
    // Nobody waits for the lists to be read again.
    onSuccess: (job) => {
      client.setQueryData([...rftJobKey(shortId(job.name))], job);
      client.invalidateQueries({ queryKey: [RFT_JOBS] });
    },
  });
}

export interface Promoted {
  model: string;
  version: number;
}

/** Serve a policy version by the name of the job's model, or under a name of its own. */
export function usePromote(id: string) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}`;
  const client = useQueryClient();
  return useMutation({
    mutationFn: (request: { version: number; model?: string }) => post<Promoted>(`${path}:promote`, request),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: ["models"] });
      // The job says which version its model serves.
      client.invalidateQueries({ queryKey: rftJobKey(id) });
    },
  });
}

export type WholeRollout = RolloutSummary & { row?: EvaluationRow };

/** Rollouts with their rows: answers are whole, where summaries cut them. */
export function useWholeRollouts(id: string, query: RolloutQuery, enabled = true) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}/rollouts`;
  return useQuery({
    queryKey: [...rftJobKey(id), "rollouts", "whole", query],
    queryFn: async ({ signal }) => (await get<{ rollouts: WholeRollout[] }>(path, query, signal)).rollouts,
    enabled,
    // The drawings of the step before stay until the next ones are there.
    placeholderData: keepPreviousData,
  });
}
