// Name and state of an RFT job, and everything that can be done with it.
import { Link, useNavigate } from "@tanstack/react-router";
import {
  ChartNoAxesCombined,
  CircleStop,
  Copy,
  Download,
  FileCode2,
  GitCompareArrows,
  Paintbrush,
  Play,
  RotateCw,
  Trash2,
} from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { useState } from "react";
import { unfinished } from "~/api/fineTuningJobs";
import { queryText } from "~/api/http";
import { shortId } from "~/api/names";
import { RFT_JOBS, type RftJob, useRftActions } from "~/api/reinforcementFineTuningJobs";
import { ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { Confirm } from "~/design/Dialog";
import { toast, toastError } from "~/design/Toast";
import { useAccountPath, useMayChange } from "../session";
import { LinkButton, MENU, MENU_ITEM } from "./LinkButton";
import { Promote } from "./Promote";

const VIEWER = "Looking only: sign in with an API key to change things";

export function JobHeader({ job }: { job: RftJob }) {
  const id = shortId(job.name);
  const title = job.displayName || id;
  const mayChange = useMayChange();
  const [asked, setAsked] = useState<"cancel" | "delete" | null>(null);
  const navigate = useNavigate();
  const actions = useRftActions(id);
  const running = unfinished(job.state);
  const hint = mayChange ? undefined : VIEWER;
  const failed = job.state === "JOB_STATE_FAILED";

  const act = (which: "cancel" | "resume" | "remove", done: string) =>
    actions[which].mutate(undefined, {
      onError: toastError,
      onSuccess: () => toast(done),
      onSettled: () => setAsked(null),
    });
  const removeIt = () =>
    actions.remove.mutate(undefined, {
      onError: toastError,
      onSuccess: () => {
        toast(`${title} was deleted.`);
        navigate({ to: "/dashboard/fine-tuning" as string });
      },
      onSettled: () => setAsked(null),
    });

  return (
    <header className="flex flex-col gap-3">
      <div className="flex flex-wrap items-start justify-between gap-x-6 gap-y-3">
        <div className="min-w-0">
          <nav aria-label="Path" className="text-xs text-ink-faint">
            <Link to={"/dashboard/fine-tuning" as string} className="hover:text-ink hover:underline">
              Fine-tuning
            </Link>{" "}
            / reinforcement
          </nav>
          <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
            <h1 className="text-xl font-semibold break-all">{title}</h1>
            <ResourceState state={pausedNow(job) ? "PAUSED" : job.state} />
          </div>
          <p className="flex items-center gap-1 text-xs text-ink-soft">
            <span className="truncate font-mono">{job.name}</span>
            <CopyButton text={job.name} label="Copy the job's name" />
          </p>
        </div>
        <div className="flex flex-wrap items-center gap-2">
          {running && (
            <Button
              icon={<CircleStop size={14} />}
              disabled={!mayChange || /CANCELLING|DELETING/.test(job.state)}
              title={hint}
              onClick={() => setAsked("cancel")}
            >
              Cancel
            </Button>
          )}
          {failed && (
            <Button
              kind="primary"
              icon={<RotateCw size={14} />}
              busy={actions.resume.isPending}
              disabled={!mayChange}
              title={hint}
              onClick={() => act("resume", `${title} is queued and goes on where it ended.`)}
            >
              Resume
            </Button>
          )}
          <LinkButton
            to="/dashboard/fine-tuning/create"
            search={{ kind: "rft", from: id }}
            icon={job.preflightOnly ? <Play size={14} /> : <Copy size={14} />}
          >
            {job.preflightOnly ? "Start the job itself" : "Clone"}
          </LinkButton>
          {!job.preflightOnly && (
            <>
              <LinkButton
                to="/dashboard/fine-tuning/compare"
                search={{ job: [id] }}
                icon={<GitCompareArrows size={14} />}
              >
                Compare
              </LinkButton>
              <LinkButton to={`/dashboard/studio/${id}`} icon={<Paintbrush size={14} />}>
                Studio
              </LinkButton>
              <Promote job={job} />
            </>
          )}
          <Export id={id} />
          {!running && (
            <Button
              kind="danger"
              icon={<Trash2 size={14} />}
              disabled={!mayChange}
              title={hint}
              onClick={() => setAsked("delete")}
            >
              Delete
            </Button>
          )}
        </div>
      </div>
      <StatusLine job={job} />
      <Confirm
        open={asked === "cancel"}
        onClose={() => setAsked(null)}
        title={`Cancel ${title}?`}
        action="Cancel the job"
        busy={actions.cancel.isPending}
        onConfirm={() => act("cancel", `${title} is being cancelled.`)}
      >
        Rollouts and training end, and it cannot be resumed. What it has done so far stays: rollouts, metrics,
        checkpoints.
      </Confirm>
      <Confirm
        open={asked === "delete"}
        onClose={() => setAsked(null)}
        title={`Delete ${title}?`}
        action="Delete the job"
        busy={actions.remove.isPending}
        onConfirm={removeIt}
      >
        Its rollouts, metrics, logs and checkpoints are removed for good. The model that it made stays.
      </Confirm>
    </header>
  );
}

function pausedNow(job: RftJob): boolean {
  return job.state === "JOB_STATE_RUNNING" && !!job.control?.inForce?.paused;
}

/** Why a job stands still, where the platform says nothing. */
function standing(job: RftJob): string | null {
  if (pausedNow(job))
    return "Paused. It goes on from the studio, and keeps its place in the queue until then.";
  if (job.queue) return `Place ${job.queue.position} in the queue. ${job.queue.waitingFor}`;
  if (job.state === "JOB_STATE_PENDING" || job.state === "JOB_STATE_CREATING")
    return "Waits for its turn. RFT jobs run one after the other unless the platform is set to run more at a time; a paused job keeps its place until it goes on or is cancelled.";
  return null;
}

/** What the platform says about the job; prominent when it failed. */
function StatusLine({ job }: { job: RftJob }) {
  const message = job.status?.message || job.run?.message || standing(job);
  if (!message) return null;
  const failed = job.state === "JOB_STATE_FAILED";
  return (
    <p
      role={failed ? "alert" : undefined}
      className={
        failed
          ? "rounded-lg border border-bad bg-bad-soft px-4 py-2.5 break-words whitespace-pre-wrap"
          : "text-ink-soft break-words"
      }
    >
      {message}
    </p>
  );
}

function Export({ id }: { id: string }) {
  const path = `${useAccountPath()}/${RFT_JOBS}/${id}`;
  const files: [string, Record<string, string>][] = [
    ["Rollouts, JSONL", { what: "rollouts", format: "jsonl" }],
    ["Rollouts, CSV", { what: "rollouts", format: "csv" }],
    ["Metrics, JSON", { what: "metrics", format: "json" }],
    ["Metrics, CSV", { what: "metrics", format: "csv" }],
  ];
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>
        <Button icon={<Download size={14} />}>Export</Button>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content align="end" sideOffset={4} className={MENU}>
          {files.map(([label, query]) => (
            <DropdownMenu.Item key={label} asChild>
              <a href={`${path}/export${queryText(query)}`} download className={MENU_ITEM}>
                <ChartNoAxesCombined size={14} aria-hidden="true" />
                {label}
              </a>
            </DropdownMenu.Item>
          ))}
          <DropdownMenu.Separator className="my-1 h-px bg-line" />
          <DropdownMenu.Item asChild>
            <a href={`${path}/report`} download={`${id}.html`} className={MENU_ITEM}>
              <FileCode2 size={14} aria-hidden="true" />
              run.html, the whole run in one file
            </a>
          </DropdownMenu.Item>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
