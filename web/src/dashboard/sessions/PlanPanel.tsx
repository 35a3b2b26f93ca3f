// The plan as a table, with what was assumed marked; what was understood; what it will take and has taken.
import type { AgentSession, Range } from "~/api/sessions";
import { Badge } from "~/design/Badge";
import { count } from "~/design/figures";
import { Panel, Tile } from "~/design/Panel";
import { span } from "~/design/Time";
import { phaseTitle } from "./phases";
import { planRows } from "./planRows";

export function PlanPanel({ session }: { session: AgentSession }) {
  const rows = planRows(session.plan, session.approvedPlan);
  return (
    <Panel
      title="Plan"
      actions={
        <Badge tone={session.approvedPlan ? "good" : "plain"}>
          {session.approvedPlan ? "approved" : "not approved yet"}
        </Badge>
      }
      flush
    >
      <table className="w-full text-[13px]">
        <caption className="sr-only">The plan</caption>
        <tbody>
          {rows.map((row) => (
            <tr key={row.label} className="border-b last:border-b-0">
              <th
                scope="row"
                className="w-44 px-4 py-1.5 text-left align-top font-normal text-ink-faint max-sm:w-32"
              >
                {row.label}
              </th>
              <td className="px-2 py-1.5 align-top [overflow-wrap:anywhere]">
                {row.values.map((value) => (
                  <div key={value} className="tabular">
                    {value}
                  </div>
                ))}
              </td>
              <td className="px-4 py-1.5 text-right align-top">
                {row.assumed && (
                  <span title="Nobody said this: it is the documented default">
                    <Badge>assumed</Badge>
                  </span>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {session.understood.length > 0 && (
        <div className="border-t px-4 py-3">
          <h3 className="text-xs font-semibold text-ink-soft">Understood from your words</h3>
          <ul className="mt-1 list-disc space-y-0.5 pl-5 text-[13px] text-ink-soft">
            {session.understood.map((line) => (
              <li key={line} className="[overflow-wrap:anywhere]">
                {line}
              </li>
            ))}
          </ul>
        </div>
      )}
    </Panel>
  );
}

export function CostPanel({ session }: { session: AgentSession }) {
  const estimate = session.estimate;
  const money = (range: Range) =>
    `${range.low.toFixed(2)} to ${range.high.toFixed(2)} ${estimate?.currency ?? ""}`.trim();
  const phases = [...new Set([...Object.keys(estimate?.byPhase ?? {}), ...Object.keys(session.spent)])];
  return (
    <Panel title="Cost">
      <div className="grid gap-3 sm:grid-cols-3">
        <Tile
          label="Estimated"
          value={estimate ? times(estimate.totalSeconds) : "not priced yet"}
          hint={estimate && `${count(estimate.trainingTokens + estimate.inferenceTokens)} tokens`}
        />
        <Tile label="At work so far" value={span(session.spentSeconds)} />
        <Tile
          label="Price"
          value={estimate?.totalCost ? money(estimate.totalCost) : "time only"}
          hint={!estimate?.totalCost && "no prices are set on this platform"}
        />
      </div>
      {phases.length > 0 && (
        <table className="mt-3 w-full text-[13px]">
          <thead className="text-left text-xs text-ink-faint">
            <tr>
              <th className="py-1 font-medium">Phase</th>
              <th className="py-1 text-right font-medium">Estimated</th>
              <th className="py-1 text-right font-medium">Taken</th>
            </tr>
          </thead>
          <tbody className="tabular">
            {phases.map((phase) => (
              <tr key={phase} className="border-t">
                <th scope="row" className="py-1 text-left font-normal">
                  {phaseTitle(phase)}
                </th>
                <td className="py-1 text-right">
                  {estimate?.byPhase[phase] ? times(estimate.byPhase[phase]) : ""}
                </td>
                <td className="py-1 text-right">
                  {session.spent[phase] !== undefined ? span(session.spent[phase]) : ""}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {estimate?.basis && <p className="mt-3 text-xs text-ink-soft">Basis: {estimate.basis}.</p>}
    </Panel>
  );
}

function times({ low, high }: Range): string {
  return `${span(low)} to ${span(high)}`;
}
