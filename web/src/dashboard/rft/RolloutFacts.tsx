// The left side of a rollout's details: its score and the evaluator's metrics with their reasons, then everything else, folded.
import type { ReactNode } from "react";
import type { RolloutDetails } from "~/api/rft";
import { Fold } from "~/conversation/Conversation";
import { Json } from "~/conversation/Json";
import { Badge, Score } from "~/design/Badge";
import { CopyButton } from "~/design/Copy";
import { change, count } from "~/design/figures";
import { Time } from "~/design/Time";

/** The score, and the evaluator's metrics, each with its reason. */
export function RolloutScores({ rollout }: { rollout: RolloutDetails }) {
  const row = rollout.row ?? {};
  const result = row.evaluation_result ?? null;
  const metrics = Object.entries(result?.metrics ?? {});
  return (
    <Section title="Evaluation scores">
      <Verdict
        name="Total"
        score={rollout.score}
        valid={rollout.isScoreValid}
        reason={rollout.reason}
        total
      />
      {metrics.map(([name, metric]) => (
        <Verdict
          key={name}
          name={name}
          score={metric.score ?? null}
          valid={metric.is_score_valid !== false}
          reason={metric.reason ?? ""}
          data={metric.data}
        />
      ))}
      {result?.error && <p className="break-words text-bad">{result.error}</p>}
    </Section>
  );
}

/** What else is known of a rollout. */
export function RolloutFacts({ rollout }: { rollout: RolloutDetails }) {
  const row = rollout.row ?? {};
  const status = row.rollout_status ?? rollout.status;
  const execution = row.execution_metadata ?? {};
  return (
    <div className="flex min-w-0 flex-col divide-y border-t">
      <Section title="Metadata">
        <dl className="grid grid-cols-[6.75rem_minmax(0,1fr)] gap-x-2 gap-y-1.5 text-[13px] [&_time]:whitespace-normal">
          <Fact name="Status">
            {status ? (
              <Badge tone={status.code === 100 ? "good" : status.code === 101 ? "note" : "bad"}>
                {status.code === 100 ? "finished" : status.message || `code ${status.code}`}
              </Badge>
            ) : (
              "unknown"
            )}
          </Fact>
          <Fact name="Ended">
            <Time at={rollout.time ?? row.created_at} />
          </Fact>
          <Fact name="Kind">{rollout.kind === "evaluation" ? "held-out" : "training"}</Fact>
          <Fact name="Step, epoch">
            {rollout.step}, {rollout.epoch}
          </Fact>
          <Fact name="Row, attempt">
            {rollout.rowIndex}.{rollout.k}
            {rollout.attempt > 0 && ` (rolled ${rollout.attempt + 1} times)`}
          </Fact>
          <Fact name="Policy version">{rollout.version}</Fact>
          <Fact name="Tokens sampled">
            {count(rollout.completionTokens)}
            {rollout.truncated && <span className="text-fair"> cut off at the limit</span>}
          </Fact>
          <Fact name="Advantage">
            {rollout.advantage === null ? "not trained on" : change(rollout.advantage)}
          </Fact>
          {typeof execution.rollout_duration_seconds === "number" && (
            <Fact name="Rollout took">{execution.rollout_duration_seconds.toFixed(2)} s</Fact>
          )}
          {typeof execution.eval_duration_seconds === "number" && (
            <Fact name="Scoring took">{execution.eval_duration_seconds.toFixed(2)} s</Fact>
          )}
          {row.ground_truth !== undefined && row.ground_truth !== null && (
            <Fact name="Ground truth">
              {typeof row.ground_truth === "string" ? (
                row.ground_truth
              ) : (
                <Json value={row.ground_truth} depth={0} />
              )}
            </Fact>
          )}
        </dl>
      </Section>
      <Folded title="Execution metadata" value={row.execution_metadata} />
      <Folded title="Input metadata" value={row.input_metadata} />
      <Folded title="Eval details" value={row.eval_metadata} />
      <Folded title="Evaluation result" value={row.evaluation_result} />
      <Folded title="Rollout status" value={row.rollout_status} />
      <Folded title="Tools" value={row.tools} />
    </div>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="flex min-w-0 flex-col gap-2.5 py-3 lg:px-4">
      <h2 className="text-[13px] font-semibold">{title}</h2>
      {children}
    </section>
  );
}

function Folded({ title, value }: { title: string; value: unknown }) {
  if (value === undefined || value === null || (typeof value === "object" && !Object.keys(value).length))
    return null;
  return (
    <section className="min-w-0 py-2.5 lg:px-4">
      <Fold label={title}>
        <Json value={value} depth={1} />
      </Fold>
    </section>
  );
}

function Verdict(props: {
  name: string;
  score: number | null;
  valid: boolean;
  reason: string;
  data?: unknown;
  total?: boolean;
}) {
  const { score, valid } = props;
  const edge =
    !valid || score === null
      ? "border-l-line-strong"
      : score >= 0.8
        ? "border-l-good"
        : score >= 0.6
          ? "border-l-fair"
          : "border-l-bad";
  return (
    <div className={`group min-w-0 rounded-md border border-l-[3px] bg-raised px-3 py-2 ${edge}`}>
      <div className="flex items-center justify-between gap-2">
        <span className={props.total ? "text-lg" : ""}>
          <Score value={score} valid={valid} />
        </span>
        <span className="min-w-0 flex-1 truncate text-xs text-ink-soft" title={props.name}>
          {props.name}
        </span>
        <Badge tone={valid ? "good" : "bad"}>{valid ? "Valid" : "Not valid"}</Badge>
        {props.reason && <CopyButton text={props.reason} label={`Copy the reason of ${props.name}`} />}
      </div>
      {props.reason && <Reason text={props.reason} />}
      {hasContent(props.data) && (
        <div className="mt-1.5">
          <Fold label="Data">
            <Json value={props.data} depth={1} />
          </Fold>
        </div>
      )}
    </div>
  );
}

function Reason({ text }: { text: string }) {
  if (text.length < 240) return <p className="mt-1 text-xs break-words whitespace-pre-wrap">{text}</p>;
  return (
    <details className="mt-1 text-xs break-words whitespace-pre-wrap">
      <summary className="cursor-pointer list-none">
        {text.slice(0, 200)}… <span className="font-medium text-accent-text underline">Show more</span>
      </summary>
      {text.slice(200, 20_000)}
    </details>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-ink-faint">{name}</dt>
      <dd className="tabular min-w-0 break-words">{children}</dd>
    </>
  );
}

function hasContent(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}
