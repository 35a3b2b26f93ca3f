// The first page: what runs now, the latest jobs with their reward, and what there is to work with.
import { Link } from "@tanstack/react-router";
import { ArrowRight, SlidersHorizontal } from "lucide-react";
import type { ReactNode } from "react";
import { useDatasets } from "~/api/datasets";
import { useEvaluators } from "~/api/evaluators";
import { type AnyJob, JOB_PATH, unfinished, useNewestJobs } from "~/api/fineTuningJobs";
import { useModels } from "~/api/models";
import { shortId } from "~/api/names";
import { Badge, ResourceState } from "~/design/Badge";
import { PageHeader } from "~/design/PageHeader";
import { Failure, Loaded, Panel, Skeleton } from "~/design/Panel";
import { Time } from "~/design/Time";
import { FirstSteps } from "./FirstSteps";
import { modelPath } from "./models/names";
import { JobFigure, RunningJob } from "./RunningJob";

const NEWEST = 12;

export function Overview() {
  const jobs = useNewestJobs(NEWEST);
  const datasets = useDatasets();
  const evaluators = useEvaluators();
  const models = useModels();
  const running = (jobs.data ?? []).filter((job) => unfinished(job.state));
  const finished = (jobs.data ?? []).filter((job) => !unfinished(job.state));
  const fresh = jobs.data?.length === 0 && datasets.data?.length === 0 && evaluators.data?.length === 0;
  return (
    <>
      <PageHeader
        title="Overview"
        actions={
          <Link
            to="/dashboard/fine-tuning/create"
            className="inline-flex h-8 items-center gap-1.5 rounded-md bg-accent px-3 text-[13px] font-medium text-accent-ink hover:opacity-90"
          >
            <SlidersHorizontal size={15} aria-hidden="true" />
            Fine-tune a model
          </Link>
        }
      />
      {fresh ? (
        <FirstSteps />
      ) : (
        <div className="space-y-6">
          {jobs.error && !jobs.data && (
            <Failure title="The jobs could not be loaded" error={jobs.error} retry={jobs.refetch} />
          )}
          {jobs.isPending && !jobs.data && <Skeleton />}
          {running.length > 0 && (
            <section aria-labelledby="running" className="space-y-3">
              <h2 id="running" className="font-semibold">
                Running now
              </h2>
              <div className="grid gap-3 md:grid-cols-2 2xl:grid-cols-3">
                {running.map((job) => (
                  <RunningJob key={job.name} job={job} />
                ))}
              </div>
            </section>
          )}
          {finished.length > 0 && (
            <Panel title="Latest jobs" actions={<More to="/dashboard/fine-tuning">All jobs</More>} flush>
              <ul>
                {finished.map((job) => (
                  <FinishedJob key={job.name} job={job} />
                ))}
              </ul>
            </Panel>
          )}
          {jobs.data?.length === 0 && (
            <Panel title="Jobs">
              <p className="text-ink-soft">
                No job has run yet.{" "}
                <Link
                  to="/dashboard/fine-tuning/create"
                  className="text-accent-text underline underline-offset-2"
                >
                  Fine-tune a model
                </Link>{" "}
                on what is here.
              </p>
            </Panel>
          )}
          <div className="grid gap-4 lg:grid-cols-3">
            <Newest
              title="Evaluators"
              to="/dashboard/evaluators"
              query={evaluators}
              empty="No evaluators yet. ep upload sends one."
              row={(evaluator) => [
                `/dashboard/evaluators/${shortId(evaluator.name)}`,
                shortId(evaluator.name),
                <ResourceState key="s" state={evaluator.state} />,
              ]}
            />
            <Newest
              title="Datasets"
              to="/dashboard/datasets"
              query={datasets}
              empty="No datasets yet."
              row={(dataset) => [
                `/dashboard/datasets/${shortId(dataset.name)}`,
                shortId(dataset.name),
                <span key="s" className="tabular text-ink-soft">
                  {dataset.exampleCount ? `${dataset.exampleCount} rows` : "no rows yet"}
                </span>,
              ]}
            />
            <Newest
              title="Models"
              to="/dashboard/models"
              query={models}
              empty="No models yet. A job that completes leaves one."
              row={(model) => [
                modelPath(model.name),
                shortId(model.name),
                <Time key="s" at={model.createTime} ago />,
              ]}
            />
          </div>
        </div>
      )}
    </>
  );
}

function More({ to, children }: { to: string; children: ReactNode }) {
  return (
    <Link
      to={to}
      className="inline-flex items-center gap-1 text-xs font-medium text-accent-text hover:underline"
    >
      {children}
      <ArrowRight size={13} aria-hidden="true" />
    </Link>
  );
}

function FinishedJob({ job }: { job: AnyJob }) {
  return (
    <li className="grid grid-cols-[minmax(0,1fr)_auto] items-center gap-x-4 gap-y-1 border-b px-4 py-2.5 last:border-b-0 sm:grid-cols-[minmax(0,1fr)_8rem_minmax(11rem,auto)_7rem]">
      <span className="flex min-w-0 items-center gap-2">
        <Link
          to={`/dashboard/fine-tuning/${JOB_PATH[job.kind]}/${shortId(job.name)}`}
          className="truncate font-medium text-accent-text hover:underline"
        >
          {job.displayName || shortId(job.name)}
        </Link>
        <Badge>{job.kind.toUpperCase()}</Badge>
      </span>
      <ResourceState state={job.state} />
      <JobFigure job={job} />
      <span className="text-xs text-ink-soft sm:text-right">
        <Time at={job.completedTime ?? job.createTime} ago />
      </span>
    </li>
  );
}

function Newest<T extends { name: string }>(props: {
  title: string;
  to: string;
  query: { data: T[] | undefined; error: unknown; isPending: boolean; refetch: () => unknown };
  empty: string;
  row: (one: T) => [to: string, label: string, fact: ReactNode];
}) {
  return (
    <Panel title={props.title} actions={<More to={props.to}>All</More>} flush>
      <Loaded query={props.query} what={props.title}>
        {(all) =>
          all.length === 0 ? (
            <p className="px-4 py-6 text-center text-ink-soft">{props.empty}</p>
          ) : (
            <ul>
              {all.slice(0, 5).map((one) => {
                const [to, label, fact] = props.row(one);
                return (
                  <li
                    key={one.name}
                    className="flex items-center justify-between gap-3 border-b px-4 py-2 last:border-b-0"
                  >
                    <Link to={to} className="min-w-0 truncate text-accent-text hover:underline">
                      {label}
                    </Link>
                    <span className="shrink-0 text-xs">{fact}</span>
                  </li>
                );
              })}
            </ul>
          )
        }
      </Loaded>
    </Panel>
  );
}
