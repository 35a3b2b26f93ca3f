// The same row at other times, and the other attempts at it: pictures where the answers are drawings, else their beginnings.
import { clsx } from "clsx";
import type { RolloutDetails, RolloutSummary } from "~/api/rft";
import { SvgImage } from "~/conversation/Svg";
import { svgIn } from "~/conversation/segments";
import { Score } from "~/design/Badge";
import { change } from "~/design/figures";

interface StripProps {
  rollout: RolloutDetails;
  onOpen: (rolloutId: string) => void;
}

/** Before and after: one attempt at this row for each step or epoch. */
export function HistoryStrip({ rollout, onOpen }: StripProps) {
  const history = rollout.history ?? [];
  if (history.length < 2) return null;
  const [first, last] = [history[0]?.score, history.at(-1)?.score];
  return (
    <section className="flex min-w-0 flex-col gap-1.5">
      <h2 className="text-[13px] font-semibold">
        The same row, before and after{" "}
        {typeof first === "number" && typeof last === "number" && (
          <span
            className={clsx(
              "tabular font-mono text-xs",
              last > first ? "text-good" : last < first ? "text-bad" : "text-ink-faint",
            )}
          >
            {change(last - first)}
          </span>
        )}
      </h2>
      <Cards
        rollouts={history}
        current={rollout.rolloutId}
        name={(one) => (one.kind === "evaluation" ? `Version ${one.version}` : `Step ${one.step}`)}
        onOpen={onOpen}
      />
    </section>
  );
}

/** The group: what its advantage is relative to. */
export function GroupStrip({ rollout, onOpen }: StripProps) {
  const group = rollout.group ?? [];
  if (!group.length) return null;
  const { row, history, turns, ...own } = rollout;
  const all = [
    ...group.filter((one) => one.rolloutId !== rollout.rolloutId),
    { ...own, turns: turns?.length ?? null },
  ].sort((a, b) => a.k - b.k || a.attempt - b.attempt);
  return (
    <section className="flex min-w-0 flex-col gap-1.5">
      <h2 className="text-[13px] font-semibold">
        Its group <span className="font-normal text-ink-faint">all attempts at this row in this step</span>
      </h2>
      <Cards rollouts={all} current={rollout.rolloutId} name={(one) => `Attempt ${one.k}`} onOpen={onOpen} />
    </section>
  );
}

function Cards(props: {
  rollouts: readonly RolloutSummary[];
  current: string;
  name: (rollout: RolloutSummary) => string;
  onOpen: (rolloutId: string) => void;
}) {
  return (
    <ol className="flex min-w-0 gap-2 overflow-x-auto pb-1.5">
      {props.rollouts.map((one) => {
        const drawing = svgIn(one.answer ?? "");
        const here = one.rolloutId === props.current;
        return (
          <li key={one.rolloutId} className="shrink-0">
            <button
              type="button"
              aria-current={here ? "true" : undefined}
              onClick={() => props.onOpen(one.rolloutId)}
              className={clsx(
                "flex h-full w-32 flex-col gap-1 rounded-md border p-1.5 text-left",
                here ? "border-accent bg-accent-soft" : "bg-surface hover:border-line-strong",
              )}
            >
              <span className="flex items-center justify-between gap-1 text-xs">
                <span className="tabular truncate text-ink-soft">{props.name(one)}</span>
                <Score value={one.score} valid={one.isScoreValid} />
              </span>
              {drawing ? (
                <SvgImage
                  source={drawing}
                  label={`Drawing of ${props.name(one)}`}
                  className="h-20 w-full rounded bg-white object-contain"
                />
              ) : (
                <span className="line-clamp-4 h-20 font-mono text-[11px] leading-5 break-all text-ink-soft">
                  {one.answer === null ? "not recorded" : one.answer || "no answer"}
                </span>
              )}
            </button>
          </li>
        );
      })}
    </ol>
  );
}
