// Small marks: states, kinds, scores. Colour is never the only carrier: the word stands beside it.
import { clsx } from "clsx";
import type { ReactNode } from "react";

export type Tone = "good" | "fair" | "bad" | "note" | "accent" | "plain";

const SOFT: Record<Tone, string> = {
  good: "bg-good-soft text-good",
  fair: "bg-fair-soft text-fair",
  bad: "bg-bad-soft text-bad",
  note: "bg-note-soft text-note",
  accent: "bg-accent-soft text-accent-text",
  plain: "bg-sunken text-ink-soft",
};
const INK: Record<Tone, string> = {
  good: "text-good",
  fair: "text-fair",
  bad: "text-bad",
  note: "text-note",
  accent: "text-accent-text",
  plain: "text-ink-soft",
};

export function Badge({
  tone = "plain",
  children,
  className,
}: {
  tone?: Tone;
  children: ReactNode;
  className?: string;
}) {
  return (
    <span
      className={clsx(
        "inline-flex items-center gap-1 rounded px-1.5 py-0.5 text-xs font-medium whitespace-nowrap",
        SOFT[tone],
        className,
      )}
    >
      {children}
    </span>
  );
}

/** A state as a dot and a word; a dot that pulses means that it goes on. */
export function StateMark({ tone, live, children }: { tone: Tone; live?: boolean; children: ReactNode }) {
  return (
    <span className={clsx("inline-flex items-center gap-1.5 font-medium whitespace-nowrap", INK[tone])}>
      <span
        aria-hidden="true"
        className={clsx("size-1.5 rounded-full bg-current", live && "animate-pulse")}
      />
      {children}
    </span>
  );
}

const STATE_TONES: Record<string, Tone> = {
  COMPLETED: "good",
  READY: "good",
  ACTIVE: "good",
  SUCCEEDED: "good",
  FINISHED: "good",
  EARLY_STOPPED: "fair",
  CANCELLED: "fair",
  CANCELLING: "fair",
  PAUSED: "fair",
  WAITING: "fair",
  FAILED: "bad",
  BUILD_FAILED: "bad",
  RUNNING: "note",
  VALIDATING: "note",
  BUILDING: "note",
  CREATING: "note",
  UPLOADING: "note",
  UPDATING: "note",
  DELETING: "note",
  PENDING: "plain",
};
const LIVE = new Set([
  "RUNNING",
  "VALIDATING",
  "BUILDING",
  "CREATING",
  "UPLOADING",
  "UPDATING",
  "CANCELLING",
  "DELETING",
]);

/** The state of any resource, as the API names it (`JOB_STATE_RUNNING`, `BUILD_FAILED`, `waiting`, ...). */
export function ResourceState({ state }: { state: string | null | undefined }) {
  const name = (state || "UNKNOWN").replace(/^JOB_STATE_/, "").toUpperCase();
  return (
    <StateMark tone={STATE_TONES[name] ?? "plain"} live={LIVE.has(name)}>
      {name.toLowerCase().replaceAll("_", " ")}
    </StateMark>
  );
}

/** A score from 0 to 1, three decimals; null where there is no valid one. */
export function Score({ value, valid = true }: { value: number | null | undefined; valid?: boolean | null }) {
  if (value === null || value === undefined) return <span className="text-ink-faint">none</span>;
  if (valid === false)
    return (
      <s className="tabular text-ink-faint" title="This score is not valid">
        {value.toFixed(3)}
      </s>
    );
  const tone = value >= 0.8 ? "text-good" : value >= 0.6 ? "text-fair" : "text-bad";
  return <span className={clsx("tabular font-mono font-medium", tone)}>{value.toFixed(3)}</span>;
}
