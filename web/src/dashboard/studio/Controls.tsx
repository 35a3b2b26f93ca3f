// Steering: pause, go on, one step; the learning rate; back to an earlier version. What was asked for counts from the next step on.
import { useNavigate } from "@tanstack/react-router";
import { Pause, Play, Rewind, StepForward } from "lucide-react";
import { useEffect, useState } from "react";
import { useControl, useRewind } from "~/api/control";
import { unfinished } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import { Badge } from "~/design/Badge";
import { Button } from "~/design/Button";
import { Confirm } from "~/design/Dialog";
import { Input, Select } from "~/design/Field";
import { figure } from "~/design/figures";
import { Panel } from "~/design/Panel";
import { toast, toastError } from "~/design/Toast";
import { useMayChange } from "../session";
import { placeOf, rateAt } from "./steering";

export function Controls({ job, id }: { job: RftJob; id: string }) {
  const control = useControl(id);
  const mayChange = useMayChange();
  const running = unfinished(job.state) && !/CANCELLING|DELETING/.test(job.state);
  const { requested, inForce } = job.control;
  const still = running && !!inForce?.paused;
  const ask = (request: Parameters<typeof control.mutate>[0]) =>
    control.mutate(request, { onError: toastError });
  const mark = !running
    ? null
    : still
      ? "paused"
      : requested.paused
        ? "pausing after this step"
        : requested.steps !== null
          ? `going on for ${requested.steps} ${requested.steps === 1 ? "step" : "steps"}`
          : "running";
  return (
    <Panel
      title="Steer"
      actions={mark && <Badge tone={still ? "fair" : requested.paused ? "plain" : "note"}>{mark}</Badge>}
    >
      {!running && (
        <p className="mb-3 text-[13px] text-ink-soft">
          This job has ended. Everything stays to look at; rewind to one of its versions to go on from there.
        </p>
      )}
      <div className="flex flex-wrap items-center gap-2">
        {still || requested.paused ? (
          <Button
            kind="primary"
            icon={<Play size={14} />}
            disabled={!running || !mayChange}
            busy={control.isPending}
            onClick={() => ask({ paused: false })}
          >
            Go on
          </Button>
        ) : (
          <Button
            kind="primary"
            icon={<Pause size={14} />}
            disabled={!running || !mayChange}
            busy={control.isPending}
            onClick={() => ask({ paused: true })}
          >
            Pause
          </Button>
        )}
        <Button
          icon={<StepForward size={14} />}
          disabled={!running || !mayChange}
          onClick={() => ask({ steps: 1 })}
        >
          One step
        </Button>
        <RewindTo job={job} id={id} />
      </div>
      <LearningRate
        job={job}
        disabled={!running || !mayChange}
        onRate={(learningRate) => ask({ learningRate })}
      />
      {inForce?.message && (
        <p role="alert" className="mt-3 rounded-md bg-fair-soft px-3 py-2 text-[13px] text-fair">
          {inForce.message}
        </p>
      )}
      {!mayChange && (
        <p className="mt-3 text-xs text-ink-soft">Looking only: sign in with an API key to steer.</p>
      )}
    </Panel>
  );
}

function LearningRate(props: { job: RftJob; disabled: boolean; onRate: (rate: number | null) => void }) {
  const { requested, inForce } = props.job.control;
  const own = props.job.trainingConfig.learningRate ?? 1e-4;
  const asked = requested.learningRate ?? own;
  const [rate, setRate] = useState(asked);
  const [text, setText] = useState(String(asked));
  useEffect(() => {
    setRate(asked);
    setText(String(asked));
  }, [asked]);
  const ask = (value: number) => {
    if (Number.isFinite(value) && value >= 0 && value !== asked) props.onRate(value);
    else setText(String(rate));
  };
  const waits = inForce?.learningRate !== undefined && inForce.learningRate !== asked;
  return (
    <div className="mt-4">
      <div className="flex flex-wrap items-center gap-2">
        <label htmlFor="studio-rate" className="text-[13px] font-medium">
          Learning rate
        </label>
        <input
          type="range"
          aria-label="Learning rate, on a logarithmic scale"
          min={0}
          max={1000}
          value={placeOf(rate)}
          disabled={props.disabled}
          aria-valuetext={figure(rate)}
          onChange={(event) => {
            const value = rateAt(Number(event.target.value));
            setRate(value);
            setText(String(value));
          }}
          onPointerUp={() => ask(rate)}
          onKeyUp={() => ask(rate)}
          className="h-6 min-w-24 flex-1 cursor-pointer accent-accent disabled:cursor-not-allowed"
        />
        <Input
          id="studio-rate"
          className="tabular w-24"
          inputMode="decimal"
          value={text}
          disabled={props.disabled}
          onChange={(event) => setText(event.target.value)}
          onBlur={() => ask(Number(text))}
          onKeyDown={(event) => event.key === "Enter" && ask(Number(text))}
        />
      </div>
      <p className="mt-1 flex flex-wrap items-center gap-2 text-xs text-ink-soft">
        <span className="tabular">
          in force {figure(inForce?.learningRate ?? own)}
          {waits && props.disabled === false && `, ${figure(asked)} from the next step on`}
        </span>
        {requested.learningRate !== null && !props.disabled && (
          <button
            type="button"
            className="font-medium text-accent-text underline underline-offset-2"
            onClick={() => props.onRate(null)}
          >
            the job's own ({figure(own)}) again
          </button>
        )}
      </p>
    </div>
  );
}

function RewindTo({ job, id }: { job: RftJob; id: string }) {
  const rewind = useRewind(id);
  const navigate = useNavigate();
  const mayChange = useMayChange();
  const versions = job.checkpoints ?? [];
  const [version, setVersion] = useState<number | null>(null);
  const go = (to: number) =>
    rewind.mutate(to, {
      onError: (error) => {
        setVersion(null);
        toastError(error);
      },
      onSuccess: (made) => {
        setVersion(null);
        toast(`A new job goes on from version ${to}.`);
        navigate({ href: `/dashboard/studio/${shortId(made.name)}` });
      },
    });
  return (
    <div className="flex items-center gap-1.5">
      <Rewind size={14} className="text-ink-faint" aria-hidden="true" />
      <Select
        aria-label="Rewind to a version"
        disabled={!versions.length || !mayChange}
        value=""
        onChange={(event) => setVersion(Number(event.target.value))}
      >
        <option value="" disabled>
          {versions.length ? "Rewind to …" : "Nothing to rewind to yet"}
        </option>
        {versions.toReversed().map((one) => (
          <option key={one} value={one}>
            version {one}
          </option>
        ))}
      </Select>
      <Confirm
        open={version !== null}
        onClose={() => setVersion(null)}
        title={`Rewind to version ${version}?`}
        action="Rewind"
        busy={rewind.isPending}
        onConfirm={() => version !== null && go(version)}
      >
        <p>
          A new job begins exactly as this one was at version {version}: adapter, optimizer, and place in the
          data.
          {unfinished(job.state) && " This job is cancelled; what it made so far stays."}
        </p>
      </Confirm>
    </div>
  );
}
