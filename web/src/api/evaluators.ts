// Evaluators: the list, one, its versions, source, differences and what it scored.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { collect } from "./collection";
import { get, post, remove } from "./http";
import type { components } from "./schema";

export type Evaluator = components["schemas"]["Evaluator"];

export interface EvaluatorVersion {
  name: string;
  version: number;
  origin: "upload" | "edit";
  message: string;
  state: string;
  status: { code: string; message: string };
  entryPoint?: string;
  createTime: string;
  updateTime: string;
  current: boolean;
  buildLog?: string;
}
export interface SourceFile {
  path: string;
  size: number;
  /** null: not UTF-8, or larger than 256 KiB. */
  text: string | null;
}
export interface FileDifference {
  path: string;
  status: "added" | "removed" | "changed";
  diff: string | null;
}
export interface EvaluatorResult {
  kind: "evaluation" | "rft";
  job: string;
  evaluatorVersion: number;
  model: string | null;
  meanScore: number | null;
  rollouts: number;
  invalid: number;
  time: string;
}

const NOUN = "evaluators";

export function useEvaluators() {
  const account = useAccountPath();
  return useQuery({
    queryKey: [NOUN],
    queryFn: () => collect<Evaluator>(`${account}/evaluators`, "evaluators"),
  });
}

export function useEvaluator(id: string) {
  const path = `${useAccountPath()}/evaluators/${id}`;
  return useQuery({ queryKey: [NOUN, id], queryFn: () => get<Evaluator>(path), enabled: id !== "" });
}

export function useEvaluatorVersions(id: string) {
  const path = `${useAccountPath()}/evaluators/${id}/versions`;
  return useQuery({
    queryKey: [NOUN, id, "versions"],
    queryFn: async () => (await get<{ evaluatorVersions: EvaluatorVersion[] }>(path)).evaluatorVersions,
    enabled: id !== "",
  });
}

/** One version, with its build log. */
export function useEvaluatorVersion(id: string, version: number | undefined) {
  const path = `${useAccountPath()}/evaluators/${id}/versions/${version}`;
  return useQuery({
    queryKey: [NOUN, id, "versions", version],
    queryFn: () => get<EvaluatorVersion>(path),
    enabled: id !== "" && !!version,
  });
}

export function useEvaluatorSource(id: string, version: number | undefined) {
  const path = `${useAccountPath()}/evaluators/${id}/versions/${version}/source`;
  return useQuery({
    queryKey: [NOUN, id, "versions", version, "source"],
    queryFn: async () => (await get<{ files: SourceFile[] }>(path)).files,
    enabled: id !== "" && !!version,
  });
}

/** What changed from version `base` to `version`. */
export function useEvaluatorDifference(id: string, version: number | undefined, base: number | undefined) {
  const path = `${useAccountPath()}/evaluators/${id}/versions/${version}/diff`;
  return useQuery({
    queryKey: [NOUN, id, "versions", version, "diff", base],
    queryFn: async () => (await get<{ files: FileDifference[] }>(path, { base })).files,
    enabled: id !== "" && !!version && !!base && version !== base,
  });
}

export function useEvaluatorResults(id: string) {
  const path = `${useAccountPath()}/evaluators/${id}/results`;
  return useQuery({
    queryKey: [NOUN, id, "results"],
    queryFn: async () => (await get<{ results: EvaluatorResult[] }>(path)).results,
    enabled: id !== "",
  });
}

interface EvaluatorEdit {
  baseVersion: number;
  /** Text by path; null removes a file. */
  files: Record<string, string | null>;
  message: string;
}

/** Save changed files as the next version, which is built at once. */
export function useEditEvaluator(id: string) {
  const path = `${useAccountPath()}/evaluators/${id}:edit`;
  const client = useQueryClient();
  return useMutation({
    mutationFn: (edit: EvaluatorEdit) => post<EvaluatorVersion>(path, edit),
    onSuccess: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

export function useDeleteEvaluator() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => remove(`${account}/evaluators/${id}`),
    onSuccess: () => {
      // Only the list: the page of what is gone would ask for it once more.
      client.invalidateQueries({ queryKey: [NOUN], exact: true });
    },
  });
}
