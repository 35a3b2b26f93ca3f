// What a job works with: its rows, held-out rows, and the evaluator that scores; each with a look at it.
import { Link } from "@tanstack/react-router";
import { Upload } from "lucide-react";
import { type ReactNode, useState } from "react";
import { useDatasetRows, useDatasets } from "~/api/datasets";
import { useEvaluatorResults, useEvaluatorSource, useEvaluators } from "~/api/evaluators";
import { shortId } from "~/api/names";
import { Badge, ResourceState, Score } from "~/design/Badge";
import { CodeEditor } from "~/design/CodeEditor";
import { Field, Select } from "~/design/Field";
import { Loaded } from "~/design/Panel";
import { ChangeButton } from "../ChangeButton";
import { RowContent } from "../resources/datasets/DatasetRows";
import { UploadDialog } from "../resources/datasets/UploadDialog";
import { firstFile } from "../resources/evaluators/edits";
import type { Form } from "./body";

type Change = (changes: Partial<Form>) => void;

export function DatasetStep({
  form,
  original,
  onChange,
}: {
  form: Form;
  original: Form | null;
  onChange: Change;
}) {
  const datasets = useDatasets();
  const [uploading, setUploading] = useState(false);
  const ready = (datasets.data ?? []).filter(
    (dataset) => dataset.state === "READY" && dataset.rowKind !== "PREFERENCES",
  );
  const held = form.evaluationDataset ? "dataset" : form.carveout ? "carveout" : "none";
  const options = ready.map((dataset) => (
    <option key={dataset.name} value={dataset.name}>
      {shortId(dataset.name)} ({dataset.exampleCount} rows)
    </option>
  ));
  return (
    <div className="space-y-4">
      <div className="grid gap-4 md:grid-cols-2">
        <Field
          label={
            <span className="flex items-center gap-1.5">
              Rows to train on
              {original && original.dataset !== form.dataset && <Badge tone="accent">changed</Badge>}
            </span>
          }
          hint={
            datasets.data && ready.length === 0
              ? "No dataset of conversations is here yet: upload one."
              : undefined
          }
        >
          {(ids) => (
            <div className="flex gap-2">
              <Select
                {...ids}
                value={form.dataset}
                onChange={(event) => onChange({ dataset: event.target.value })}
                className="flex-1"
              >
                <option value="">Choose a dataset</option>
                {form.dataset && !ready.some((dataset) => dataset.name === form.dataset) && (
                  <option value={form.dataset}>{shortId(form.dataset)}</option>
                )}
                {options}
              </Select>
              <ChangeButton icon={<Upload size={14} />} onClick={() => setUploading(true)}>
                Upload
              </ChangeButton>
            </div>
          )}
        </Field>
        <Field
          label="Held-out rows"
          hint="The policy is scored on them along the way, and the best version becomes the model."
        >
          {(ids) => (
            <div className="flex flex-wrap gap-2">
              <Select
                {...ids}
                value={held}
                onChange={(event) => {
                  const chosen = event.target.value;
                  onChange({
                    carveout: chosen === "carveout",
                    evaluationDataset: chosen === "dataset" ? (ready[0]?.name ?? "") : "",
                  });
                }}
                className="flex-1"
              >
                <option value="none">None (default)</option>
                <option value="carveout">A tenth of the rows, at most 100</option>
                <option value="dataset" disabled={ready.length === 0}>
                  Another dataset
                </option>
              </Select>
              {held === "dataset" && (
                <Select
                  aria-label="Dataset of held-out rows"
                  value={form.evaluationDataset}
                  onChange={(event) => onChange({ evaluationDataset: event.target.value })}
                  className="flex-1"
                >
                  {options}
                </Select>
              )}
            </div>
          )}
        </Field>
      </div>
      {form.dataset && (
        <Look label="Look at its first rows">
          <FirstRows id={shortId(form.dataset)} />
        </Look>
      )}
      {uploading && (
        <UploadDialog
          open
          onClose={() => setUploading(false)}
          onDone={(dataset) => onChange({ dataset: dataset.name })}
        />
      )}
    </div>
  );
}

function FirstRows({ id }: { id: string }) {
  const rows = useDatasetRows(id, { pageSize: 3, pageToken: "", contains: "" });
  return (
    <Loaded query={rows} what="The rows">
      {(data) => (
        <div className="divide-y">
          {data.rows.map((row) => (
            <RowContent key={row.index} row={row.row} />
          ))}
        </div>
      )}
    </Loaded>
  );
}

export function EvaluatorStep({ form, onChange }: { form: Form; onChange: Change }) {
  const evaluators = useEvaluators();
  const name = form.evaluator;
  const evaluator = evaluators.data?.find((one) => one.name === name);
  const id = shortId(name);
  return (
    <div className="space-y-4">
      <div className="grid items-end gap-4 md:grid-cols-2">
        <Field
          label="Scores the rollouts"
          hint={
            evaluators.data?.length === 0
              ? "None is here yet: ep upload sends one."
              : evaluator && evaluator.state !== "ACTIVE"
                ? "It is not ACTIVE: a job cannot use it."
                : undefined
          }
        >
          {(ids) => (
            <Select
              {...ids}
              value={name}
              onChange={({ target }) => {
                const second = target.value === form.auditEvaluator ? "" : form.auditEvaluator;
                onChange({ evaluator: target.value, auditEvaluator: second });
              }}
            >
              <option value="">Choose an evaluator</option>
              {evaluators.data?.map((one) => (
                <option key={one.name} value={one.name} disabled={one.state !== "ACTIVE"}>
                  {shortId(one.name)}
                  {one.state === "ACTIVE" ? "" : ` (${one.state.toLowerCase().replaceAll("_", " ")})`}
                </option>
              ))}
            </Select>
          )}
        </Field>
        {evaluator && (
          <p className="flex flex-wrap items-center gap-3 pb-6 text-ink-soft">
            <ResourceState state={evaluator.state} /> version {evaluator.version}
            <Link
              to={`/dashboard/evaluators/${id}`}
              className="text-accent-text underline underline-offset-2"
            >
              Open it
            </Link>
          </p>
        )}
      </div>
      {(evaluators.data?.length ?? 0) > 1 && (
        <Field
          label="Second evaluator"
          hint="Scores some rollouts besides, and is not trained on: the audit compares the two."
        >
          {(ids) => (
            <Select
              {...ids}
              value={form.auditEvaluator}
              onChange={(event) => onChange({ auditEvaluator: event.target.value })}
              className="max-w-full md:max-w-md"
            >
              <option value="">None (default)</option>
              {evaluators.data
                ?.filter((one) => one.name !== name)
                .map((one) => (
                  <option key={one.name} value={one.name} disabled={one.state !== "ACTIVE"}>
                    {shortId(one.name)}
                  </option>
                ))}
            </Select>
          )}
        </Field>
      )}
      {evaluator && (
        <>
          <Look label="Look at its code">
            <Source id={id} version={evaluator.version} entryPoint={evaluator.entryPoint ?? ""} />
          </Look>
          <Look label="What it scored lately">
            <LatestResults id={id} />
          </Look>
        </>
      )}
    </div>
  );
}

function Source({ id, version, entryPoint }: { id: string; version: number; entryPoint: string }) {
  const source = useEvaluatorSource(id, version);
  return (
    <Loaded query={source} what="The source">
      {(files) => {
        const path = firstFile(files, entryPoint);
        const text = files.find((file) => file.path === path)?.text;
        return text ? (
          <CodeEditor name={path} value={text} readOnly className="h-96" />
        ) : (
          <p className="p-4 text-ink-soft">Its source is not text.</p>
        );
      }}
    </Loaded>
  );
}

function LatestResults({ id }: { id: string }) {
  const results = useEvaluatorResults(id);
  return (
    <Loaded query={results} what="The results">
      {(data) =>
        data.length === 0 ? (
          <p className="p-4 text-ink-soft">Nothing yet.</p>
        ) : (
          <ul className="divide-y">
            {data.slice(0, 5).map((result) => (
              <li
                key={`${result.job} ${result.time}`}
                className="flex items-center justify-between gap-3 px-4 py-2"
              >
                <span className="min-w-0 truncate">
                  {shortId(result.model) || shortId(result.job)}{" "}
                  <span className="text-ink-faint">version {result.evaluatorVersion}</span>
                </span>
                <Score value={result.meanScore} />
              </li>
            ))}
          </ul>
        )
      }
    </Loaded>
  );
}

/** Something to look at, fetched when it is opened. */
function Look({ label, children }: { label: string; children: ReactNode }) {
  const [open, setOpen] = useState(false);
  return (
    <details className="rounded-md border" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary className="cursor-pointer px-3 py-1.5 text-xs font-medium text-ink-soft">{label}</summary>
      {open && <div className="max-h-[32rem] overflow-auto border-t">{children}</div>}
    </details>
  );
}
