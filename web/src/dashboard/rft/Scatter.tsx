// Points of score against length; the one nearest to the pointer can be opened.
import { type MouseEvent, useRef, useState } from "react";
import { figure } from "~/design/figures";
import { Empty } from "~/design/Panel";

type Point = readonly [tokens: number, score: number, rolloutId: string];

const WIDTH = 560;
const HEIGHT = 240;
const LEFT = 36;
const BOTTOM = 30;
const EDGE = 8;

export function Scatter({
  points,
  onPick,
}: {
  points: readonly Point[];
  onPick: (rolloutId: string) => void;
}) {
  const box = useRef<SVGSVGElement>(null);
  const [near, setNear] = useState<Point | null>(null);
  if (!points.length) return <Empty title="No rollout has both a length and a valid score" />;
  const most = points.reduce((largest, [tokens]) => Math.max(largest, tokens), 1);
  const x = (tokens: number) => LEFT + (tokens / most) * (WIDTH - LEFT - EDGE);
  const y = (score: number) => EDGE + (1 - score) * (HEIGHT - BOTTOM - EDGE);
  const find = (event: MouseEvent) => {
    const rect = box.current?.getBoundingClientRect();
    if (!rect) return;
    const at = [
      ((event.clientX - rect.left) / rect.width) * WIDTH,
      ((event.clientY - rect.top) / rect.height) * HEIGHT,
    ] as const;
    let best: Point | null = null;
    let distance = 400; // squared, in the drawing's units
    for (const point of points) {
      const found = (x(point[0]) - at[0]) ** 2 + (y(point[1]) - at[1]) ** 2;
      if (found < distance) [best, distance] = [point, found];
    }
    setNear(best);
  };
  const marks = [0, 0.25, 0.5, 0.75, 1];
  return (
    <figure className="min-w-0">
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the tables below lead to the same rollouts by keyboard */}
      <svg
        ref={box}
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`Score against completion length of ${points.length} rollouts, up to ${most} tokens.`}
        className={near ? "w-full cursor-pointer" : "w-full"}
        onMouseMove={find}
        onMouseLeave={() => setNear(null)}
        onClick={() => near && onPick(near[2])}
      >
        {marks.map((score) => (
          <g key={score}>
            <line x1={LEFT} x2={WIDTH - EDGE} y1={y(score)} y2={y(score)} stroke="var(--line)" />
            <text x={LEFT - 6} y={y(score) + 4} textAnchor="end" fontSize="11" fill="var(--ink-faint)">
              {score}
            </text>
          </g>
        ))}
        {marks.map((share) => (
          <text
            key={share}
            x={x(share * most)}
            y={HEIGHT - 12}
            textAnchor={share === 0 ? "start" : share === 1 ? "end" : "middle"}
            fontSize="11"
            fill="var(--ink-faint)"
          >
            {figure(Math.round(share * most))}
            {share === 1 && " tokens"}
          </text>
        ))}
        {points.map((point) => (
          <circle
            key={point[2]}
            cx={x(point[0])}
            cy={y(point[1])}
            r={point === near ? 6 : 3.5}
            fill="var(--series-1)"
            fillOpacity={point === near ? 1 : 0.4}
          />
        ))}
      </svg>
      <figcaption className="tabular min-h-5 truncate text-xs text-ink-soft">
        {near
          ? `${figure(near[0])} tokens, score ${figure(near[1])}: ${near[2]}`
          : "Point at a rollout, click to open it."}
      </figcaption>
    </figure>
  );
}
