// What changed in a text: a unified diff in colour, in two columns where there is room. Signs stand beside the colours.
import { clsx } from "clsx";
import { useMemo } from "react";
import { type DiffLine, pairLines, readDiff } from "./unified";

const SOFT = { hunk: "bg-sunken text-ink-faint", same: "", added: "bg-good-soft", removed: "bg-bad-soft" };
const SIGN = { hunk: "", same: " ", added: "+", removed: "−" };
const ROW = "grid font-mono text-xs leading-5";
const TEXT = "px-2 break-words whitespace-pre-wrap";
const NUMBER = "tabular px-1.5 text-right text-ink-faint select-none";

/** `diff`: unified; null: not text (or too large to compare). `name` is read aloud. */
export function Diff({ diff, name, className }: { diff: string | null; name: string; className?: string }) {
  const lines = useMemo(() => readDiff(diff ?? ""), [diff]);
  if (diff === null) return <p className="p-3 text-ink-soft">This file is not text: nothing to compare.</p>;
  if (lines.length === 0) return <p className="p-3 text-ink-soft">Nothing changed.</p>;
  return (
    <figure aria-label={`Changes of ${name}`} className={clsx("@container min-w-0 overflow-auto", className)}>
      <div className="@3xl:hidden">
        {lines.map((line, at) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: lines of a diff never change places
          <div key={at} className={clsx(ROW, "grid-cols-[3rem_3rem_1.25rem_minmax(0,1fr)]", SOFT[line.kind])}>
            <span className={NUMBER}>{line.before}</span>
            <span className={NUMBER}>{line.after}</span>
            <Sign kind={line.kind} />
            <span className={TEXT}>{line.text}</span>
          </div>
        ))}
      </div>
      <div className="hidden @3xl:block">
        {pairLines(lines).map(([left, right], at) =>
          left?.kind === "hunk" ? (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines of a diff never change places
            <div key={at} className={clsx(ROW, SOFT.hunk)}>
              <span className={TEXT}>{left.text}</span>
            </div>
          ) : (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines of a diff never change places
            <div key={at} className={clsx(ROW, "grid-cols-2")}>
              <Half line={left} number={left?.before ?? null} />
              <Half line={right} number={right?.after ?? null} className="border-l" />
            </div>
          ),
        )}
      </div>
    </figure>
  );
}

function Half(props: { line: DiffLine | null; number: number | null; className?: string }) {
  return (
    <div
      className={clsx(
        "grid min-w-0 grid-cols-[3rem_1.25rem_minmax(0,1fr)]",
        props.line ? SOFT[props.line.kind] : "bg-sunken",
        props.className,
      )}
    >
      <span className={NUMBER}>{props.number}</span>
      {props.line && <Sign kind={props.line.kind} />}
      {props.line && <span className={TEXT}>{props.line.text}</span>}
    </div>
  );
}

function Sign({ kind }: { kind: DiffLine["kind"] }) {
  const tone = kind === "added" ? "text-good" : kind === "removed" ? "text-bad" : "";
  return <span className={clsx("text-center select-none", tone)}>{SIGN[kind]}</span>;
}
