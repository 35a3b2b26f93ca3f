// What a second evaluator, which is not trained on, says of the same rollouts.
import { shortId } from "~/api/names";
import type { RftAudit } from "~/api/rft";
import { Chart } from "~/design/Chart";
import { count, figure } from "~/design/figures";
import { Empty, Panel } from "~/design/Panel";

export function SecondOpinion({ opinion }: { opinion: NonNullable<RftAudit["auditEvaluator"]> }) {
  const { agreement, bySteps } = opinion;
  return (
    <Panel title={`Second evaluator: ${shortId(opinion.evaluator)}`}>
      {bySteps.length > 0 ? (
        <Chart
          label="Score and second evaluator"
          x={bySteps.map((step) => step.step)}
          series={[
            { label: "Score", values: bySteps.map((step) => step.score), colour: 1 },
            { label: "Second evaluator", values: bySteps.map((step) => step.auditScore), colour: 2 },
          ]}
          format={figure}
          height={180}
        />
      ) : (
        <Empty title="It has scored nothing yet">It scores what has ended, beside the job.</Empty>
      )}
      <p className="tabular mt-2 text-ink-soft">
        {count(opinion.rollouts)} rollouts scored by both
        {agreement.spearman !== null && (
          <>
            , rank correlation <b className="font-mono text-ink">{figure(agreement.spearman)}</b>
            {agreement.low !== null && agreement.high !== null && (
              <>
                {" "}
                (95 % interval {figure(agreement.low)} to {figure(agreement.high)})
              </>
            )}
          </>
        )}
        {opinion.auroc !== null && <>, AUROC {figure(opinion.auroc)}</>}. Nothing is trained on it.
      </p>
    </Panel>
  );
}
