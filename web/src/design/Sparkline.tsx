// A curve the size of a word, for lists. It carries no numbers: those stand beside it.

const WIDTH = 96;
const HEIGHT = 24;

/** `values` from 0 to 1 unless they go beyond; fewer than two draw nothing. */
export function Sparkline({ values, label }: { values: readonly number[]; label: string }) {
  const known = values.filter(Number.isFinite);
  const [first, last] = [known[0], known.at(-1)];
  if (first === undefined || last === undefined || known.length < 2) return null;
  const low = Math.min(0, ...known);
  const high = Math.max(1, ...known);
  const y = (value: number) => HEIGHT - 2 - ((HEIGHT - 4) * (value - low)) / (high - low);
  const points = thin(known, WIDTH).map((value, place, all) => {
    const x = 2 + ((WIDTH - 6) * place) / (all.length - 1);
    return `${x.toFixed(1)},${y(value).toFixed(1)}`;
  });
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      width={WIDTH}
      height={HEIGHT}
      role="img"
      aria-label={`${label}: ${first.toFixed(3)} to ${last.toFixed(3)} in ${known.length} steps`}
      className="shrink-0 text-accent"
    >
      <polyline
        points={points.join(" ")}
        fill="none"
        stroke="currentColor"
        strokeWidth={1.5}
        strokeLinejoin="round"
      />
      <circle cx={WIDTH - 4} cy={y(last)} r={2} fill="currentColor" />
    </svg>
  );
}

/** At most `most` of the values, evenly taken, the first and last always. */
export function thin(values: readonly number[], most: number): number[] {
  if (values.length <= most) return [...values];
  return Array.from(
    { length: most },
    (_, place) => values[Math.round((place * (values.length - 1)) / (most - 1))] as number,
  );
}
