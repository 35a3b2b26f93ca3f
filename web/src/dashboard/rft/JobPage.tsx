// One RFT job: what it is and where it stands above, its curves, rollouts, audit, logs and options in tabs.
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { shortId } from "~/api/names";
import { type RftJob, useRftJob, useRftMetrics } from "~/api/reinforcementFineTuningJobs";
import { Failure, Loaded, Skeleton } from "~/design/Panel";
import { EpochTab } from "./EpochTab";
import { JobHeader } from "./JobHeader";
import { JobTabs, tabOf } from "./JobTabs";
import { useLiveJob } from "./live";
import { Summary } from "./Summary";
import type { JobSearch } from "./search";
import { Tiles } from "./Tiles";

const AuditTab = lazy(() => import("./AuditTab").then((module) => ({ default: module.AuditTab })));
const LogsTab = lazy(() => import("./LogsTab").then((module) => ({ default: module.LogsTab })));
const OptionsTab = lazy(() => import("./OptionsTab").then((module) => ({ default: module.OptionsTab })));
const RolloutDrawer = lazy(() =>
  import("./RolloutDrawer").then((module) => ({ default: module.RolloutDrawer })),
);

export function JobPage() {
  const { id } = useParams({ strict: false }) as { id: string };
  const job = useRftJob(shortId(id));
  useLiveJob(job.data, shortId(id));
  return (
    <Loaded query={job} what="The job" lines={8}>
      {(data) => <Job job={data} />}
    </Loaded>
  );
}

export interface SearchProps {
  search: JobSearch;
  /** Changes the URL; what is not named stays, undefined takes it away. */
  onSearch: (change: Partial<JobSearch>) => void;
}

function Job({ job }: { job: RftJob }) {
  const id = shortId(job.name);
  const search = useSearch({ strict: false }) as JobSearch;
  const navigate = useNavigate();
  const metrics = useRftMetrics(id);
  const onSearch = (change: Partial<JobSearch>) =>
    navigate({
      to: ".",
      search: (before: JobSearch) => ({ ...before, ...change }),
      replace: !("tab" in change || "rollout" in change || "step" in change),
      resetScroll: false,
    } as never);
  const tab = tabOf(job, search.tab);
  return (
    <div className="flex flex-col gap-4">
      <JobHeader job={job} />
      <Tiles job={job} metrics={metrics.data} />
      <JobTabs {...{ job, search, onSearch }} metrics={metrics.data} />
      <div role="tabpanel" aria-label={tab} className="min-w-0">
        <Suspense fallback={<Skeleton lines={8} />}>
          {tab === "summary" && (
            <Loaded query={metrics} what="The metrics" lines={8}>
              {(data) => <Summary {...{ job, search, onSearch }} metrics={data} />}
            </Loaded>
          )}
          {tab === "epoch" && <EpochTab {...{ job, search, onSearch }} metrics={metrics.data} />}
          {tab === "audit" && <AuditTab job={job} onRollout={(rollout) => onSearch({ rollout })} />}
          {tab === "logs" && <LogsTab job={job} onRollout={(rollout) => onSearch({ rollout })} />}
          {tab === "options" && <OptionsTab job={job} />}
        </Suspense>
      </div>
      {metrics.error && tab !== "summary" && (
        <Failure
          title="The metrics could not be loaded"
          error={metrics.error}
          retry={() => metrics.refetch()}
        />
      )}
      {search.rollout && (
        <Suspense>
          <RolloutDrawer {...{ job, search, onSearch }} rolloutId={search.rollout} />
        </Suspense>
      )}
    </div>
  );
}
