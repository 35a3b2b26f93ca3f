// Lines of a log: numbered, virtualised, filtered by level, searched forwards and backwards, following what comes.
import { useVirtualizer } from "@tanstack/react-virtual";
import { clsx } from "clsx";
import { ArrowDownToLine, ChevronDown, ChevronUp, Maximize2, Minimize2, WrapText } from "lucide-react";
import { type ReactNode, useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { Button, IconButton } from "./Button";
import { Input, Select } from "./Field";
import { bytes, count } from "./figures";
import { filterLines, findLines, LEVELS, type LogLevel, type LogLine, plain } from "./logs";
import { Empty } from "./Panel";
import { moment } from "./Time";

export type { LogLevel, LogLine } from "./logs";

const INK: Record<LogLevel, string> = {
  DEBUG: "text-ink-faint",
  INFO: "text-note",
  WARNING: "text-fair",
  ERROR: "text-bad",
};
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const LINE = 22; // pixels

export function LogView(props: {
  lines: readonly LogLine[];
  /** More is coming: follow it, and say so. */
  live?: boolean;
  label: string;
  empty?: ReactNode;
  /** Beside the filters. */
  actions?: ReactNode;
  /** A click on a line's rollout. */
  onRollout?: (rolloutId: string) => void;
  /** CSS height of the lines. */
  height?: string;
}) {
  const { lines } = props;
  const [level, setLevel] = useState<LogLevel>("DEBUG");
  const [source, setSource] = useState("");
  const [search, setSearch] = useState("");
  const [match, setMatch] = useState(0);
  const [wrap, setWrap] = useState(false);
  const [full, setFull] = useState(false);
  const [follow, setFollow] = useState(true);
  const box = useRef<HTMLDivElement>(null);
  const wanted = useDeferredValue(search.trim().toLowerCase());

  const sources = useMemo(() => [...new Set(lines.flatMap((line) => line.source ?? []))].sort(), [lines]);
  const shown = useMemo(() => filterLines(lines, level, source), [lines, level, source]);
  const matches = useMemo(() => findLines(lines, shown, wanted), [lines, shown, wanted]);
  const size = useMemo(() => lines.reduce((sum, line) => sum + line.message.length + 1, 0), [lines]);
  const current = matches.length
    ? matches[((match % matches.length) + matches.length) % matches.length]
    : undefined;

  const virtualizer = useVirtualizer({
    count: shown.length,
    getScrollElement: () => box.current,
    estimateSize: () => LINE,
    overscan: 20,
    // A list without layout (a test, a hidden tab) still shows its first lines.
    initialRect: { width: 800, height: 480 },
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: when lines were added, what is followed is their end
  useEffect(() => {
    if (follow && shown.length) virtualizer.scrollToIndex(shown.length - 1, { align: "end" });
  }, [follow, shown.length, wrap, full]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a search goes where its match is, once
  useEffect(() => {
    if (current === undefined) return;
    setFollow(false);
    virtualizer.scrollToIndex(current, { align: "center" });
  }, [current]);
  useEffect(() => {
    if (!full) return;
    const leave = (event: globalThis.KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      setFull(false);
    };
    window.addEventListener("keydown", leave, true);
    return () => window.removeEventListener("keydown", leave, true);
  }, [full]);

  return (
    <section
      aria-label={props.label}
      className={clsx("flex min-w-0 flex-col bg-surface", full ? "fixed inset-0 z-50" : "rounded-lg border")}
    >
      <div className="flex flex-wrap items-center gap-2 border-b px-3 py-2">
        <Select
          aria-label="Level"
          value={level}
          onChange={(event) => setLevel(event.target.value as LogLevel)}
        >
          {LEVELS.map((one) => (
            <option key={one} value={one}>
              {one === "DEBUG" ? "All levels" : one === "ERROR" ? "ERROR" : `${one} and above`}
            </option>
          ))}
        </Select>
        {sources.length > 1 && (
          <Select aria-label="Source" value={source} onChange={(event) => setSource(event.target.value)}>
            <option value="">All sources</option>
            {sources.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </Select>
        )}
        <div className="flex min-w-0 flex-1 basis-56 items-center gap-1">
          <Input
            type="search"
            aria-label="Search in the log"
            placeholder="Search"
            className="min-w-0 flex-1"
            value={search}
            onChange={(event) => {
              setSearch(event.target.value);
              setMatch(0);
            }}
            onKeyDown={(event) => {
              if (event.key === "Enter") setMatch(match + (event.shiftKey ? -1 : 1));
            }}
          />
          <span className="tabular min-w-16 text-center text-xs text-ink-soft" aria-live="polite">
            {wanted &&
              (matches.length
                ? `${matches.indexOf(current as number) + 1} of ${count(matches.length)}`
                : "no match")}
          </span>
          <IconButton label="Previous match" disabled={!matches.length} onClick={() => setMatch(match - 1)}>
            <ChevronUp size={15} />
          </IconButton>
          <IconButton label="Next match" disabled={!matches.length} onClick={() => setMatch(match + 1)}>
            <ChevronDown size={15} />
          </IconButton>
        </div>
        <div className="flex items-center gap-1">
          {props.actions}
          <IconButton label="Wrap long lines" aria-pressed={wrap} onClick={() => setWrap(!wrap)}>
            <WrapText size={15} className={wrap ? "text-accent-text" : undefined} />
          </IconButton>
          <IconButton label={full ? "Leave full screen" : "Full screen"} onClick={() => setFull(!full)}>
            {full ? <Minimize2 size={15} /> : <Maximize2 size={15} />}
          </IconButton>
        </div>
      </div>
      <div className="flex items-center justify-between gap-2 border-b px-3 py-1 text-xs text-ink-soft">
        <span className="tabular">
          {count(lines.length)} {lines.length === 1 ? "line" : "lines"}, {bytes(size)}
          {shown.length < lines.length && `; ${count(shown.length)} shown`}
          {props.live && (
            <span className="ml-2 inline-flex items-center gap-1.5 text-note">
              <span aria-hidden="true" className="size-1.5 animate-pulse rounded-full bg-current" />
              live
            </span>
          )}
        </span>
        <Button
          small
          kind="quiet"
          icon={<ArrowDownToLine size={13} />}
          disabled={follow || !shown.length}
          onClick={() => setFollow(true)}
        >
          Jump to latest
        </Button>
      </div>
      <div
        ref={box}
        role="log"
        aria-live="off"
        aria-label={`Lines of ${props.label}`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        onWheel={(event) => event.deltaY < 0 && setFollow(false)}
        onTouchMove={() => setFollow(false)}
        onKeyDown={(event) => ["ArrowUp", "PageUp", "Home"].includes(event.key) && setFollow(false)}
        className="relative overflow-auto font-mono text-xs leading-[22px]"
        style={full ? { flex: 1 } : { height: props.height ?? "min(36rem, 65dvh)" }}
      >
        {shown.length === 0 ? (
          <div className="font-sans text-[14px]">
            {lines.length ? (
              <Empty title="No line passes the filter" />
            ) : (
              (props.empty ?? <Empty title="No lines yet" />)
            )}
          </div>
        ) : (
          <div
            style={{
              height: virtualizer.getTotalSize(),
              width: wrap ? "100%" : "max-content",
              minWidth: "100%",
            }}
          >
            <div style={{ transform: `translateY(${virtualizer.getVirtualItems()[0]?.start ?? 0}px)` }}>
              {virtualizer.getVirtualItems().map((item) => {
                const number = shown[item.index] as number;
                const line = lines[number] as LogLine;
                return (
                  <div
                    key={item.key}
                    ref={virtualizer.measureElement}
                    data-index={item.index}
                    className={clsx(
                      "flex gap-3 border-b border-line/60 px-3",
                      item.index === current && "bg-accent-soft",
                    )}
                  >
                    <span className="tabular w-12 shrink-0 text-right text-ink-faint select-none">
                      {number + 1}
                    </span>
                    <Moment at={line.time} />
                    <span className={clsx("w-16 shrink-0", INK[line.level] ?? "text-ink-soft")}>
                      {line.level}
                    </span>
                    {sources.length > 1 && (
                      <span className="hidden w-28 shrink-0 truncate text-ink-faint sm:block">
                        {line.source}
                      </span>
                    )}
                    {line.rolloutId && props.onRollout && (
                      <button
                        type="button"
                        className="h-[22px] max-w-44 shrink-0 truncate text-accent-text underline underline-offset-2"
                        onClick={() => props.onRollout?.(line.rolloutId as string)}
                      >
                        {line.rolloutId}
                      </button>
                    )}
                    <span className={wrap ? "min-w-0 break-words whitespace-pre-wrap" : "whitespace-pre"}>
                      <Marked text={plain(line.message)} wanted={wanted} />
                    </span>
                  </div>
                );
              })}
            </div>
          </div>
        )}
      </div>
    </section>
  );
}

function Moment({ at }: { at: LogLine["time"] }) {
  const date = moment(at);
  if (!date) return <span className="w-[4.5rem] shrink-0" />;
  return (
    <time
      dateTime={date.toISOString()}
      title={`${date.toISOString().replace("T", " ").replace("Z", "")} UTC`}
      className="tabular w-[4.5rem] shrink-0 whitespace-nowrap text-ink-faint"
    >
      {CLOCK.format(date)}
    </time>
  );
}

function Marked({ text, wanted }: { text: string; wanted: string }) {
  if (!wanted) return text;
  const parts: ReactNode[] = [];
  const low = text.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, from)) {
    parts.push(
      text.slice(from, at),
      <mark key={at} className="rounded-sm bg-fair-soft text-fair">
        {text.slice(at, at + wanted.length)}
      </mark>,
    );
    from = at + wanted.length;
  }
  return [...parts, text.slice(from)];
}
