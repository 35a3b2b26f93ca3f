// What was logged while a rollout ran, live: newest at the end, followed until someone scrolls up.
import { clsx } from "clsx";
import { ArrowDownToLine } from "lucide-react";
import { useLayoutEffect, useRef, useState } from "react";
import { Button } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { Input, Select } from "~/design/Field";
import { Loaded } from "~/design/Panel";
import { type LogLine, useLogs } from "../rows";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const PORTION = 500;
const INK: Record<string, string> = {
  DEBUG: "text-ink-faint",
  INFO: "text-note",
  WARNING: "text-fair",
  ERROR: "text-bad",
  CRITICAL: "text-bad",
};

export function RolloutLogs({ rolloutId, running }: { rolloutId: string; running: boolean }) {
  const [level, setLevel] = useState("");
  const [words, setWords] = useState("");
  const [limit, setLimit] = useState(PORTION);
  const query = useLogs(rolloutId, level, limit);
  return (
    <div className="space-y-2">
      <div className="flex flex-wrap items-center gap-2">
        <Select aria-label="Least level" value={level} onChange={(event) => setLevel(event.target.value)}>
          <option value="">All levels</option>
          {LEVELS.map((each) => (
            <option key={each} value={each}>
              {each} and above
            </option>
          ))}
        </Select>
        <Input
          type="search"
          aria-label="Search in the lines"
          placeholder="Search"
          value={words}
          onChange={(event) => setWords(event.target.value)}
        />
        {running && <span className="text-xs text-note">New lines appear as they are logged.</span>}
      </div>
      <Loaded query={query} what="The logs">
        {({ logs }) => {
          const shown = words
            ? logs.filter((line) => line.message.toLowerCase().includes(words.toLowerCase()))
            : logs;
          return (
            <>
              {logs.length >= limit && limit < 10_000 && (
                <Button small onClick={() => setLimit(Math.min(10_000, limit * 4))}>
                  Show older lines
                </Button>
              )}
              <Lines lines={shown} none={logs.length > 0} running={running} />
            </>
          );
        }}
      </Loaded>
    </div>
  );
}

function Lines({ lines, none, running }: { lines: LogLine[]; none: boolean; running: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const [follow, setFollow] = useState(true);
  // biome-ignore lint/correctness/useExhaustiveDependencies: it goes to the end when there are new lines
  useLayoutEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines.length, follow]);
  if (lines.length === 0)
    return (
      <p className="rounded-md border bg-surface px-3 py-6 text-center text-ink-faint">
        {none
          ? "No line matches."
          : running
            ? "Nothing was logged yet."
            : "Nothing was logged while this rollout ran."}
      </p>
    );
  return (
    <div className="relative">
      <div
        ref={box}
        role="log"
        aria-label="Log lines"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        onScroll={({ currentTarget: it }) => setFollow(it.scrollHeight - it.scrollTop - it.clientHeight < 24)}
        className="max-h-96 overflow-auto rounded-md border bg-sunken py-1.5 font-mono text-xs leading-5"
      >
        {lines.map((line, place) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: lines are known by their place
          <div key={place} className="flex gap-3 px-3 hover:bg-surface">
            <span className="tabular shrink-0 text-ink-faint" title={`${line["@timestamp"]} (UTC)`}>
              {new Date(line["@timestamp"]).toLocaleTimeString()}
            </span>
            <span className={clsx("w-16 shrink-0 font-medium", INK[line.level])}>{line.level}</span>
            <span className="min-w-0 whitespace-pre-wrap [overflow-wrap:anywhere]">
              {line.message}
              {line.status_message && <span className="text-ink-faint"> [{line.status_message}]</span>}
            </span>
          </div>
        ))}
      </div>
      <div className="absolute right-2 bottom-2 flex gap-1">
        {!follow && (
          <Button
            small
            icon={<ArrowDownToLine size={13} aria-hidden="true" />}
            onClick={() => setFollow(true)}
          >
            Jump to latest
          </Button>
        )}
        <CopyButton
          label="Copy the lines"
          className="bg-surface"
          text={() => lines.map((line) => `${line["@timestamp"]} ${line.level} ${line.message}`).join("\n")}
        />
      </div>
    </div>
  );
}
