// A job that runs: what its stream tells is put into what was read, so that nothing is asked for twice.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { unfinished } from "~/api/fineTuningJobs";
import { useReadAgain } from "~/api/readAgain";
import { type RftJob, rftJobKey } from "~/api/reinforcementFineTuningJobs";
import type { MetricsLine, RftMetrics, RunEvent } from "~/api/rft";
import { useWatch } from "~/api/watch";

/** Milliseconds for which lines are collected before the page is drawn again: a new stream tells all of them at once. */
const COLLECT = 150;
/** Milliseconds between two readings of what the server reckons from all rollouts. */
const PAUSE = 5000;

/** Keeps what is read of a job fresh while it is not final. */
export function useLiveJob(job: RftJob | undefined, id: string): void {
  const client = useQueryClient();
  const readAgain = useReadAgain();
  const kept = useRef<{ metrics: MetricsLine[]; events: RunEvent[] }>({ metrics: [], events: [] });
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);

  const flush = () => {
    timer.current = undefined;
    const { metrics, events } = kept.current;
    kept.current = { metrics: [], events: [] };
    client.setQueryData<RftMetrics>([...rftJobKey(id), "metrics"], (before) =>
      before ? withLines(before, metrics, events) : before,
    );
  };
  useWatch(job && unfinished(job.state) ? `jobs/${job.name}` : null, ({ kind, data }) => {
    if (kind === "job") client.setQueryData([...rftJobKey(id)], data.job);
    else if (kind === "metrics" || kind === "events") {
      kept.current[kind].push(data.line);
      timer.current ??= setTimeout(flush, COLLECT);
    } else if (kind === "rollouts") {
      client.invalidateQueries({ queryKey: [...rftJobKey(id), "rollouts"] });
      for (const part of ["rollout", "audit"]) readAgain([...rftJobKey(id), part], PAUSE);
    } else if (kind === "end") client.invalidateQueries({ queryKey: [...rftJobKey(id)] });
  });
}

/** Lines added that are not there yet; the same object when there are none. */
export function withLines(before: RftMetrics, metrics: MetricsLine[], events: RunEvent[]): RftMetrics {
  const freshMetrics = unseen(before.metrics, metrics, (line) => String(line.step));
  const freshEvents = unseen(before.events, events, eventKey);
  if (!freshMetrics.length && !freshEvents.length) return before;
  return {
    ...before,
    metrics: [...before.metrics, ...freshMetrics],
    events: [...before.events, ...freshEvents],
  };
}

function unseen<T>(before: readonly T[], lines: readonly T[], key: (line: T) => string): T[] {
  if (!lines.length) return [];
  const seen = new Set(before.map(key));
  return lines.filter((line) => !seen.has(key(line)) && seen.add(key(line)));
}

function eventKey(event: RunEvent): string {
  return [event.kind, event.chunk, event.step, event.version, event.time].join("/");
}
