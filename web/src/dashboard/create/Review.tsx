// Beside the form: what the job would take, what is still wrong, the command that does the same, and Start.
import { useNavigate } from "@tanstack/react-router";
import { Play } from "lucide-react";
import { useEffect, useState } from "react";
import {
  type Estimate,
  JOB_PATH,
  type JobBody,
  useEstimate,
  useStartJob,
  useValidation,
} from "~/api/fineTuningJobs";
import type { Model } from "~/api/models";
import { shortId } from "~/api/names";
import { Code } from "~/design/Copy";
import { Field, Input } from "~/design/Field";
import { count } from "~/design/figures";
import { Panel } from "~/design/Panel";
import { span } from "~/design/Time";
import { ChangeButton } from "../ChangeButton";
import { useMayChange } from "../session";
import { bodyOf, commandOf, type Form } from "./body";
import { OPTIONS, problemOf, rangeOf } from "./options";

/** A body, whether nothing in it is wrong as far as this page knows, and whether nothing is missing. */
interface Typed {
  body: JobBody;
  right: boolean;
  whole: boolean;
}

export function Review(props: {
  form: Form;
  base: Model | undefined;
  original: Form | null;
  onChange: (changes: Partial<Form>) => void;
}) {
  const { form, base, original, onChange } = props;
  const navigate = useNavigate();
  const may = useMayChange();
  const start = useStartJob(form.kind);
  const problems = problemsOf(form, base);
  const missing = missingOf(form);
  const body = bodyOf(form, base);
  // Both calls want whole bodies; the server is asked when typing has paused, and only about what can be right.
  const right = problems.length === 0 && may;
  const settled = JSON.parse(
    useSettled(JSON.stringify({ body, right, whole: !missing.length }), 400),
  ) as Typed;
  const asked = settled.right ? settled.body : null;
  const named = !!(form.baseModel || form.warmStartFrom);
  const validation = useValidation(form.kind, named ? withNames(asked) : null);
  const estimate = useEstimate(form.kind, settled.whole ? asked : null);
  const wrong = [...problems, ...(validation.error ? [validation.error.message] : [])];
  const changes = original ? changedFields(original, form) : [];

  return (
    <div className="min-w-0 space-y-4 xl:sticky xl:top-5">
      <Panel title="Review">
        <div className="space-y-4">
          <EstimateView estimate={missing.length ? undefined : estimate} missing={missing} may={may} />
          {original && (
            <p className="text-xs text-ink-soft">
              {changes.length ? `Changed: ${changes.join(", ")}.` : "Nothing is changed yet."}
            </p>
          )}
          <div className="grid gap-3">
            <Field label="Job id" hint="Empty: chosen for you.">
              {(ids) => (
                <Input
                  {...ids}
                  value={form.jobId}
                  onChange={(event) => onChange({ jobId: event.target.value })}
                />
              )}
            </Field>
            <Field label="Display name">
              {(ids) => (
                <Input
                  {...ids}
                  value={form.displayName}
                  maxLength={128}
                  onChange={(event) => onChange({ displayName: event.target.value })}
                />
              )}
            </Field>
            <Field label="Output model" hint="Empty: the job's id.">
              {(ids) => (
                <Input
                  {...ids}
                  value={form.outputModel}
                  onChange={(event) => onChange({ outputModel: event.target.value })}
                />
              )}
            </Field>
          </div>
          {wrong.length > 0 && (
            <ul
              role="alert"
              className="space-y-1 rounded-md border border-bad bg-bad-soft px-3 py-2 text-bad"
            >
              {wrong.map((one) => (
                <li key={one} className="break-words">
                  {one}
                </li>
              ))}
            </ul>
          )}
          {start.error && (
            <p
              role="alert"
              className="rounded-md border border-bad bg-bad-soft px-3 py-2 break-words text-bad"
            >
              {start.error.message}
            </p>
          )}
          <ChangeButton
            kind="primary"
            icon={<Play size={14} />}
            busy={start.isPending}
            disabled={missing.length > 0 || wrong.length > 0}
            title={missing.length ? `Missing: ${missing.join(", ")}` : undefined}
            className="w-full"
            onClick={() =>
              start.mutate(
                { id: form.jobId.trim(), body },
                {
                  onSuccess: (job) =>
                    navigate({ to: `/dashboard/fine-tuning/${JOB_PATH[form.kind]}/${shortId(job.name)}` }),
                },
              )
            }
          >
            Start the job
          </ChangeButton>
        </div>
      </Panel>
      <Panel title="The same from a terminal">
        <Code text={commandOf(form, base)} />
      </Panel>
    </div>
  );
}

function EstimateView(props: {
  estimate: { data: Estimate | undefined; error: Error | null; isFetching: boolean } | undefined;
  missing: readonly string[];
  may: boolean;
}) {
  const { estimate, missing, may } = props;
  if (!may)
    return <p className="text-ink-soft">Sign in with an API key for an estimate, and to start a job.</p>;
  if (!estimate) return <p className="text-ink-soft">Choose {missing.join(" and ")} for an estimate.</p>;
  const { data, error } = estimate;
  if (!data)
    return (
      <p className="text-ink-soft" role="status">
        {error ? `No estimate: ${error.message}` : "Estimating…"}
      </p>
    );
  const facts: [string, string][] = [
    ["Time", range(data.seconds, span)],
    [
      "Cost",
      data.cost ? `${range(data.cost, (value) => value.toFixed(2))} ${data.cost.currency}` : "no prices set",
    ],
    ["Steps", count(data.steps)],
    ...(data.rollouts ? [["Rollouts", count(data.rollouts)] as [string, string]] : []),
    ...(most(data.sampledTokens) ? [["Sampled tokens", tokens(data.sampledTokens)] as [string, string]] : []),
    ...(most(data.promptTokens)
      ? [["Prompt tokens", range(data.promptTokens, count)] as [string, string]]
      : []),
    ...(most(data.trainedTokens) ? [["Trained tokens", tokens(data.trainedTokens)] as [string, string]] : []),
  ];
  return (
    <div className={estimate.isFetching ? "opacity-60" : undefined} aria-busy={estimate.isFetching}>
      <dl className="grid grid-cols-[8rem_minmax(0,1fr)] gap-y-1">
        {facts.map(([name, value]) => (
          <div key={name} className="contents">
            <dt className="text-ink-soft">{name}</dt>
            <dd className="tabular font-medium">{value}</dd>
          </div>
        ))}
      </dl>
      {data.assumptions.length > 0 && (
        <details className="mt-2 text-xs text-ink-soft">
          <summary className="cursor-pointer">Assumes</summary>
          <ul className="mt-1 list-disc space-y-1 pl-4">
            {data.assumptions.map((one) => (
              <li key={one}>{one}</li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

function range({ low, high }: { low: number; high: number }, show: (value: number) => string): string {
  const [from, to] = [show(low), show(high)];
  return from === to ? from : `${from} to ${to}`;
}

function most(value: number | { low: number; high: number } | undefined): number {
  return typeof value === "number" ? value : (value?.high ?? 0);
}

function tokens(value: number | { low: number; high: number }): string {
  return typeof value === "number" ? count(value) : range(value, count);
}

function missingOf(form: Form): string[] {
  return [
    !form.baseModel && !form.warmStartFrom && "a base model",
    !form.dataset && "a dataset",
    form.kind === "rft" && !form.evaluator && "an evaluator",
  ].filter((one): one is string => typeof one === "string");
}

function problemsOf(form: Form, base: Model | undefined): string[] {
  const found = OPTIONS[form.kind].flatMap((option) => {
    if (option.when?.(form.values) === false) return [];
    const problem = problemOf(option, form.values[option.key] ?? "", rangeOf(form.kind, option, base));
    return problem ? [`${option.label}: ${problem}`] : [];
  });
  if (form.jobId && !/^[a-z0-9][a-z0-9-]{0,55}$/.test(form.jobId))
    found.push("Job id: a to z, 0 to 9 and hyphens; at most 56.");
  return found;
}

/** `:validate` looks at the options only, but wants the names to be there. */
function withNames(body: JobBody | null): JobBody | null {
  if (!body) return null;
  return {
    ...body,
    dataset: body.dataset || "later",
    ...("evaluator" in body ? { evaluator: body.evaluator || "later" } : {}),
  };
}

/** Names of what differs between two forms. */
function changedFields(before: Form, now: Form): string[] {
  const plain: [keyof Form, string][] = [
    ["baseModel", "base model"],
    ["warmStartFrom", "warm start"],
    ["dataset", "dataset"],
    ["evaluator", "evaluator"],
    ["evaluationDataset", "held-out rows"],
    ["carveout", "held-out rows"],
  ];
  const changed = plain.filter(([field]) => before[field] !== now[field]).map(([, name]) => name);
  const options = OPTIONS[now.kind]
    .filter(({ key }) => (before.values[key] ?? "") !== (now.values[key] ?? ""))
    .map((option) => option.label.toLowerCase());
  return [...new Set([...changed, ...options])];
}

/** A text once it has not changed for `pause` milliseconds. */
function useSettled(text: string, pause: number): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), pause);
    return () => clearTimeout(timer);
  }, [text, pause]);
  return settled;
}
