// Name and state of an SFT or DPO job, and what can be done with it.
import { Link, useNavigate } from "@tanstack/react-router";
import { CircleStop, Copy, Rocket, RotateCw, Trash2 } from "lucide-react";
import { useState } from "react";
import { useCreateDeployment } from "~/api/deployments";
import { unfinished } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import { optionsOf, type TuningJob, type TuningKind, useTuningActions } from "~/api/tuningJobs";
import { ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { Confirm } from "~/design/Dialog";
import { toast, toastError } from "~/design/Toast";
import { useMayChange } from "../session";

export function TuningHeader({ kind, id, job }: { kind: TuningKind; id: string; job: TuningJob }) {
  const { cancel, resume, discard } = useTuningActions(kind, id);
  const deploy = useCreateDeployment();
  const navigate = useNavigate();
  const mayChange = useMayChange();
  const [asking, setAsking] = useState<"cancel" | "delete" | null>(null);
  const model = optionsOf(job).outputModel as string;
  const done = job.state === "JOB_STATE_COMPLETED";
  const failed = job.state === "JOB_STATE_FAILED";
  const deployIt = () =>
    deploy.mutate(
      { id: shortId(model).slice(0, 63), baseModel: model },
      {
        onError: toastError,
        onSuccess: (made) => navigate({ href: `/dashboard/deployments/${shortId(made.name)}` }),
      },
    );
  return (
    <header className="flex flex-col gap-3">
      <div className="flex flex-wrap items-start justify-between gap-x-6 gap-y-3">
        <div className="min-w-0">
          <nav aria-label="Path" className="text-xs text-ink-faint">
            <Link to={"/dashboard/fine-tuning" as string} className="hover:text-ink hover:underline">
              Fine-tuning
            </Link>{" "}
            / {kind === "sft" ? "supervised" : "preferences"}
          </nav>
          <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
            <h1 className="text-xl font-semibold break-all">{job.displayName || id}</h1>
            <ResourceState state={job.state} />
          </div>
          <p className="flex items-center gap-1 text-xs text-ink-soft">
            <span className="truncate font-mono">{job.name}</span>
            <CopyButton text={job.name} label="Copy the job's name" />
          </p>
        </div>
        {mayChange && (
          <div className="flex flex-wrap gap-2">
            {unfinished(job.state) && (
              <Button
                icon={<CircleStop size={14} />}
                disabled={/CANCELLING|DELETING/.test(job.state)}
                onClick={() => setAsking("cancel")}
              >
                Cancel
              </Button>
            )}
            {failed && (
              <Button
                kind="primary"
                icon={<RotateCw size={14} />}
                busy={resume.isPending}
                onClick={() =>
                  resume.mutate(undefined, {
                    onError: toastError,
                    onSuccess: () => toast("The job is queued again and goes on from its last checkpoint."),
                  })
                }
              >
                Resume
              </Button>
            )}
            {done && (
              <Button kind="primary" icon={<Rocket size={14} />} busy={deploy.isPending} onClick={deployIt}>
                Deploy
              </Button>
            )}
            {kind === "sft" && (
              <Button
                icon={<Copy size={14} />}
                onClick={() => navigate({ href: `/dashboard/fine-tuning/create?kind=sft&from=${id}` })}
              >
                Clone
              </Button>
            )}
            <Button kind="danger" icon={<Trash2 size={14} />} onClick={() => setAsking("delete")}>
              Delete
            </Button>
          </div>
        )}
      </div>
      {failed && (
        <p
          role="alert"
          className="rounded-lg border border-bad bg-bad-soft px-4 py-3 whitespace-pre-wrap [overflow-wrap:anywhere]"
        >
          {job.status.message}
        </p>
      )}
      {!failed && job.status.message && <p className="text-ink-soft">{job.status.message}</p>}
      {job.queue && (
        <p className="text-ink-soft">
          Place {job.queue.position} in the queue. {job.queue.waitingFor}
        </p>
      )}
      <Confirm
        open={asking === "cancel"}
        onClose={() => setAsking(null)}
        title="Cancel this job?"
        action="Cancel the job"
        busy={cancel.isPending}
        onConfirm={() => cancel.mutate(undefined, { onError: toastError, onSettled: () => setAsking(null) })}
      >
        Its checkpoints stay until the job is deleted; a cancelled job is not resumed.
      </Confirm>
      <Confirm
        open={asking === "delete"}
        onClose={() => setAsking(null)}
        title="Delete this job?"
        action="Delete"
        busy={discard.isPending}
        onConfirm={() =>
          discard.mutate(undefined, {
            onError: toastError,
            onSuccess: () => navigate({ href: "/dashboard/fine-tuning" }),
          })
        }
      >
        Its files and figures go. Its model stays.
      </Confirm>
    </header>
  );
}
