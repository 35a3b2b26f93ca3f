// What a few rows said before the first step: whether there is anything to learn, and what the job would take.
import { TriangleAlert } from "lucide-react";
import type { RftPreflight } from "~/api/rft";
import { count, figure } from "~/design/figures";
import { Panel } from "~/design/Panel";

export function Preflight({ preflight }: { preflight: RftPreflight }) {
  const { estimate } = preflight;
  const facts: [string, string][] = [
    ["Mean score", interval(preflight.mean_score, preflight.low, preflight.high)],
    ["pass@1", value(preflight.pass_at_1)],
    [`pass@${preflight.pass_at_8_k}`, value(preflight.pass_at_8)],
    ["Groups that vary", `${preflight.varying_groups} of ${preflight.groups}`],
    ["Truncated", preflight.truncated === null ? "unknown" : share(preflight.truncated)],
    ["Invalid", `${preflight.invalid} of ${preflight.rollouts}`],
    [
      "Tokens a rollout",
      preflight.completion_tokens_mean === null ? "unknown" : count(preflight.completion_tokens_mean),
    ],
    [
      "Whole job",
      estimate?.seconds ? `${span(estimate.seconds.low)} to ${span(estimate.seconds.high)}` : "unknown",
    ],
    ...(estimate?.epochs
      ? [["Whole job's rollouts", `${count(estimate.rollouts)} (${workOf(estimate)})`] as [string, string]]
      : []),
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
      {preflight.baselines.length > 0 && <Baselines preflight={preflight} />}
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

/** The base model at each temperature; what is trained has to beat the best of them. */
function Baselines({ preflight: { baselines, threshold } }: { preflight: RftPreflight }) {
  const best = Math.max(...baselines.map((one) => one.mean_score ?? Number.NEGATIVE_INFINITY));
  const cell = "py-1 pr-3 text-right align-bottom last:pr-0 sm:pr-6";
  const heads = ["Temperature", "Mean score", "95 % interval", `Solved (≥ ${figure(threshold)})`, "Rollouts"];
  return (
    <div className="mt-3">
      <p className="pb-1 text-xs text-ink-faint">
        The base model before any training. A tuned one has to beat the best of these:
      </p>
      <table aria-label="Base model" className="tabular text-[13px]">
        <thead className="text-xs text-ink-faint">
          <tr>
            {heads.map((name) => (
              <th key={name} scope="col" className={`${cell} font-medium`}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {baselines.map((one) => (
            <tr
              key={one.temperature}
              className={one.mean_score === best ? "border-t font-semibold" : "border-t"}
            >
              <th scope="row" className={`${cell} font-mono font-normal`}>
                {figure(one.temperature)}
              </th>
              <td className={`${cell} font-mono whitespace-nowrap`}>{value(one.mean_score)}</td>
              <td className={`${cell} font-mono whitespace-nowrap`}>
                {digits(one.low)}–{digits(one.high)}
              </td>
              <td className={`${cell} font-mono whitespace-nowrap`}>
                {typeof one.pass_at_1 === "number" ? share(one.pass_at_1) : "unknown"}
              </td>
              <td className={`${cell} font-mono whitespace-nowrap`}>{count(one.rollouts)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A few rows tell no more than about two digits of a score; a third tells neighbours apart. */
function digits(number: number): string {
  return String(Number(number.toFixed(3)));
}

function share(number: number): string {
  return `${Math.round(number * 100)} %`;
}

function value(number: number | null): string {
  return number === null ? "unknown" : digits(number);
}

function interval(mean: number | null, low: number, high: number): string {
  return mean === null ? "unknown" : `${digits(mean)} [${digits(low)}, ${digits(high)}]`;
}

function workOf({ rows, n, epochs }: { rows?: number; n?: number; epochs?: number }): string {
  return `${count(rows)} rows, ${n} each, ${epochs} ${epochs === 1 ? "epoch" : "epochs"}`;
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
