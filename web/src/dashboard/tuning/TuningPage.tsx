// An SFT or DPO job: where it stands, its curves, what it was trained on token by token, its held-out rows, options and log.
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { shortId } from "~/api/names";
import {
  type TuningJob,
  type TuningKind,
  useTrainerLog,
  useTuningJob,
  useTuningMetrics,
} from "~/api/tuningJobs";
import { Select } from "~/design/Field";
import { Empty, Loaded, Panel, Skeleton } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { curvesOf } from "./curves";
import { Options } from "./Options";
import type { TuningSearch, TuningTab } from "./search";
import { TuningHeader } from "./TuningHeader";
import { TuningTiles } from "./TuningTiles";

const Chart = lazy(() => import("~/design/Chart").then((module) => ({ default: module.Chart })));
const LogView = lazy(() => import("~/design/LogView").then((module) => ({ default: module.LogView })));
const RenderSamples = lazy(() => import("./RenderSamples"));
const EvaluationRows = lazy(() => import("./EvaluationRows"));

export function SftPage() {
  return <TuningPage kind="sft" />;
}

export function DpoPage() {
  return <TuningPage kind="dpo" />;
}

function TuningPage({ kind }: { kind: TuningKind }) {
  const { id } = useParams({ strict: false }) as { id: string };
  const job = useTuningJob(kind, id);
  return (
    <Loaded query={job} what={`Job ${id}`} lines={8}>
      {(data) => <Page kind={kind} id={id} job={data} />}
    </Loaded>
  );
}

function Page({ kind, id, job }: { kind: TuningKind; id: string; job: TuningJob }) {
  const search = useSearch({ strict: false }) as TuningSearch;
  const navigate = useNavigate();
  const metrics = useTuningMetrics(kind, id, job);
  const tab = search.tab ?? "summary";
  const go = (change: TuningSearch) =>
    navigate({ to: ".", search: { ...search, ...change } as never, replace: true });
  return (
    <div className="mx-auto max-w-7xl space-y-4">
      <title>{`${job.displayName || shortId(job.name)} · Tunesmith`}</title>
      <TuningHeader kind={kind} id={id} job={job} />
      <TuningTiles kind={kind} job={job} lines={metrics.data ?? []} />
      <Tabs
        label="Parts of the job"
        active={tab}
        onChange={(next) => go({ tab: next as TuningTab })}
        tabs={[
          { id: "summary", label: "Summary" },
          { id: "samples", label: "Render samples" },
          { id: "rows", label: "Evaluation rows" },
          { id: "options", label: "Options" },
          { id: "logs", label: "Logs" },
        ]}
      />
      <Suspense fallback={<Skeleton lines={6} />}>
        {tab === "summary" && <Summary kind={kind} job={job} metrics={metrics} />}
        {tab === "samples" && (
          <RenderSamples
            kind={kind}
            id={id}
            job={job}
            at={search.sample ?? 0}
            onAt={(sample) => go({ sample })}
          />
        )}
        {tab === "rows" && (
          <EvaluationRows kind={kind} id={id} job={job} step={search.step} onStep={(step) => go({ step })} />
        )}
        {tab === "options" && <Options job={job} />}
        {tab === "logs" && <Log kind={kind} id={id} job={job} />}
      </Suspense>
    </div>
  );
}

function Summary(props: { kind: TuningKind; job: TuningJob; metrics: ReturnType<typeof useTuningMetrics> }) {
  const [smoothing, setSmoothing] = useState(0);
  if (!props.job.metricsFileSignedUrl)
    return (
      <Panel>
        <Empty title="Nothing is measured yet">The curves begin with the first step.</Empty>
      </Panel>
    );
  return (
    <Loaded query={props.metrics} what="The metrics">
      {(lines) => {
        const curves = curvesOf(props.kind, lines);
        if (!curves.length)
          return <Empty title="Nothing is measured yet">The curves begin with the first step.</Empty>;
        return (
          <div className="space-y-3">
            <div className="flex items-center justify-end gap-2 text-xs text-ink-soft">
              Smoothing
              <Select
                aria-label="Smoothing"
                value={smoothing}
                onChange={(event) => setSmoothing(Number(event.target.value))}
              >
                {[0, 5, 10, 20].map((span) => (
                  <option key={span} value={span}>
                    {span ? `average of ${span}` : "none"}
                  </option>
                ))}
              </Select>
            </div>
            <div className="grid gap-3 lg:grid-cols-2">
              {curves.map((curve, place) => (
                <Panel
                  key={curve.label}
                  title={curve.label}
                  className={place === 0 ? "lg:col-span-2" : undefined}
                >
                  <Chart
                    label={curve.label}
                    x={curve.x}
                    series={curve.series}
                    smoothing={smoothing}
                    range={curve.range}
                    height={place === 0 ? 280 : 180}
                  />
                </Panel>
              ))}
            </div>
          </div>
        );
      }}
    </Loaded>
  );
}

function Log({ kind, id, job }: { kind: TuningKind; id: string; job: TuningJob }) {
  const log = useTrainerLog(kind, id, job);
  if (!job.trainerLogsSignedUrl)
    return (
      <Panel>
        <Empty title="No log yet">It begins when the trainer starts.</Empty>
      </Panel>
    );
  return (
    <Loaded query={log} what="The log">
      {(text) => (
        <LogView
          label="Log of the trainer"
          live={!job.completedTime}
          empty={<Empty title="The trainer wrote nothing yet" />}
          lines={text
            .replace(/\n$/, "")
            .split("\n")
            .filter(Boolean)
            .map((message) => ({
              time: null,
              level: /\b(error|traceback|exception)\b/i.test(message)
                ? "ERROR"
                : /\bwarn(ing)?\b/i.test(message)
                  ? "WARNING"
                  : "INFO",
              message,
            }))}
        />
      )}
    </Loaded>
  );
}
