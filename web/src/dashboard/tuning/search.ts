// What of an SFT or DPO job is shown stands in the URL.
export const TABS = ["summary", "samples", "rows", "options", "logs"] as const;
export type TuningTab = (typeof TABS)[number];

export interface TuningSearch {
  tab?: TuningTab;
  /** Number of the render sample, from 0. */
  sample?: number;
  /** Step whose held-out rows are shown. */
  step?: string;
}

export function parseTuningSearch(raw: Record<string, unknown>): TuningSearch {
  const sample = Number(raw.sample);
  return {
    tab: TABS.find((tab) => tab === raw.tab),
    sample: raw.sample !== undefined && Number.isInteger(sample) && sample >= 0 ? sample : undefined,
    step: raw.step !== undefined && /^\d+$/.test(String(raw.step)) ? String(raw.step) : undefined,
  };
}
