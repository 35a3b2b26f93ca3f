// SFT and DPO jobs: one of them live, its metrics, and the files of its run. Files are read by signed URLs of the job; only their
// path is used, so that they come from the server that this page came from, under whatever name it is called.
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { type DpoJob, JOB_NOUN, type SftJob, unfinished, useJob } from "./fineTuningJobs";
import { post, problem, remove } from "./http";
import { useWatch } from "./watch";

export type TuningKind = "sft" | "dpo";
export type TuningJob = SftJob | DpoJob;

/** A line of `metrics.jsonl`: of an optimizer step, or (with `eval_loss`) of an evaluation. Fields: docs/reference/training.md. */
export type TuningLine = { step: number; epoch: number } & Record<string, number | null | undefined>;

export interface RenderSample {
  source_jsonl_line_number: number;
  split_index: number;
  train_on_what: string;
  decoded_tokens: string[];
  token_ids: number[];
  token_weights: number[];
}

/** What a held-out row said at a step; of a pair that was dropped all is null. */
export type HeldOutRow = {
  nats?: number | null;
  tokens?: number;
  bytes?: number;
  loss?: number | null;
  margin?: number | null;
};

/** The training options of both kinds: at the top of an SFT job, in `trainingConfig` of a DPO job. */
export function optionsOf(job: TuningJob): Record<string, unknown> {
  return "trainingConfig" in job ? job.trainingConfig : { ...job };
}

/** A job of either kind, kept up to date by the stream while it goes on. */
export function useTuningJob(kind: TuningKind, id: string) {
  const client = useQueryClient();
  const query = useJob(kind, id);
  const job = query.data as TuningJob | undefined;
  useWatch(job && unfinished(job.state) ? `jobs/${job.name}` : null, ({ kind: event, data }) => {
    if (event === "job") client.setQueryData([JOB_NOUN[kind], id], data.job);
    else if (event === "end") client.invalidateQueries({ queryKey: [JOB_NOUN[kind], id] });
    else if (event === "metrics")
      client.setQueryData<TuningLine[]>([JOB_NOUN[kind], id, "metrics"], (lines) =>
        lines ? withLine(lines, data.line) : lines,
      );
  });
  return { ...query, data: job };
}

/** The lines with one more, once: a new stream tells all of them again. */
export function withLine(lines: TuningLine[], line: TuningLine): TuningLine[] {
  const evaluation = "eval_loss" in line;
  const known = lines.some((one) => one.step === line.step && "eval_loss" in one === evaluation);
  return known ? lines : [...lines, line];
}

export function useTuningMetrics(kind: TuningKind, id: string, job: TuningJob | undefined) {
  const url = job?.metricsFileSignedUrl;
  return useQuery({
    queryKey: [JOB_NOUN[kind], id, "metrics"],
    enabled: !!url,
    queryFn: async ({ signal }) => jsonLines<TuningLine>(await textOf(url ?? "", signal)),
  });
}

export function useRenderSamples(kind: TuningKind, id: string, job: TuningJob) {
  const url = job.renderSamplesSignedUrl;
  return useQuery({
    queryKey: [JOB_NOUN[kind], id, "renderSamples"],
    enabled: !!url,
    queryFn: async ({ signal }) => jsonLines<RenderSample>(await textOf(url ?? "", signal)),
  });
}

export function useTrainerLog(kind: TuningKind, id: string, job: TuningJob) {
  const url = job.trainerLogsSignedUrl;
  return useQuery({
    queryKey: [JOB_NOUN[kind], id, "log", job.updateTime],
    enabled: !!url,
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => textOf(url ?? "", signal),
  });
}

export function useHeldOutRows(kind: TuningKind, id: string, job: TuningJob, step: string | undefined) {
  const url = step === undefined ? undefined : job.evaluationRowsSignedUrls[step];
  return useQuery({
    queryKey: [JOB_NOUN[kind], id, "evaluationRows", step],
    enabled: !!url,
    queryFn: async ({ signal }) =>
      (JSON.parse(await textOf(url ?? "", signal)) as { step: number; rows: HeldOutRow[] }).rows,
  });
}

export function useTuningActions(kind: TuningKind, id: string) {
  const path = `${useAccountPath()}/${JOB_NOUN[kind]}/${id}`;
  const client = useQueryClient();
  const again = () => {
    client.invalidateQueries({ queryKey: [JOB_NOUN[kind]] });
  };
  return {
    cancel: useMutation({ mutationFn: () => post(`${path}:cancel`), onSuccess: again }),
    resume: useMutation({ mutationFn: () => post(`${path}:resume`), onSuccess: again }),
    discard: useMutation({ mutationFn: () => remove(path), onSuccess: again }),
  };
}

/** Address of a signed file on the server of this page. */
function fileAddress(signedUrl: string): string {
  const url = new URL(signedUrl, window.location.href);
  return url.pathname + url.search;
}

async function textOf(signedUrl: string, signal: AbortSignal): Promise<string> {
  const answer = await fetch(fileAddress(signedUrl), { signal, credentials: "same-origin" });
  if (!answer.ok) throw await problem(answer);
  return answer.text();
}

/** Whole lines only: the file may be growing while it is read. */
export function jsonLines<T>(text: string): T[] {
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => JSON.parse(line) as T);
}
