// The candidates of a sweep beside their base model: figures with intervals on one scale, the winner marked.
import { Link } from "@tanstack/react-router";
import { clsx } from "clsx";
import { Trophy } from "lucide-react";
import { shortId } from "~/api/names";
import type { AgentSession, CandidateResult, Interval } from "~/api/sessions";
import { Badge, ResourceState } from "~/design/Badge";
import { figure } from "~/design/figures";
import { Empty, Panel } from "~/design/Panel";
import { span } from "~/design/Time";
import { metricOf, ranked } from "./phases";
import { rank } from "./planRows";

const CELL = "px-3 py-2 align-top";

export function Scoreboard({ session }: { session: AgentSession }) {
  const metric = metricOf(session.candidates);
  const rows = ranked(session.candidates);
  const known = rows.flatMap((one) => one[metric] ?? []);
  const low = Math.min(...known.map((one) => one.low));
  const high = Math.max(...known.map((one) => one.high));
  return (
    <Panel
      title="Scoreboard"
      flush
      actions={
        <span className="text-xs text-ink-soft">
          {metric === "loss" ? "validation loss, less is better" : "evaluator's score, more is better"}
        </span>
      }
    >
      {rows.length === 0 ? (
        <Empty title="No candidate yet">Candidates are trained once the plan is approved.</Empty>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        <section aria-label="Candidates" tabIndex={0} className="overflow-x-auto">
          <table className="w-full min-w-[44rem] text-[13px]">
            <thead className="border-b text-left text-xs text-ink-faint">
              <tr>
                <th className={clsx(CELL, "font-medium")}>Candidate</th>
                <th className={clsx(CELL, "font-medium")}>Settings</th>
                <th className={clsx(CELL, "w-64 font-medium")}>
                  {metric === "loss" ? "Loss" : "Score"}, 95 % interval
                </th>
                <th className={clsx(CELL, "text-right font-medium")}>p</th>
                <th className={clsx(CELL, "font-medium")}>Job</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <Row
                  key={row.number}
                  row={row}
                  value={row[metric]}
                  range={[low, high]}
                  winner={session.winner === row.number && row.number > 0}
                />
              ))}
            </tbody>
          </table>
        </section>
      )}
      {session.reason && <p className="border-t px-4 py-3 text-[13px] text-ink-soft">{session.reason}</p>}
    </Panel>
  );
}

function Row(props: {
  row: CandidateResult;
  value: Interval | null;
  range: [number, number];
  winner: boolean;
}) {
  const { row, value } = props;
  return (
    <tr className={clsx("border-b last:border-b-0", props.winner && "bg-accent-soft")}>
      <th scope="row" className={clsx(CELL, "text-left font-medium whitespace-nowrap")}>
        {row.number === 0 ? "Base model" : `Candidate ${row.number}`}
        {props.winner && (
          <span className="ml-2 inline-flex items-center gap-1 text-xs font-semibold text-accent-text">
            <Trophy size={13} aria-hidden="true" /> winner
          </span>
        )}
      </th>
      <td className={clsx(CELL, "text-ink-soft")}>
        {row.candidate ? (
          <>
            <div>{shortId(row.candidate.baseModel)}</div>
            {row.number > 0 && (
              <div className="tabular text-xs">
                {rank(row.candidate.loraRank)}, learning rate {figure(row.candidate.learningRate)}
                {row.candidate.beta !== null && `, beta ${figure(row.candidate.beta)}`}
              </div>
            )}
          </>
        ) : (
          "as it is"
        )}
      </td>
      <td className={CELL}>
        {value ? (
          <Whisker value={value} range={props.range} />
        ) : (
          <span className="text-ink-faint">{row.failed || "not measured yet"}</span>
        )}
      </td>
      <td className={clsx(CELL, "tabular text-right whitespace-nowrap")}>
        {row.pValue === null ? "" : row.pValue < 0.001 ? "< 0.001" : row.pValue.toFixed(3)}
        {row.better && (
          <div>
            <Badge tone="good">better</Badge>
          </div>
        )}
      </td>
      <td className={CELL}>
        {row.run && (
          <>
            <Link
              to={
                `/dashboard/fine-tuning/${row.run.job.includes("/dpoJobs/") ? "dpo" : "supervised"}/${shortId(row.run.job)}` as string
              }
              className="text-accent-text underline underline-offset-2"
            >
              {shortId(row.run.job)}
            </Link>
            <div className="flex gap-2 text-xs">
              <ResourceState state={row.run.state} />
              {row.run.seconds !== null && (
                <span className="tabular text-ink-faint">{span(row.run.seconds)}</span>
              )}
            </div>
          </>
        )}
      </td>
    </tr>
  );
}

/** A mean with its interval on the scale that all candidates share. */
function Whisker({ value, range: [low, high] }: { value: Interval; range: [number, number] }) {
  const place = (at: number) => (high > low ? ((at - low) / (high - low)) * 100 : 50);
  return (
    <div>
      <div className="tabular">
        <span className="font-semibold">{figure(value.mean)}</span>{" "}
        <span className="text-xs text-ink-soft">
          {figure(value.low)} to {figure(value.high)}
        </span>
      </div>
      <div className="relative mt-1 h-2 rounded bg-sunken" aria-hidden="true">
        <div
          className="absolute top-0 h-2 rounded bg-line-strong"
          style={{
            left: `${place(value.low)}%`,
            width: `${Math.max(1, place(value.high) - place(value.low))}%`,
          }}
        />
        <div
          className="absolute -top-0.5 h-3 w-1 rounded bg-accent"
          style={{ left: `calc(${place(value.mean)}% - 2px)` }}
        />
      </div>
    </div>
  );
}
