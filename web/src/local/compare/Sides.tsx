// Which two are compared.
import { ArrowLeftRight } from "lucide-react";
import { Button } from "~/design/Button";
import { Field, Select } from "~/design/Field";
import { useInvocations, useModels } from "../rows";
import { useLocalState } from "../useLocalState";

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function Sides() {
  const [{ compareConfig }, change] = useLocalState();
  const set = (part: Partial<typeof compareConfig>) =>
    change({ compareConfig: { ...compareConfig, ...part } });
  const { by, left, right } = compareConfig;
  const choices = useChoices(by);
  const same = left !== "" && left === right;
  return (
    <section
      aria-label="What is compared"
      className="grid items-start gap-3 rounded-lg border bg-surface p-3 md:grid-cols-[9rem_minmax(0,1fr)_auto_minmax(0,1fr)]"
    >
      <Field label="Compare two">
        {(ids) => (
          <Select
            {...ids}
            value={by}
            onChange={(event) =>
              set({ by: event.target.value as typeof by, left: "", right: "", show: "all" })
            }
          >
            <option value="invocation">invocations</option>
            <option value="model">models</option>
          </Select>
        )}
      </Field>
      <Side label="Left" value={left} choices={choices} onChange={(value) => set({ left: value })} />
      <Button
        aria-label="Swap sides"
        title="Swap sides"
        className="md:mt-6"
        disabled={!left && !right}
        onClick={() => set({ left: right, right: left })}
      >
        <ArrowLeftRight size={15} aria-hidden="true" />
      </Button>
      <Side
        label="Right"
        value={right}
        choices={choices}
        error={same ? `This is the same ${by} as on the left.` : undefined}
        onChange={(value) => set({ right: value })}
      />
    </section>
  );
}

interface Choice {
  value: string;
  label: string;
  hint: string;
}

function useChoices(by: "invocation" | "model"): Choice[] {
  const invocations = useInvocations().data ?? [];
  const models = useModels().data ?? [];
  const mean = (value: number | null) => (value === null ? "no score" : `mean score ${value.toFixed(3)}`);
  return by === "model"
    ? models.map((one) => ({
        value: one.model,
        label: one.model,
        hint: `${one.rollouts.toLocaleString()} rollouts, ${mean(one.meanScore)}`,
      }))
    : invocations.map((one) => ({
        value: one.invocationId,
        label: `${one.invocationId} · ${one.names.join(", ")} · ${WHEN.format(new Date(one.createdAt))}`,
        hint: `${one.rollouts.toLocaleString()} rollouts with ${one.models.join(", ") || "no model"}, ${mean(one.meanScore)}`,
      }));
}

function Side(props: {
  label: string;
  value: string;
  choices: Choice[];
  error?: string;
  onChange: (value: string) => void;
}) {
  const { value, choices } = props;
  const known = choices.find((choice) => choice.value === value);
  return (
    <Field label={props.label} hint={known?.hint} error={props.error}>
      {(ids) => (
        <Select {...ids} value={value} onChange={(event) => props.onChange(event.target.value)}>
          <option value="">Choose</option>
          {value && !known && <option value={value}>{value}</option>}
          {choices.map((choice) => (
            <option key={choice.value} value={choice.value}>
              {choice.label}
            </option>
          ))}
        </Select>
      )}
    </Field>
  );
}
