// One rollout as a tile: its drawing (or what it said), its score, and a flash when another one takes its place.
import { clsx } from "clsx";
import { memo } from "react";
import type { WholeRollout } from "~/api/control";
import { SvgImage } from "~/conversation/Svg";
import { answerOf, drawingOf } from "./drawings";

export const Drawing = memo(function Drawing(props: {
  rollout: WholeRollout;
  onOpen?: () => void;
  caption?: string;
  chosen?: boolean;
}) {
  const { rollout } = props;
  const svg = drawingOf(rollout);
  const answer = svg ? "" : answerOf(rollout).trim();
  const inside = (
    <>
      <span className="sr-only">{rollout.prompt ?? `Row ${rollout.rowIndex}`} Score:</span>
      <span
        key={rollout.rolloutId}
        className="studio-arrives relative block aspect-square w-full overflow-hidden bg-surface [&>span]:block [&>span]:p-2"
      >
        {svg ? (
          <SvgImage source={svg} label="" className="size-full bg-white object-contain" />
        ) : (
          <span className="text-left font-mono text-[10px] leading-4 break-words text-ink-soft">
            {answer.slice(0, 220) || "no answer"}
          </span>
        )}
      </span>
      <span className="flex items-center gap-2 px-2 py-1">
        <span className="h-1.5 flex-1 overflow-hidden rounded-full bg-sunken" aria-hidden="true">
          <span
            className={clsx(
              "block h-full rounded-full transition-[width] duration-500",
              rollout.isScoreValid ? toneOf(rollout.score) : "bg-line-strong",
            )}
            style={{ width: `${Math.round((rollout.score ?? 0) * 100)}%` }}
          />
        </span>
        <span className="tabular font-mono text-xs font-semibold">{scoreText(rollout)}</span>
      </span>
      {props.caption && (
        <span className="tabular block px-2 pb-1 text-left text-[11px] text-ink-soft">{props.caption}</span>
      )}
    </>
  );
  const look = clsx(
    "block w-full min-w-0 overflow-hidden rounded-md border bg-surface text-left",
    props.chosen && "ring-2 ring-accent",
  );
  if (!props.onOpen)
    return (
      <figure title={rollout.reason} className={look}>
        {inside}
      </figure>
    );
  return (
    <button
      type="button"
      title={`${rollout.prompt ?? ""}\n${rollout.reason}`}
      onClick={props.onOpen}
      className={clsx(look, "transition-shadow hover:shadow-raised")}
    >
      {inside}
    </button>
  );
});

function scoreText(rollout: { score: number | null; isScoreValid: boolean }): string {
  if (!rollout.isScoreValid) return "invalid";
  return rollout.score === null ? "none" : rollout.score.toFixed(2);
}

function toneOf(score: number | null): string {
  if (score === null) return "bg-line-strong";
  return score >= 0.8 ? "bg-good" : score >= 0.5 ? "bg-fair" : "bg-bad";
}
