// What was logged while a rollout ran, live.
import { useMemo, useState } from "react";
import { Button } from "~/design/Button";
import { type LogLevel, LogView } from "~/design/LogView";
import { Empty, Loaded } from "~/design/Panel";
import { useLogs } from "../rows";

const PORTION = 1000;
const LEVELS: Record<string, LogLevel> = {
  DEBUG: "DEBUG",
  WARNING: "WARNING",
  WARN: "WARNING",
  ERROR: "ERROR",
  CRITICAL: "ERROR",
  FATAL: "ERROR",
};

export function RolloutLogs({ rolloutId, running }: { rolloutId: string; running: boolean }) {
  const [limit, setLimit] = useState(PORTION);
  const query = useLogs(rolloutId, limit);
  const lines = useMemo(
    () =>
      (query.data?.logs ?? []).map((line) => ({
        time: line["@timestamp"],
        level: LEVELS[line.level?.toUpperCase()] ?? "INFO",
        source: line.logger_name,
        message: line.status_message ? `${line.message} [${line.status_message}]` : line.message,
      })),
    [query.data],
  );
  return (
    <Loaded query={query} what="The log">
      {() => (
        <LogView
          label={`Log of rollout ${rolloutId}`}
          lines={lines}
          live={running}
          height="24rem"
          empty={
            <Empty title={running ? "Nothing was logged yet" : "Nothing was logged while this rollout ran"}>
              What the evaluation and its agent write with Python's <code className="font-mono">logging</code>{" "}
              appears here.
            </Empty>
          }
          actions={
            lines.length >= limit &&
            limit < 10_000 && (
              <Button small onClick={() => setLimit(Math.min(10_000, limit * 4))}>
                Older lines
              </Button>
            )
          }
        />
      )}
    </Loaded>
  );
}
