// The page of one run: what it was above, its reward curve, a scrubber over its steps with their rollouts, then what scored it.
import "~/dashboard/studio/studio.css";
import { useMemo, useState } from "react";
import { shortId } from "~/api/names";
import { evaluationsOf, rewardCurve } from "~/dashboard/rft/curated";
import { Drawing } from "~/dashboard/studio/Drawing";
import { marksOf } from "~/dashboard/studio/steering";
import { ResourceState } from "~/design/Badge";
import { Chart } from "~/design/Chart";
import { count, figure } from "~/design/figures";
import mark from "~/design/mark.svg";
import { Empty, Panel, Tile } from "~/design/Panel";
import { Scrubber } from "~/design/Scrubber";
import { Tabs } from "~/design/Tabs";
import { ThemeMenu } from "~/design/ThemeMenu";
import { moment, span, Time } from "~/design/Time";
import { asRollout, type RunData, type RunRollout, type RunStep } from "./data";
import { AuditPanel, EvaluatorPanel, OptionsPanel } from "./RunParts";
import { RunRolloutDrawer } from "./RunRolloutDrawer";

export function RunPage({ run }: { run: RunData }) {
  const title = run.job.displayName || shortId(run.job.name);
  return (
    <>
      <title>{`${title}: a Tunesmith run`}</title>
      <main className="mx-auto flex max-w-7xl flex-col gap-4 px-4 py-5">
        <header className="flex flex-wrap items-start justify-between gap-3">
          <div className="min-w-0">
            <p className="flex items-center gap-2 text-xs text-ink-soft">
              <img src={mark} alt="" className="size-5" />A Tunesmith run, made <Time at={run.made} />
            </p>
            <h1 className="flex flex-wrap items-center gap-x-3 text-2xl font-semibold break-all">{title}</h1>
            <ResourceState state={run.job.state} />
          </div>
          <ThemeMenu />
        </header>
        <Facts run={run} />
        <Steps run={run} />
        <EvaluatorPanel evaluator={run.evaluator} events={run.events} />
        <div className="grid items-start gap-4 lg:grid-cols-2">
          <AuditPanel run={run} />
          <OptionsPanel job={run.job} />
        </div>
        <footer className="text-xs text-ink-faint">
          Tunesmith {run.platform}. This file holds {count(run.kept.rollouts)} of {count(run.kept.of)}{" "}
          rollouts, {count(run.kept.withTokens)} of them token by token; it fetches nothing.
        </footer>
      </main>
    </>
  );
}

function Facts({ run }: { run: RunData }) {
  const { job } = run;
  const config = job.trainingConfig;
  const means = run.steps.flatMap((step) => step.meanScore ?? []);
  const heldOut = evaluationsOf({
    name: job.name,
    state: job.state,
    metrics: run.metrics,
    events: run.events,
  });
  const [first, last] = [heldOut[0]?.score, heldOut.at(-1)?.score];
  const start = moment(job.createTime)?.getTime();
  const end = moment(job.completedTime)?.getTime();
  return (
    <div className="grid grid-cols-2 gap-2.5 sm:grid-cols-3 xl:grid-cols-6">
      <Tile label="Base model" value={shortId(config.baseModel ?? config.warmStartFrom) || "none"} />
      <Tile label="Output model" value={shortId(config.outputModel) || "none"} />
      <Tile label="Mean reward" value={fromTo(means[0], means.at(-1))} hint="first and last step" />
      <Tile
        label="Held-out score"
        value={fromTo(first, last)}
        hint={heldOut[0] ? `${count(Number(heldOut[0].n))} rows` : "no rows were held out"}
      />
      <Tile
        label="Steps"
        value={count(run.steps.length)}
        hint={`${count(run.steps.reduce((sum, step) => sum + step.total, 0))} rollouts`}
      />
      <Tile
        label="Took"
        value={start !== undefined && end !== undefined ? span((end - start) / 1000) : "not ended"}
        hint={<Time at={job.createTime} />}
      />
    </div>
  );
}

function fromTo(first: unknown, last: unknown): string {
  return typeof first === "number" && typeof last === "number"
    ? `${first.toFixed(3)} to ${last.toFixed(3)}`
    : "none";
}

function Steps({ run }: { run: RunData }) {
  const [kind, setKind] = useState<"steps" | "evaluations">(
    run.evaluations.some((step) => step.rollouts.length) ? "evaluations" : "steps",
  );
  const steps = run[kind];
  const values = useMemo(() => steps.map((step) => step.step), [steps]);
  const [at, setAt] = useState(values.at(-1) ?? 0);
  const [opened, setOpened] = useState<string | null>(null);
  const step = steps.findLast((one) => one.step <= at) ?? steps[0];
  const lines = useMemo(
    () => ({ name: run.job.name, state: run.job.state, metrics: run.metrics, events: run.events }),
    [run],
  );
  const curve = useMemo(() => rewardCurve(lines), [lines]);
  const marks = useMemo(
    () => [
      ...marksOf(run.events, run.job.rewoundTo),
      ...(step ? [{ x: step.step, label: `shown: ${step.step}`, colour: 8 as const }] : []),
    ],
    [run, step],
  );
  const rollout = step?.rollouts.find((one) => one.rolloutId === opened);
  return (
    <>
      <Panel title="Reward">
        <Chart label="Reward" x={curve.x} series={curve.series} marks={marks} height={220} onPick={setAt} />
      </Panel>
      <Panel title="Rollouts" actions={step && <StepFacts step={step} />}>
        <Tabs
          label="Which rollouts"
          active={kind}
          onChange={(next) => {
            setKind(next as "steps" | "evaluations");
            setOpened(null);
          }}
          tabs={[
            { id: "evaluations", label: "Held out", count: run.evaluations.length },
            { id: "steps", label: "Training", count: run.steps.length },
          ]}
        />
        <div className="sticky top-0 z-10 -mx-4 border-b bg-surface px-4 py-2">
          <Scrubber
            label={kind === "steps" ? "Step" : "Policy version"}
            values={values}
            value={step?.step ?? 0}
            onChange={setAt}
          />
        </div>
        {step?.rollouts.length ? (
          <div className="mt-3 grid grid-cols-3 gap-2 sm:grid-cols-4 lg:grid-cols-8">
            {step.rollouts.map((one) => (
              <Drawing
                key={`${one.rowIndex} ${one.k}`}
                rollout={asRollout(one)}
                onOpen={() => setOpened(one.rolloutId)}
              />
            ))}
          </div>
        ) : (
          <Empty title="No rollout of this step is in the file">
            Make the report with more rollouts to see it.
          </Empty>
        )}
      </Panel>
      {rollout && step && (
        <RunRolloutDrawer
          rollout={rollout}
          step={step}
          history={historyOf(steps, rollout)}
          onStep={(next, id) => {
            setAt(next);
            setOpened(id);
          }}
          onClose={() => setOpened(null)}
        />
      )}
    </>
  );
}

/** One rollout of the same row for each step that has it. */
function historyOf(steps: readonly RunStep[], rollout: RunRollout): { step: number; rollout: RunRollout }[] {
  return steps.flatMap((step) => {
    const same = step.rollouts.find((one) => one.rowIndex === rollout.rowIndex && one.k === rollout.k);
    const other = same ?? step.rollouts.find((one) => one.rowIndex === rollout.rowIndex);
    return other ? [{ step: step.step, rollout: other }] : [];
  });
}

function StepFacts({ step }: { step: RunStep }) {
  return (
    <span className="tabular flex flex-wrap gap-x-3 text-xs text-ink-soft">
      <span>
        mean <b className="text-ink">{figure(step.meanScore)}</b>
      </span>
      {step.evaluatorVersion !== null && <span>evaluator {step.evaluatorVersion}</span>}
      {step.learningRate !== null && <span>learning rate {figure(step.learningRate)}</span>}
      <span>
        {step.rollouts.length} of {step.total} rollouts
      </span>
    </span>
  );
}
