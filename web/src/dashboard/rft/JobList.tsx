// Jobs of all kinds in one table: filtered here, several RFT jobs chosen to be compared.
import { Link, useNavigate } from "@tanstack/react-router";
import { GitCompareArrows, Plus, Search } from "lucide-react";
import { useState } from "react";
import { type AnyJob, JOB_PATH, useNewestJobs } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import { Badge, ResourceState, Score } from "~/design/Badge";
import { Button } from "~/design/Button";
import { type Column, DataTable } from "~/design/DataTable";
import { Input, Select } from "~/design/Field";
import { count, figure } from "~/design/figures";
import { Empty, Failure } from "~/design/Panel";
import { Time } from "~/design/Time";
import { LinkButton } from "./LinkButton";

const KINDS = { rft: "Reinforcement", sft: "Supervised", dpo: "Preference" } as const;
const MOST = 200;

export function JobList() {
  const jobs = useNewestJobs(MOST);
  const navigate = useNavigate();
  const [kind, setKind] = useState("");
  const [state, setState] = useState("");
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const all = jobs.data ?? [];
  const wanted = text.trim().toLowerCase();
  const rows = all.filter(
    (job) =>
      (!kind || job.kind === kind) &&
      (!state || job.state === state) &&
      (!wanted ||
        `${job.displayName ?? ""} ${job.name} ${job.baseModel ?? ""} ${job.outputModel ?? ""}`
          .toLowerCase()
          .includes(wanted)),
  );
  const columns: Column<AnyJob>[] = [
    {
      id: "choose",
      header: "Compare",
      width: 76,
      cell: (job) =>
        job.kind === "rft" && (
          <input
            type="checkbox"
            aria-label={`Compare ${job.displayName || shortId(job.name)}`}
            className="size-4 accent-accent"
            checked={chosen.has(job.name)}
            onChange={() => setChosen(toggled(chosen, job.name))}
          />
        ),
    },
    ...COLUMNS,
  ];
  const comparable = [...chosen].filter((name) => all.some((job) => job.name === name));
  return (
    <div className="flex flex-col gap-4">
      <header className="flex flex-wrap items-end justify-between gap-3">
        <div>
          <h1 className="text-xl font-semibold">Fine-tuning</h1>
          <p className="text-ink-soft">Training jobs of every kind, newest first.</p>
        </div>
        <div className="flex flex-wrap items-center gap-2">
          <Button
            icon={<GitCompareArrows size={14} />}
            disabled={comparable.length < 2}
            title={comparable.length < 2 ? "Choose at least two reinforcement jobs" : undefined}
            onClick={() =>
              navigate({
                to: "/dashboard/fine-tuning/compare",
                search: { job: comparable.map(shortId) },
              } as never)
            }
          >
            Compare{comparable.length > 0 && ` ${comparable.length}`}
          </Button>
          <LinkButton to="/dashboard/fine-tuning/create" icon={<Plus size={14} />} primary>
            Fine-tune a model
          </LinkButton>
        </div>
      </header>
      {jobs.error && !jobs.data ? (
        <Failure title="The jobs could not be loaded" error={jobs.error} retry={jobs.refetch} />
      ) : (
        <DataTable
          label="Jobs"
          name="jobs"
          columns={columns}
          rows={jobs.data ? rows : undefined}
          rowKey={(job) => job.name}
          onRowClick={(job) => navigate({ to: pathOf(job) } as never)}
          toolbar={
            <>
              <div className="relative">
                <Search size={13} aria-hidden="true" className="absolute top-2.5 left-2.5 text-ink-faint" />
                <Input
                  type="search"
                  aria-label="Name or model"
                  placeholder="Name or model"
                  className="w-44 pl-7"
                  value={text}
                  onChange={(event) => setText(event.target.value)}
                />
              </div>
              <Select aria-label="Kind" value={kind} onChange={(event) => setKind(event.target.value)}>
                <option value="">All kinds</option>
                {Object.entries(KINDS).map(([id, label]) => (
                  <option key={id} value={id}>
                    {label}
                  </option>
                ))}
              </Select>
              <Select aria-label="State" value={state} onChange={(event) => setState(event.target.value)}>
                <option value="">All states</option>
                {[...new Set(all.map((job) => job.state))].sort().map((one) => (
                  <option key={one} value={one}>
                    {one
                      .replace(/^JOB_STATE_/, "")
                      .toLowerCase()
                      .replaceAll("_", " ")}
                  </option>
                ))}
              </Select>
              <span className="tabular text-xs text-ink-soft">
                {rows.length === all.length
                  ? `${count(all.length)} ${all.length === 1 ? "job" : "jobs"}`
                  : `${count(rows.length)} of ${count(all.length)} jobs`}
                {all.length >= MOST && ", the newest"}
              </span>
            </>
          }
          empty={
            all.length ? (
              <Empty title="No job passes the filter" />
            ) : (
              <Empty
                title="No jobs yet"
                action={
                  <LinkButton to="/dashboard/fine-tuning/create" primary>
                    Fine-tune a model
                  </LinkButton>
                }
              >
                Start one here, or from an evaluator's folder with{" "}
                <code className="font-mono">ep create rft</code>.
              </Empty>
            )
          }
        />
      )}
    </div>
  );
}

function pathOf(job: AnyJob): string {
  return `/dashboard/fine-tuning/${JOB_PATH[job.kind]}/${shortId(job.name)}`;
}

const COLUMNS: Column<AnyJob>[] = [
  {
    id: "name",
    header: "Job",
    width: 190,
    value: (job) => job.displayName || shortId(job.name),
    cell: (job) => (
      <div className="min-w-0">
        <Link to={pathOf(job)} className="font-medium hover:underline">
          {job.displayName || shortId(job.name)}
        </Link>
        {job.displayName && (
          <div className="truncate font-mono text-xs text-ink-faint">{shortId(job.name)}</div>
        )}
      </div>
    ),
  },
  {
    id: "state",
    header: "State",
    width: 115,
    value: (job) => job.state,
    cell: (job) => <ResourceState state={job.state} />,
  },
  {
    id: "kind",
    header: "Kind",
    width: 120,
    value: (job) => job.kind,
    cell: (job) => <Badge tone={job.kind === "rft" ? "accent" : "plain"}>{KINDS[job.kind]}</Badge>,
  },
  {
    id: "base",
    header: "Base model",
    width: 135,
    value: (job) => job.baseModel,
    cell: (job) => (
      <span title={job.baseModel}>
        {shortId(job.baseModel) || <span className="text-ink-faint">none</span>}
      </span>
    ),
  },
  {
    id: "progress",
    header: "Progress",
    width: 135,
    value: (job) => job.percent,
    cell: (job) => (
      <span className="flex items-center gap-2">
        <span aria-hidden="true" className="h-1.5 w-20 overflow-hidden rounded-full bg-sunken">
          <span className="block h-full rounded-full bg-accent" style={{ width: `${job.percent}%` }} />
        </span>
        <span className="tabular text-xs">{job.percent} %</span>
      </span>
    ),
  },
  {
    id: "result",
    header: "Reward or loss",
    align: "right",
    width: 125,
    value: result,
    cell: (job) => <Result job={job} />,
  },
  {
    id: "created",
    header: "Created",
    width: 130,
    value: (job) => job.createTime,
    cell: (job) => <Time at={job.createTime} brief />,
  },
];

function result(job: AnyJob): number | null {
  const { run } = job;
  const value = job.kind === "rft" ? run.mean_score : (run.eval_loss ?? run.loss);
  return typeof value === "number" ? value : null;
}

function Result({ job }: { job: AnyJob }) {
  const value = result(job);
  if (value === null) return <span className="text-ink-faint">none</span>;
  if (job.kind === "rft") return <Score value={value} />;
  return (
    <span className="font-mono" title={job.run.eval_loss !== undefined ? "Held-out loss" : "Training loss"}>
      {figure(value)}
    </span>
  );
}

function toggled(set: ReadonlySet<string>, name: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(name)) next.add(name);
  return next;
}
