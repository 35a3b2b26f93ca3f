// Models: what jobs made, and the base models on this machine.
import { Link, useNavigate } from "@tanstack/react-router";
import { Boxes } from "lucide-react";
import { type Model, useBaseModels, useModels } from "~/api/models";
import { shortId } from "~/api/names";
import { Badge, ResourceState } from "~/design/Badge";
import { type Column, DataTable } from "~/design/DataTable";
import { count } from "~/design/figures";
import { PageHeader } from "~/design/PageHeader";
import { Empty, Failure } from "~/design/Panel";
import { Time } from "~/design/Time";
import { modelLabel, modelPath } from "./names";

const NAME: Column<Model> = {
  id: "name",
  header: "Model",
  width: 260,
  value: (model) => modelLabel(model),
  cell: (model) => (
    <div className="min-w-0">
      <Link to={modelPath(model.name)} className="font-medium break-all text-accent-text hover:underline">
        {modelLabel(model)}
      </Link>
      {model.displayName && model.displayName !== shortId(model.name) && (
        <div className="font-mono text-xs text-ink-soft">{shortId(model.name)}</div>
      )}
    </div>
  ),
};

const OWN: Column<Model>[] = [
  NAME,
  {
    id: "state",
    header: "State",
    width: 100,
    value: (model) => model.state,
    cell: (model) => <ResourceState state={model.state} />,
  },
  {
    id: "kind",
    header: "Kind",
    width: 130,
    value: (model) => model.kind,
    cell: (model) => <Badge>{kindLabel(model)}</Badge>,
  },
  {
    id: "base",
    header: "Base model",
    width: 180,
    value: (model) => model.baseModel,
    cell: (model) => shortId(model.baseModel) || <span className="text-ink-faint">none</span>,
  },
  {
    id: "job",
    header: "Job",
    width: 140,
    value: (model) => model.fineTuningJob,
    cell: (model) => <JobLink job={model.fineTuningJob} />,
  },
  {
    id: "created",
    header: "Created",
    width: 130,
    value: (model) => model.createTime,
    cell: (model) => <Time at={model.createTime} ago />,
  },
];

const BASE: Column<Model>[] = [
  NAME,
  {
    id: "parameters",
    header: "Parameters",
    width: 130,
    align: "right",
    value: (model) => Number(model.baseModelDetails?.parameterCount ?? 0),
    cell: (model) => parameters(model),
  },
  {
    id: "architecture",
    header: "Architecture",
    width: 120,
    value: (model) => model.baseModelDetails?.modelType,
    cell: (model) => model.baseModelDetails?.modelType ?? null,
  },
  {
    id: "context",
    header: "Context, tokens",
    width: 130,
    align: "right",
    value: (model) => model.contextLength,
    cell: (model) => count(model.contextLength),
  },
];

export function Models() {
  const own = useModels();
  const bases = useBaseModels();
  const navigate = useNavigate();
  const open = (model: Model) => navigate({ href: modelPath(model.name) });
  return (
    <div className="space-y-8">
      <section>
        <PageHeader title="Models">
          What jobs made: adapters and full models, each served by its name.
        </PageHeader>
        {own.error && !own.data ? (
          <Failure title="The models could not be loaded" error={own.error} retry={() => own.refetch()} />
        ) : (
          <DataTable
            label="Models"
            name="models"
            columns={OWN}
            rows={own.data}
            rowKey={(model) => model.name}
            onRowClick={open}
            toolbar={
              own.data && <span className="text-xs text-ink-soft">{count(own.data.length)} models</span>
            }
            empty={
              <Empty
                picture={<Boxes size={32} />}
                title="No models yet"
                action={
                  <Link
                    to="/dashboard/fine-tuning/create"
                    className="font-medium text-accent-text underline underline-offset-2"
                  >
                    Fine-tune a model
                  </Link>
                }
              >
                A job that completes leaves one here.
              </Empty>
            }
          />
        )}
      </section>
      <section className="space-y-3">
        <h2 className="font-semibold">Base models on this machine</h2>
        {bases.error && !bases.data ? (
          <Failure
            title="The base models could not be loaded"
            error={bases.error}
            retry={() => bases.refetch()}
          />
        ) : (
          <DataTable
            label="Base models"
            columns={BASE}
            rows={bases.data}
            rowKey={(model) => model.name}
            onRowClick={open}
          />
        )}
      </section>
    </div>
  );
}

export function kindLabel(model: Model): string {
  return model.kind === "HF_PEFT_ADDON" ? "LoRA adapter" : model.fineTuningJob ? "full model" : "base model";
}

/** "1.5 M", "0.6 B". */
export function parameters(model: Model): string {
  const number = Number(model.baseModelDetails?.parameterCount ?? 0);
  if (!number) return "unknown";
  return number >= 1e9 ? `${(number / 1e9).toFixed(1)} B` : `${(number / 1e6).toFixed(1)} M`;
}

const JOB_PAGES: Record<string, string> = {
  reinforcementFineTuningJobs: "reinforcement",
  supervisedFineTuningJobs: "supervised",
  dpoJobs: "dpo",
};

export function JobLink({ job }: { job: string | null | undefined }) {
  if (!job) return <span className="text-ink-faint">none</span>;
  const [, , noun = "", id = ""] = job.split("/");
  const path = JOB_PAGES[noun];
  return path ? (
    <Link to={`/dashboard/fine-tuning/${path}/${id}`} className="text-accent-text hover:underline">
      {id}
    </Link>
  ) : (
    <span>{id}</span>
  );
}
