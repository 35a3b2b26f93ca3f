// What a reward audit says, in one look: follow or cheat, what was found, and three figures.
import { clsx } from "clsx";
import { CircleCheck, TriangleAlert } from "lucide-react";
import type { RftAudit } from "~/api/rft";
import { figure, percent } from "~/design/figures";

export function AuditSummary({ data }: { data: Omit<RftAudit, "topScored"> }) {
  const warnings = data.findings.filter((one) => one.severity === "warning");
  const notes = data.findings.filter((one) => one.severity !== "warning");
  const cheating = warnings.length > 0;
  return (
    <div className="space-y-3" role="status">
      <p
        className={clsx(
          "flex items-center gap-2 text-base font-semibold",
          cheating ? "text-fair" : data.rollouts ? "text-good" : "text-ink-soft",
        )}
      >
        {cheating ? (
          <TriangleAlert size={17} aria-hidden="true" />
        ) : (
          <CircleCheck size={17} aria-hidden="true" />
        )}
        {cheating
          ? "Looks like cheating"
          : data.rollouts
            ? "Nothing suspicious: the policy follows the score"
            : "Nothing is scored yet"}
      </p>
      <ul className="space-y-2">
        {[...warnings, ...notes].map((finding) => (
          <li
            key={finding.title}
            className={clsx(
              "border-l-2 pl-3",
              finding.severity === "warning" ? "border-fair" : "border-line-strong",
            )}
          >
            <p className="font-medium">{finding.title}</p>
            <p className="text-[13px] text-ink-soft [overflow-wrap:anywhere]">{finding.detail}</p>
          </li>
        ))}
      </ul>
      <dl className="tabular grid grid-cols-3 gap-2 text-[13px]">
        <Fact name="One answer to several rows" value={percent(data.duplicateShare)} />
        <Fact name="Score with length" value={figure(data.lengthCorrelation.spearman)} />
        <Fact
          name="Strongest metric"
          value={
            data.metricDominance[0]
              ? `${data.metricDominance[0].metric} ${percent(data.metricDominance[0].share)}`
              : "none"
          }
        />
      </dl>
    </div>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div className="min-w-0">
      <dt className="text-xs text-ink-faint">{name}</dt>
      <dd className="truncate font-semibold" title={value}>
        {value}
      </dd>
    </div>
  );
}
