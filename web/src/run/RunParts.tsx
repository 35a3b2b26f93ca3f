// What scored the run, what its options were, and what a look at its rollouts says about the reward.
import { useState } from "react";
import { shortId } from "~/api/names";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RunEvent } from "~/api/rft";
import { AuditSummary } from "~/dashboard/studio/AuditSummary";
import { inForceFrom } from "~/dashboard/studio/steering";
import { Code } from "~/design/Copy";
import { Diff } from "~/design/Diff";
import { Panel } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { ValueTable } from "~/design/ValueTable";
import type { RunData, RunEvaluatorVersion } from "./data";

export function EvaluatorPanel(props: { evaluator: RunData["evaluator"]; events: readonly RunEvent[] }) {
  const { versions, name } = props.evaluator;
  const [chosen, setChosen] = useState(versions.at(-1)?.version ?? 0);
  const version = versions.find((one) => one.version === chosen);
  if (!version) return null;
  const from = inForceFrom(props.events, version.version);
  return (
    <Panel
      title={`Evaluator ${shortId(name)}`}
      actions={
        from !== null && <span className="tabular text-xs text-ink-soft">in force from step {from}</span>
      }
    >
      <Tabs
        label="Versions"
        active={String(chosen)}
        onChange={(id) => setChosen(Number(id))}
        tabs={versions.map((one) => ({ id: String(one.version), label: `Version ${one.version}` }))}
      />
      {version.message && <p className="mt-3 text-ink-soft">{version.message}</p>}
      <Source key={version.version} version={version} />
    </Panel>
  );
}

function Source({ version }: { version: RunEvaluatorVersion }) {
  const files = version.files.filter((file) => file.text !== null);
  const entry = version.entryPoint?.split("::")[0];
  const [path, setPath] = useState(
    entry && files.some((file) => file.path === entry) ? entry : files[0]?.path,
  );
  const file = files.find((one) => one.path === path);
  return (
    <div className="mt-3 space-y-3">
      {version.diff?.map((difference) => (
        <div key={difference.path} className="overflow-hidden rounded-md border">
          <p className="border-b bg-raised px-3 py-1 font-mono text-xs">
            {difference.path} <span className="text-ink-faint">{difference.status}</span>
          </p>
          <Diff diff={difference.diff} name={difference.path} className="max-h-96" />
        </div>
      ))}
      {files.length > 0 && (
        <>
          <Tabs
            label="Files"
            active={path ?? ""}
            onChange={setPath}
            tabs={files.map((one) => ({ id: one.path, label: one.path }))}
          />
          <Code text={file?.text ?? ""} className="[&_pre]:max-h-96" />
        </>
      )}
    </div>
  );
}

export function OptionsPanel({ job }: { job: RftJob }) {
  const groups = { ...job.trainingConfig, ...job.inferenceParameters, ...job.lossConfig } as Record<
    string,
    unknown
  >;
  const fields = Object.entries({
    dataset: job.dataset,
    evaluator: job.evaluator,
    chunkSize: job.chunkSize,
    ...groups,
  }).filter(([, value]) => value !== null && value !== undefined);
  return (
    <Panel title="Options" flush>
      <ValueTable caption="Options of the job" values={fields} />
    </Panel>
  );
}

export function AuditPanel({ run }: { run: RunData }) {
  return (
    <Panel title="Reward audit">
      <AuditSummary data={run.audit} />
    </Panel>
  );
}
