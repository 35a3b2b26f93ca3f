// What of an RFT job is shown stands in the URL: tab, epoch, step, filters, order, page, and the rollout that is open.
import type { RolloutQuery } from "~/api/rft";

export const TABS = ["summary", "epoch", "audit", "logs", "options"] as const;
export type JobTab = (typeof TABS)[number];

export interface JobSearch {
  tab?: JobTab;
  epoch?: number;
  /** Chunk of the run; absent: all steps of the epoch. */
  step?: number;
  /** Held-out rollouts instead of those that were trained on. */
  kind?: "evaluation";
  view?: "table" | "chart";
  min?: number;
  max?: number;
  valid?: boolean;
  contains?: string;
  /** `score`, `-score` (descending), ... */
  sort?: string;
  /** From 1. */
  page?: number;
  rollout?: string;
  /** Span of the moving average of the Summary's curves. */
  smoothing?: number;
}

export const PAGE_SIZE = 25;
export const SMOOTHINGS = [0, 5, 10, 20, 50] as const;

/**
 * A URL's query as a search, without what it cannot mean: an old or wrong link shows the page, not an error. Such a key is
 * undefined, not left out: the router would put what stands in the URL in its place.
 */
export function parseJobSearch(raw: Record<string, unknown>): JobSearch {
  return {
    tab: TABS.find((tab) => tab === raw.tab),
    epoch: whole(raw.epoch),
    step: whole(raw.step),
    kind: raw.kind === "evaluation" ? "evaluation" : undefined,
    view: raw.view === "table" || raw.view === "chart" ? raw.view : undefined,
    min: number(raw.min),
    max: number(raw.max),
    valid:
      raw.valid === true || raw.valid === "true"
        ? true
        : raw.valid === false || raw.valid === "false"
          ? false
          : undefined,
    contains: text(raw.contains),
    sort: text(raw.sort),
    page: whole(raw.page),
    rollout: text(raw.rollout),
    smoothing: SMOOTHINGS.find((span) => span === number(raw.smoothing)),
  };
}

/** What the server is asked for. */
export function rolloutQuery(search: JobSearch): RolloutQuery {
  const sort = search.sort ?? "";
  return {
    kind: search.kind ?? "train",
    epoch: search.kind === "evaluation" ? undefined : (search.epoch ?? 0),
    step: search.step,
    minScore: search.min,
    maxScore: search.max,
    valid: search.valid,
    contains: search.contains,
    orderBy: sort.startsWith("-") ? `${sort.slice(1)} desc` : sort || undefined,
    pageSize: PAGE_SIZE,
    offset: ((search.page ?? 1) - 1) * PAGE_SIZE || undefined,
  };
}

function whole(value: unknown): number | undefined {
  const found = number(value);
  return found !== undefined && Number.isInteger(found) && found >= 0 ? found : undefined;
}

function number(value: unknown): number | undefined {
  if (typeof value !== "number" && (typeof value !== "string" || !value.trim())) return undefined;
  const found = Number(value);
  return Number.isFinite(found) ? found : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" ? String(value) || undefined : undefined;
}
