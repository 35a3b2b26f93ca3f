// One session of the Agent: where it stands, what it asks, its plan, cost and candidates, what came out, and the talk about it.
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { Ban, Trash2 } from "lucide-react";
import { useState } from "react";
import { shortId } from "~/api/names";
import { type AgentSession, useAgentSession, useSessionActions } from "~/api/sessions";
import { ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { Code } from "~/design/Copy";
import { Confirm } from "~/design/Dialog";
import { Loaded, Panel } from "~/design/Panel";
import { Time } from "~/design/Time";
import { toastError } from "~/design/Toast";
import { useMayChange } from "../session";
import { Chat } from "./Chat";
import { Gate } from "./Gate";
import { CostPanel, PlanPanel } from "./PlanPanel";
import { Report } from "./Report";
import { Scoreboard } from "./Scoreboard";
import { Timeline } from "./Timeline";

export function SessionPage() {
  const { id } = useParams({ strict: false }) as { id: string };
  const session = useAgentSession(id);
  return (
    <Loaded query={session} what={`Session ${id}`} lines={8}>
      {(data) => <Page key={data.name} session={data} id={id} />}
    </Loaded>
  );
}

function Page({ session, id }: { session: AgentSession; id: string }) {
  const mayChange = useMayChange();
  const title = session.displayName || id;
  const gate = session.pendingGate && !session.pendingGate.answered ? session.pendingGate : null;
  return (
    <div className="mx-auto max-w-7xl space-y-4">
      <title>{`${title} · Agent · Tunesmith`}</title>
      <header className="flex flex-wrap items-start justify-between gap-3">
        <div className="min-w-0">
          <nav aria-label="Breadcrumb" className="text-xs text-ink-soft">
            <Link to={"/dashboard/sessions" as string} className="underline underline-offset-2">
              Agent
            </Link>
          </nav>
          <h1 className="text-2xl font-semibold break-words">{title}</h1>
          <div className="flex flex-wrap items-center gap-x-4 gap-y-1 text-[13px] text-ink-soft">
            <ResourceState state={session.state} />
            <span>
              started <Time at={session.createTime} ago />
            </span>
            {session.completedTime && (
              <span>
                ended <Time at={session.completedTime} ago />
              </span>
            )}
          </div>
        </div>
        {mayChange && <Actions session={session} id={id} />}
      </header>
      {session.instruction && (
        <blockquote className="border-l-2 border-accent pl-3 text-[15px] whitespace-pre-wrap text-ink-soft [overflow-wrap:anywhere]">
          {session.instruction}
        </blockquote>
      )}
      {gate && mayChange && <Gate key={gate.id} session={session} id={id} gate={gate} />}
      {session.state === "failed" && (
        <p role="alert" className="rounded-lg border border-bad bg-bad-soft px-4 py-3">
          {session.status.message || session.message}
        </p>
      )}
      <div className="grid items-start gap-4 xl:grid-cols-[20rem_minmax(0,1fr)]">
        <div className="xl:sticky xl:top-5">
          <Timeline session={session} />
        </div>
        <div className="min-w-0 space-y-4">
          {session.heldOut && <Outcome session={session} />}
          {(session.candidates.length > 0 || session.phase === "sweep") && <Scoreboard session={session} />}
          <Chat session={session} id={id} />
          <div className="grid items-start gap-4 2xl:grid-cols-2">
            <PlanPanel session={session} />
            <CostPanel session={session} />
          </div>
          <Report session={session} />
        </div>
      </div>
    </div>
  );
}

function Outcome({ session }: { session: AgentSession }) {
  const { heldOut, deployed } = session;
  return (
    <Panel title="What came out">
      <p className="text-base font-medium [overflow-wrap:anywhere]">{heldOut?.statement}</p>
      {deployed && (
        <div className="mt-3 space-y-2">
          <p className="text-ink-soft">
            It answers as{" "}
            <Link
              to={`/dashboard/deployments/${shortId(deployed.deployment)}` as string}
              className="font-mono text-xs text-accent-text underline underline-offset-2"
            >
              {deployed.deployment}
            </Link>
            , model{" "}
            <Link
              to={`/dashboard/models/${shortId(deployed.model)}` as string}
              className="font-mono text-xs text-accent-text underline underline-offset-2"
            >
              {shortId(deployed.model)}
            </Link>
            .
          </p>
          <Code text={deployed.snippet} className="max-h-80 overflow-auto" />
        </div>
      )}
    </Panel>
  );
}

function Actions({ session, id }: { session: AgentSession; id: string }) {
  const { cancel, discard } = useSessionActions(id);
  const navigate = useNavigate();
  const [asking, setAsking] = useState<"cancel" | "delete" | null>(null);
  const ended = ["succeeded", "failed", "cancelled"].includes(session.state);
  return (
    <div className="flex gap-2">
      {!ended && (
        <Button icon={<Ban size={14} />} onClick={() => setAsking("cancel")}>
          Cancel
        </Button>
      )}
      <Button kind="danger" icon={<Trash2 size={14} />} onClick={() => setAsking("delete")}>
        Delete
      </Button>
      <Confirm
        open={asking === "cancel"}
        onClose={() => setAsking(null)}
        title="Cancel this session?"
        action="Cancel the session"
        busy={cancel.isPending}
        onConfirm={() => cancel.mutate(undefined, { onError: toastError, onSettled: () => setAsking(null) })}
      >
        Its running jobs are cancelled. What they made so far stays.
      </Confirm>
      <Confirm
        open={asking === "delete"}
        onClose={() => setAsking(null)}
        title="Delete this session?"
        action="Delete"
        busy={discard.isPending}
        onConfirm={() =>
          discard.mutate(undefined, {
            onError: toastError,
            onSuccess: () => navigate({ href: "/dashboard/sessions" }),
          })
        }
      >
        Its history and report go. Models, datasets and deployments that it made stay.
      </Confirm>
    </div>
  );
}
