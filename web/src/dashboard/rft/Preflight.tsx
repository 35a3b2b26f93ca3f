// What a few rows said before the first step: whether there is anything to learn, and what the job would take.
import { TriangleAlert } from "lucide-react";
import type { RftPreflight } from "~/api/rft";
import { count, figure, percent } from "~/design/figures";
import { Panel } from "~/design/Panel";

export function Preflight({ preflight }: { preflight: RftPreflight }) {
  const { estimate } = preflight;
  const facts: [string, string][] = [
    ["Mean score", interval(preflight.mean_score, preflight.low, preflight.high)],
    ["pass@1", value(preflight.pass_at_1)],
    [`pass@${preflight.pass_at_8_k}`, value(preflight.pass_at_8)],
    ["Groups that vary", `${preflight.varying_groups} of ${preflight.groups}`],
    ["Truncated", preflight.truncated === null ? "unknown" : percent(preflight.truncated)],
    ["Invalid", `${preflight.invalid} of ${preflight.rollouts}`],
    [
      "Tokens a rollout",
      preflight.completion_tokens_mean === null ? "unknown" : figure(preflight.completion_tokens_mean),
    ],
    [
      "Whole job",
      estimate?.seconds ? `${span(estimate.seconds.low)} to ${span(estimate.seconds.high)}` : "unknown",
    ],
  ];
  return (
    <Panel title="Preflight">
      <p className="font-medium">{preflight.verdict}</p>
      <dl className="mt-2 grid grid-cols-2 gap-x-4 gap-y-2 md:grid-cols-4">
        {facts.map(([name, text]) => (
          <div key={name} className="min-w-0">
            <dt className="text-xs text-ink-faint">{name}</dt>
            <dd className="tabular font-mono text-[13px]">{text}</dd>
          </div>
        ))}
      </dl>
      {preflight.baselines.length > 0 && (
        <p className="tabular mt-2 text-ink-soft">
          Base model:{" "}
          {preflight.baselines
            .map((one) => `${interval(one.mean_score, one.low, one.high)} at temperature ${one.temperature}`)
            .join("; ")}
        </p>
      )}
      {preflight.warnings.map((warning) => (
        <p key={warning} className="mt-2 flex gap-2 text-fair">
          <TriangleAlert size={16} aria-label="Warning" className="mt-0.5 shrink-0" />
          <span>{warning}</span>
        </p>
      ))}
      <p className="mt-2 text-xs text-ink-faint">
        {count(preflight.rollouts)} rollouts of {count(preflight.rows)} rows, before the first step; none of
        them is trained on. In brackets: 95 % intervals. A score of at least {figure(preflight.threshold)}{" "}
        passes.
      </p>
    </Panel>
  );
}

function value(number: number | null): string {
  return number === null ? "unknown" : figure(number);
}

function interval(mean: number | null, low: number, high: number): string {
  return mean === null ? "unknown" : `${figure(mean)} [${figure(low)}, ${figure(high)}]`;
}

/** Seconds in the largest unit of which there are at least two. */
function span(seconds: number): string {
  const units = [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
  ] as const;
  const unit = units.find(([size]) => seconds >= 2 * size);
  return unit ? `${(seconds / unit[0]).toFixed(1)} ${unit[1]}` : `${Math.round(seconds)} s`;
}
