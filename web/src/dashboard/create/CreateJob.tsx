// The form that starts an RFT or SFT job: steps on one page, checked as typed, with estimate and command beside it.
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { type JobKind, useJob } from "~/api/fineTuningJobs";
import { type Model, useBaseModels, useModel, useModels } from "~/api/models";
import { Field, Input, Select } from "~/design/Field";
import { PageHeader } from "~/design/PageHeader";
import { Failure, Skeleton } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { modelLabel } from "../resources/models/names";
import { useAccountPath } from "../session";
import { EMPTY, type Form, formOf } from "./body";
import { DatasetStep, EvaluatorStep } from "./InputSteps";
import { OptionFields } from "./OptionFields";
import type { Kind } from "./options";
import { Review } from "./Review";
import type { CreateSearch } from "./routes";

export function CreateJob() {
  const search = useSearch({ strict: false }) as CreateSearch;
  const kind: Kind = search.kind ?? "rft";
  const bases = useBaseModels();
  const job = useJob(kind as JobKind, search.from ?? "");
  const account = useAccountPath().replace("/v1/", "");
  const full = (noun: string, id?: string) => (id ? `${account}/${noun}/${id}` : "");
  if (search.from && job.error)
    return <Failure title={`The job ${search.from} could not be read`} error={job.error} />;
  if (bases.isPending || (search.from && !job.data)) return <Skeleton lines={8} />;
  let first: Form = {
    ...EMPTY,
    kind,
    baseModel: bases.data?.[0]?.name ?? "",
    dataset: full("datasets", search.dataset),
    evaluator: full("evaluators", search.evaluator),
  };
  if (job.data) {
    const fields = job.data as unknown as Record<string, Record<string, unknown>>;
    const named = (kind === "rft" ? fields.trainingConfig?.baseModel : fields.baseModel) as unknown;
    first = formOf(
      kind,
      fields,
      bases.data?.find((base) => base.name === named),
    );
  }
  return (
    <Steps key={`${kind} ${search.from ?? ""}`} first={first} from={search.from} bases={bases.data ?? []} />
  );
}

function Steps({ first, from, bases }: { first: Form; from?: string; bases: readonly Model[] }) {
  const navigate = useNavigate();
  const [form, setForm] = useState(first);
  const change = (changes: Partial<Form>) => setForm((before) => ({ ...before, ...changes }));
  const { kind } = form;
  // What a model that is continued sits on decides the ranges.
  const warm = useModel(form.warmStartFrom);
  const baseName = form.warmStartFrom ? (warm.data?.baseModel ?? "") : form.baseModel;
  const base = bases.find((one) => one.name === baseName);
  const original = from ? first : null;
  return (
    <>
      <PageHeader
        crumbs={[
          <Link key="all" to="/dashboard/fine-tuning">
            Fine-tuning
          </Link>,
        ]}
        title={from ? `Run ${from} again, with changes` : "Fine-tune a model"}
      >
        {from
          ? "The form begins with the job's options. What you change is marked."
          : "Empty fields take their defaults, which depend on the base model."}
      </PageHeader>
      {!from && (
        <div className="mb-5">
          <Tabs
            label="Kind of job"
            tabs={[
              { id: "rft", label: "Reinforcement (RFT)" },
              { id: "sft", label: "Supervised (SFT)" },
            ]}
            active={kind}
            onChange={(next) => navigate({ to: ".", search: { kind: next } as never, replace: true })}
          />
        </div>
      )}
      <div className="grid grid-cols-[minmax(0,1fr)] items-start gap-6 xl:grid-cols-[minmax(0,1fr)_24rem]">
        <div className="min-w-0 space-y-4">
          <Step number={1} title="Base model">
            <BaseModelStep form={form} bases={bases} onChange={change} />
          </Step>
          <Step number={2} title="Dataset">
            <DatasetStep form={form} original={original} onChange={change} />
          </Step>
          {kind === "rft" && (
            <Step number={3} title="Evaluator">
              <EvaluatorStep form={form} onChange={change} />
            </Step>
          )}
          <Step number={kind === "rft" ? 4 : 3} title="Training">
            <OptionFields form={form} group="training" base={base} original={original} onChange={change} />
          </Step>
          {kind === "rft" && (
            <Step number={5} title="Rollouts">
              <OptionFields form={form} group="rollout" base={base} original={original} onChange={change} />
              <p className="mt-3 text-xs text-ink-soft">
                top_p is 1 and top_k 0, always: the log-probabilities that training needs are exact only then.
              </p>
            </Step>
          )}
        </div>
        <Review form={form} base={base} original={original} onChange={change} />
      </div>
    </>
  );
}

function Step({ number, title, children }: { number: number; title: string; children: ReactNode }) {
  return (
    <section className="rounded-lg border bg-surface" aria-label={title}>
      <h2 className="flex items-center gap-2.5 border-b px-4 py-2.5 font-semibold">
        <span className="tabular grid size-6 place-items-center rounded-full bg-accent-soft text-xs text-accent-text">
          {number}
        </span>
        {title}
      </h2>
      <div className="p-4">{children}</div>
    </section>
  );
}

const OTHER = "other";

function BaseModelStep(props: {
  form: Form;
  bases: readonly Model[];
  onChange: (changes: Partial<Form>) => void;
}) {
  const { form, bases, onChange } = props;
  const own = useModels();
  const full = (own.data ?? []).filter((model) => model.kind === "HF_BASE_MODEL");
  const adapters = (own.data ?? []).filter((model) => model.kind === "HF_PEFT_ADDON");
  const known = [...bases, ...full].some((model) => model.name === form.baseModel);
  const [other, setOther] = useState(form.baseModel !== "" && !known && !form.warmStartFrom);
  const value = other ? OTHER : form.warmStartFrom || form.baseModel;
  const choose = (name: string) => {
    setOther(name === OTHER);
    if (name === OTHER) return onChange({ baseModel: "", warmStartFrom: "" });
    const adapter = adapters.some((model) => model.name === name);
    onChange({ baseModel: adapter ? "" : name, warmStartFrom: adapter ? name : "" });
  };
  const group = (label: string, models: readonly Model[]) =>
    models.length > 0 && (
      <optgroup label={label}>
        {models.map((model) => (
          <option key={model.name} value={model.name}>
            {modelLabel(model)}
          </option>
        ))}
      </optgroup>
    );
  return (
    <div className={other ? "grid gap-4 md:grid-cols-2" : "max-w-xl"}>
      <Field
        label="Begin with"
        hint={form.warmStartFrom ? "Training goes on from this adapter, at its rank." : undefined}
      >
        {(ids) => (
          <Select {...ids} value={value} onChange={(event) => choose(event.target.value)}>
            {group("Base models on this machine", bases)}
            {group("Your full models", full)}
            {group("Continue one of your adapters", adapters)}
            <option value={OTHER}>Another, by name…</option>
          </Select>
        )}
      </Field>
      {other && (
        <Field
          label="Name of the base model"
          hint="A catalogue name or a Hugging Face id, e.g. Qwen/Qwen3-0.6B; the job fetches it."
        >
          {(ids) => (
            <Input
              {...ids}
              value={form.baseModel}
              onChange={(event) => onChange({ baseModel: event.target.value.trim() })}
            />
          )}
        </Field>
      )}
    </div>
  );
}
