// Times are shown local, with UTC on hover; spans in the largest two units.
import { useSyncExternalStore } from "react";

const SHORT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const BRIEF: Intl.DateTimeFormatOptions = {
  month: "short",
  day: "numeric",
  hour: "numeric",
  minute: "2-digit",
};

/** A moment: an RFC 3339 text, a Date, or Unix seconds. `brief` is for where there is little room: the year only where it is another. */
export function Time({ at, ago, brief }: { at: Moment; ago?: boolean; brief?: boolean }) {
  const now = useNow(ago ? 30_000 : null);
  const date = moment(at);
  if (!date) return <span className="text-ink-faint">none</span>;
  return (
    <time
      dateTime={date.toISOString()}
      title={`${date.toISOString().replace("T", " ").replace("Z", "")} UTC`}
      className="tabular whitespace-nowrap"
    >
      {ago ? since(now - date.getTime()) : brief ? briefly(date) : SHORT.format(date)}
    </time>
  );
}

type Moment = string | number | Date | null | undefined;

/** "Nov 23, 12:14 PM", as the locale writes it. */
export function briefly(date: Date, today = new Date()): string {
  const year = date.getFullYear() === today.getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(undefined, { ...BRIEF, year }).format(date);
}

export function moment(at: Moment): Date | null {
  if (at === null || at === undefined || at === "") return null;
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** "3 min ago", from milliseconds. */
export function since(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds / 1000);
  return seconds < 10 ? "just now" : `${span(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}

/** Seconds as "2 h 5 min". */
export function span(seconds: number): string {
  if (!Number.isFinite(seconds)) return "unknown";
  if (seconds < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} s`;
  const units: [number, string][] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const first = units.findIndex(([size]) => seconds >= size);
  const shown: string[] = [];
  let rest = Math.round(seconds);
  for (const [size, unit] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) shown.push(`${count} ${unit}`);
  }
  return shown.join(" ");
}

const clocks = new Map<number, { subscribe: (wake: () => void) => () => void; now: () => number }>();

/** The present in Unix milliseconds, looked at again every `interval` milliseconds; null: once. */
export function useNow(interval: number | null): number {
  const clock = interval === null ? STILL : (clocks.get(interval) ?? start(interval));
  return useSyncExternalStore(clock.subscribe, clock.now);
}

const LOADED = Date.now();
const STILL = { subscribe: () => () => {}, now: () => LOADED };

function start(interval: number) {
  let now = Date.now();
  const wakes = new Set<() => void>();
  let timer: ReturnType<typeof setInterval> | undefined;
  const clock = {
    subscribe: (wake: () => void) => {
      wakes.add(wake);
      timer ??= setInterval(() => {
        now = Date.now();
        for (const each of wakes) each();
      }, interval);
      return () => {
        wakes.delete(wake);
        if (wakes.size === 0) {
          clearInterval(timer);
          timer = undefined;
        }
      };
    },
    now: () => now,
  };
  clocks.set(interval, clock);
  return clock;
}
