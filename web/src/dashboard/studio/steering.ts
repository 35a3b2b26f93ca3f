// What of a run the studio shows: where something was changed, what is in force, and what a build that failed says about the source.
import type { RunEvent } from "~/api/rft";
import type { ChartMark } from "~/design/Chart";
import type { CodeProblem } from "~/design/CodeEditor";
import { figure } from "~/design/figures";

/** Vertical marks of the reward curve: another evaluator version, another learning rate, and where a rewound job took over. */
export function marksOf(events: readonly RunEvent[], rewoundTo?: number | null): ChartMark[] {
  const marks: ChartMark[] = [];
  if (rewoundTo !== null && rewoundTo !== undefined)
    marks.push({ x: rewoundTo, label: `rewound to ${rewoundTo}`, colour: 4 });
  let version: unknown;
  let rate: unknown;
  for (const event of events) {
    if (event.kind !== "chunk" || typeof event.step !== "number") continue;
    const { evaluator_version: nowVersion, learning_rate: nowRate } = event;
    if (version !== undefined && nowVersion !== undefined && nowVersion !== null && nowVersion !== version)
      marks.push({ x: event.step, label: `evaluator ${nowVersion}`, colour: 3 });
    if (rate !== undefined && typeof nowRate === "number" && nowRate !== rate)
      marks.push({ x: event.step, label: `rate ${figure(nowRate)}`, colour: 5 });
    version = nowVersion ?? version;
    rate = typeof nowRate === "number" ? nowRate : rate;
  }
  return marks;
}

/** First step that a version of the evaluator scored; null: none yet. */
export function inForceFrom(events: readonly RunEvent[], version: number): number | null {
  const event = events.find((one) => one.kind === "chunk" && one.evaluator_version === version);
  return typeof event?.step === "number" ? event.step : null;
}

/** Policy versions that held-out rows were scored with, ascending; without any, the steps of training. */
export function versionsOf(events: readonly RunEvent[]): { kind: "evaluation" | "train"; values: number[] } {
  const scored = new Set(
    events.flatMap((event) =>
      event.kind === "evaluation" && typeof event.version === "number" ? [event.version] : [],
    ),
  );
  if (scored.size) return { kind: "evaluation", values: [...scored].sort((a, b) => a - b) };
  const steps = new Set(
    events.flatMap((event) => (event.kind === "chunk" && typeof event.step === "number" ? [event.step] : [])),
  );
  return { kind: "train", values: [...steps].sort((a, b) => a - b) };
}

/** What a build log says about one file, by line; the last line of the log is the message. */
export function problemsIn(log: string, path: string): CodeProblem[] {
  const lines = log.trimEnd().split("\n");
  const message = (lines.findLast((line) => line.trim()) ?? "The build failed.").trim();
  const name = path.split("/").pop() ?? path;
  const found: CodeProblem[] = [];
  for (const line of lines) {
    const at = /File "([^"]+)", line (\d+)/.exec(line) ?? /(?:^|[\s(])([\w./-]+\.py):(\d+)/.exec(line);
    if (at && (at[1] as string).split("/").pop() === name) found.push({ line: Number(at[2]), message });
  }
  return found.slice(-1);
}

/** A learning rate's place on a logarithmic slider from 0 to 1000, and back (two significant digits). */
const RATES = { least: 1e-6, most: 1e-2 };

export function placeOf(rate: number): number {
  const { least, most } = RATES;
  const share = Math.log(Math.min(most, Math.max(least, rate)) / least) / Math.log(most / least);
  return Math.round(share * 1000);
}

export function rateAt(place: number): number {
  const { least, most } = RATES;
  return Number((least * (most / least) ** (place / 1000)).toPrecision(2));
}
