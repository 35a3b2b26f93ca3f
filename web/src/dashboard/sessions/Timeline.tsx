// The phases of a session, one below the other: done, at work, waiting for a person, still to come.
import { clsx } from "clsx";
import { Check, CircleDashed, CircleX, Hand, LoaderCircle, Minus } from "lucide-react";
import type { AgentSession, Range } from "~/api/sessions";
import { Panel } from "~/design/Panel";
import { span } from "~/design/Time";
import { type PhaseState, phaseLines } from "./phases";

const LOOK: Record<PhaseState, [string, string, React.ReactNode]> = {
  done: ["done", "border-good bg-good-soft text-good", <Check key="i" size={13} />],
  now: [
    "at work",
    "border-note bg-note-soft text-note",
    <LoaderCircle key="i" size={13} className="animate-spin" />,
  ],
  waiting: ["waits for you", "border-fair bg-fair-soft text-fair", <Hand key="i" size={13} />],
  failed: ["ended here", "border-bad bg-bad-soft text-bad", <CircleX key="i" size={13} />],
  later: ["still to come", "text-ink-faint", <CircleDashed key="i" size={13} />],
  skipped: ["left out", "text-ink-faint", <Minus key="i" size={13} />],
};

export function Timeline({ session }: { session: AgentSession }) {
  const lines = phaseLines(session);
  return (
    <Panel title="Phases">
      <ol className="relative space-y-3.5">
        {lines.map((line, place) => {
          const [word, look, icon] = LOOK[line.state];
          return (
            <li
              key={line.id}
              aria-current={line.state === "now" || line.state === "waiting" ? "step" : undefined}
              className="relative flex gap-3"
            >
              {place < lines.length - 1 && (
                <span
                  aria-hidden="true"
                  className="absolute top-6 -bottom-3.5 left-[11px] w-px bg-line-strong"
                />
              )}
              <span
                className={clsx(
                  "z-10 grid size-[23px] shrink-0 place-items-center rounded-full border bg-surface",
                  look,
                )}
              >
                <span className="sr-only">{word}</span>
                {icon}
              </span>
              <div className="min-w-0 flex-1">
                <div className="flex items-baseline justify-between gap-2">
                  <span
                    className={clsx(
                      "font-medium",
                      (line.state === "later" || line.state === "skipped") && "text-ink-faint",
                    )}
                  >
                    {line.title}
                  </span>
                  <span className="tabular text-xs whitespace-nowrap text-ink-faint">
                    {line.seconds !== null
                      ? span(line.seconds)
                      : expected(session.estimate?.byPhase[line.id])}
                  </span>
                </div>
                {line.what && (
                  <p className="line-clamp-4 text-xs break-words text-ink-soft" title={line.what}>
                    {line.what}
                  </p>
                )}
              </div>
            </li>
          );
        })}
      </ol>
    </Panel>
  );
}

function expected(range: Range | undefined): string {
  return range ? `${span(range.low)} to ${span(range.high)}` : "";
}
