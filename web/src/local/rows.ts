// What the server of `ep logs` tells, as queries. Whatever `/api/watch` announces is read again (live.ts).
import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { get, queryText } from "~/api/http";
import type { ChatMessage } from "~/conversation/messages";
import { filterText, type LocalState } from "./state";

export interface Status {
  code: number;
  message: string;
  details?: Record<string, unknown>[];
}

export interface RowSummary {
  rolloutId: string;
  invocationId: string | null;
  experimentId: string | null;
  runId: string | null;
  rowId: string | null;
  name: string | null;
  model: string | null;
  createdAt: string;
  updatedAt: string;
  rolloutStatus: Status;
  evalStatus: Status | null;
  score: number | null;
  isScoreValid: boolean | null;
  metrics: Record<string, number | null>;
  prompt: string | null;
  answer: string | null;
  turns: number;
}

export interface RowPage {
  rows: RowSummary[];
  total: number;
  matching: number;
  page: number;
  pageSize: number;
}

/** A whole row, as the evaluation stored it: more fields than these, which the JSON view shows. */
export interface EvaluationRow {
  messages?: ChatMessage[];
  tools?: unknown[] | null;
  ground_truth?: unknown;
  rollout_status?: Status;
  eval_metadata?: { name?: string; status?: Status | null; passed?: boolean | null } | null;
  evaluation_result?: {
    score: number;
    is_score_valid?: boolean;
    reason?: string | null;
    error?: string | null;
    metrics?: Record<string, { score: number; is_score_valid?: boolean; reason?: string | null }>;
    agg_score?: number | null;
    standard_error?: number | null;
  } | null;
  input_metadata?: Record<string, unknown>;
  execution_metadata?: Record<string, unknown>;
  [field: string]: unknown;
}

export interface FieldInfo {
  path: string;
  type: "text" | "number" | "boolean" | "date";
  values: (string | number | boolean)[];
}

export interface Cell {
  value: number | null;
  count: number;
  low: number | null;
  high: number | null;
}

export type Key = (string | number | boolean | null)[];

export interface Pivot {
  rows: Key[];
  columns: Key[];
  cells: (Cell | null)[][];
  rowTotals: Cell[];
  columnTotals: Cell[];
  grandTotal: Cell;
}

export interface Pair {
  rowId: string;
  name?: string;
  left: number;
  right: number;
  difference: number;
  leftIds: string[];
  rightIds: string[];
  prompt: string | null;
}

export interface Comparison {
  pairs: Pair[];
  total: number;
  summary: {
    n: number;
    wins: number;
    losses: number;
    ties: number;
    meanLeft: number | null;
    meanRight: number | null;
    difference: number | null;
    low: number | null;
    high: number | null;
    p: number | null;
    test: string | null;
  };
  unpaired: { left: number; right: number };
}

export interface Invocation {
  invocationId: string;
  names: string[];
  models: string[];
  createdAt: string;
  rollouts: number;
  running: number;
  aborted: number;
  failed: number;
  valid: number;
  meanScore: number | null;
}

export interface Model {
  model: string;
  rollouts: number;
  valid: number;
  meanScore: number | null;
  latest: string;
}

export interface LogLine {
  "@timestamp": string;
  level: string;
  message: string;
  logger_name?: string;
  status_code?: number | null;
  status_message?: string | null;
}

export function useRows(state: LocalState) {
  const query = {
    filterConfig: filterText(state.filterConfig),
    sortField: state.sortConfig.sortField,
    sortDirection: state.sortConfig.sortDirection,
    page: state.paginationConfig.currentPage,
    pageSize: state.paginationConfig.pageSize,
  };
  return useQuery({
    queryKey: ["rows", query],
    queryFn: ({ signal }) => get<RowPage>("/api/rows", query, signal),
    placeholderData: keepPreviousData,
  });
}

export function useRow(rolloutId: string) {
  return useQuery({
    queryKey: ["row", rolloutId],
    queryFn: ({ signal }) =>
      get<EvaluationRow>(`/api/rows/${encodeURIComponent(rolloutId)}`, undefined, signal),
  });
}

export function useFields() {
  return useQuery({
    queryKey: ["fields"],
    queryFn: ({ signal }) => get<{ fields: FieldInfo[] }>("/api/fields", undefined, signal),
    select: (answer) => answer.fields,
    staleTime: 60_000,
  });
}

export function usePivot({ filterConfig, pivotConfig }: LocalState) {
  const passing = pivotConfig.selectedAggregator === "pass@k";
  const query = {
    filterConfig: filterText(filterConfig),
    rows: JSON.stringify(pivotConfig.selectedRowFields),
    columns: JSON.stringify(pivotConfig.selectedColumnFields),
    value: pivotConfig.selectedValueField,
    aggregator: pivotConfig.selectedAggregator,
    k: passing ? pivotConfig.k : null,
    threshold: passing ? pivotConfig.threshold : null,
  };
  return useQuery({
    queryKey: ["pivot", query],
    queryFn: ({ signal }) => get<Pivot>("/api/pivot", query, signal),
    placeholderData: keepPreviousData,
  });
}

const PAIRS = 200;

/** Pairs in portions, the most different first. */
export function useComparison({ filterConfig, compareConfig: { by, left, right } }: LocalState) {
  const query = { filterConfig: filterText(filterConfig), by, left, right, pageSize: PAIRS };
  return useInfiniteQuery({
    queryKey: ["compare", query],
    queryFn: ({ signal, pageParam }) =>
      get<Comparison>("/api/compare", { ...query, page: pageParam }, signal),
    initialPageParam: 1,
    getNextPageParam: (last, _, page) => (page * PAIRS < last.total ? page + 1 : undefined),
    enabled: left !== "" && right !== "" && left !== right,
  });
}

export function useInvocations() {
  return useQuery({
    queryKey: ["invocations"],
    queryFn: ({ signal }) => get<{ invocations: Invocation[] }>("/api/invocations", { limit: 1000 }, signal),
    select: (answer) => answer.invocations,
  });
}

export function useModels() {
  return useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => get<{ models: Model[] }>("/api/models", undefined, signal),
    select: (answer) => answer.models,
  });
}

/** Log lines of a rollout, the newest `limit`. */
export function useLogs(rolloutId: string, limit: number) {
  return useQuery({
    queryKey: ["logs", rolloutId, limit],
    queryFn: ({ signal }) =>
      get<{ logs: LogLine[]; total: number }>(
        `/api/logs/${encodeURIComponent(rolloutId)}`,
        { limit },
        signal,
      ),
    placeholderData: keepPreviousData,
  });
}

export function exportAddress(form: "jsonl" | "csv", state: LocalState): string {
  return `/api/export${queryText({ format: form, filterConfig: filterText(state.filterConfig) })}`;
}
