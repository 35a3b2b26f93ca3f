// The logs of a job: what its processes wrote, what agents posted, what happened to it; live while it runs.
import { useEffect, useMemo, useRef, useState } from "react";
import { unfinished } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import { type RftJob, useRftLogs } from "~/api/reinforcementFineTuningJobs";
import type { RftLogLine } from "~/api/rft";
import { useWatch } from "~/api/watch";
import { LogView } from "~/design/LogView";
import { Empty, Loaded } from "~/design/Panel";

const COLLECT = 200; // milliseconds

export function LogsTab({ job, onRollout }: { job: RftJob; onRollout: (rolloutId: string) => void }) {
  const id = shortId(job.name);
  const live = unfinished(job.state);
  const read = useRftLogs(id);
  const fresh = useFreshLines(live ? `logs/${job.name}` : null);
  const lines = useMemo(() => {
    if (!fresh.length) return read.data ?? [];
    const known = new Set((read.data ?? []).map((line) => line.position));
    return [...(read.data ?? []), ...fresh.filter((line) => !known.has(line.position))];
  }, [read.data, fresh]);
  return (
    <Loaded query={read} what="The logs" lines={10}>
      {() => (
        <LogView
          label="Logs of the job"
          lines={lines}
          live={live}
          onRollout={onRollout}
          height="min(44rem, 68dvh)"
          empty={
            <Empty title="No lines yet">
              {live
                ? "They appear as the job's processes write them."
                : "The processes of this job wrote nothing."}
            </Empty>
          }
        />
      )}
    </Loaded>
  );
}

/** Lines that came by the stream, each position once. */
function useFreshLines(topic: string | null): RftLogLine[] {
  const [lines, setLines] = useState<RftLogLine[]>([]);
  const kept = useRef<RftLogLine[]>([]);
  const seen = useRef(new Set<string | number>());
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  useWatch(topic, ({ data }) => {
    for (const line of data.lines as RftLogLine[]) {
      if (seen.current.has(line.position)) continue;
      seen.current.add(line.position);
      kept.current.push(line);
    }
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      const more = kept.current;
      kept.current = [];
      setLines((before) => [...before, ...more]);
    }, COLLECT);
  });
  return lines;
}
