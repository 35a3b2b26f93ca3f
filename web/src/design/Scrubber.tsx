// A slider over steps with buttons to both sides and one that plays. Arrow keys move it, space plays, End goes to the newest.
import { clsx } from "clsx";
import { ChevronLeft, ChevronRight, Pause, Play, SkipForward } from "lucide-react";
import { useEffect, useState } from "react";
import { IconButton } from "./Button";

const PACE = 450; // milliseconds a step while it plays

export function Scrubber(props: {
  /** What it moves through, e.g. "Policy version". */
  label: string;
  /** Ascending. */
  values: readonly number[];
  value: number;
  onChange: (value: number) => void;
  /** Set while it follows what comes; a button that leads there again. */
  following?: boolean;
  onFollow?: () => void;
  className?: string;
}) {
  const { values, onChange } = props;
  const at = Math.max(0, nearest(values, props.value));
  const [playing, setPlaying] = useState(false);
  const last = values.length - 1;

  useEffect(() => {
    if (!playing) return;
    if (at >= last) {
      setPlaying(false);
      return;
    }
    const timer = setTimeout(() => onChange(values[at + 1] as number), PACE);
    return () => clearTimeout(timer);
  }, [playing, at, last, values, onChange]);

  const go = (place: number) => {
    const value = values[Math.min(last, Math.max(0, place))];
    if (value !== undefined) onChange(value);
  };
  const play = () => {
    if (!playing && at >= last) go(0);
    setPlaying(!playing);
  };
  if (values.length === 0) return null;
  return (
    <div className={clsx("flex items-center gap-2", props.className)}>
      <IconButton label={playing ? "Stop" : "Play"} onClick={play} disabled={last < 1}>
        {playing ? <Pause size={15} /> : <Play size={15} />}
      </IconButton>
      <IconButton label="One back" onClick={() => go(at - 1)} disabled={at <= 0}>
        <ChevronLeft size={16} />
      </IconButton>
      <input
        type="range"
        aria-label={props.label}
        aria-valuetext={`${props.label} ${values[at]} of ${values[last]}`}
        min={0}
        max={Math.max(1, last)}
        step={1}
        value={at}
        disabled={last < 1}
        onChange={(event) => {
          setPlaying(false);
          go(Number(event.target.value));
        }}
        onKeyDown={(event) => {
          if (event.key !== " ") return;
          event.preventDefault();
          play();
        }}
        className="h-6 min-w-16 flex-1 cursor-pointer accent-accent"
      />
      <IconButton label="One on" onClick={() => go(at + 1)} disabled={at >= last}>
        <ChevronRight size={16} />
      </IconButton>
      <span className="tabular min-w-16 text-right text-[13px] whitespace-nowrap text-ink-soft">
        <b className="font-semibold text-ink">{values[at]}</b> / {values[last]}
      </span>
      {props.onFollow && (
        <button
          type="button"
          aria-pressed={!!props.following}
          onClick={props.onFollow}
          className={clsx(
            "inline-flex h-7 items-center gap-1 rounded-md px-2 text-xs font-medium",
            props.following
              ? "bg-accent-soft text-accent-text"
              : "text-ink-soft hover:bg-sunken hover:text-ink",
          )}
        >
          <SkipForward size={13} aria-hidden="true" />
          Newest
        </button>
      )}
    </div>
  );
}

/** Place of the value, else of the last one below it. */
export function nearest(values: readonly number[], value: number): number {
  let place = -1;
  values.forEach((each, at) => {
    if (each <= value) place = at;
  });
  return place;
}
