// What the pivot is made of: fields of rows and columns, the value, how values of a cell become one.
import { X } from "lucide-react";
import { useId } from "react";
import { Field, Select } from "~/design/Field";
import { LazyInput } from "../filters/LazyInput";
import { type FieldInfo, useFields } from "../rows";
import { AGGREGATORS, type Aggregator, type LocalState } from "../state";
import { useLocalState } from "../useLocalState";
import { AGGREGATOR_NAMES } from "./pivot";

export function Pickers() {
  const [{ pivotConfig }, change] = useLocalState();
  const fields = useFields().data ?? [];
  const set = (part: Partial<LocalState["pivotConfig"]>) =>
    change({ pivotConfig: { ...pivotConfig, ...part } });
  const { selectedAggregator: aggregator, selectedValueField: value } = pivotConfig;
  const numbers = fields.filter((field) => field.type === "number" || field.type === "boolean");
  return (
    <section
      aria-label="What the pivot shows"
      className="grid gap-x-5 gap-y-3 rounded-lg border bg-surface p-3 sm:grid-cols-2 xl:grid-cols-4"
    >
      <FieldList
        label="Rows"
        chosen={pivotConfig.selectedRowFields}
        fields={fields}
        onChange={(selectedRowFields) => set({ selectedRowFields })}
      />
      <FieldList
        label="Columns"
        chosen={pivotConfig.selectedColumnFields}
        fields={fields}
        onChange={(selectedColumnFields) => set({ selectedColumnFields })}
      />
      <Field label="Value" hint={aggregator === "count" ? "Counting needs no value." : undefined}>
        {(ids) => (
          <Select
            {...ids}
            className="font-mono text-xs"
            disabled={aggregator === "count"}
            value={value}
            onChange={(event) => set({ selectedValueField: event.target.value })}
          >
            {[...new Set([value, ...numbers.map((field) => field.path)])].map((path) => (
              <option key={path} value={path}>
                {path}
              </option>
            ))}
          </Select>
        )}
      </Field>
      <div className="flex flex-wrap gap-3">
        <Field label="Aggregator" className="min-w-36 flex-1">
          {(ids) => (
            <Select
              {...ids}
              value={aggregator}
              onChange={(event) => {
                const next = event.target.value as Aggregator;
                // pass@k asks which rollouts pass: of a rollout's own score, not of the experiment's mean.
                const own = next === "pass@k" && value.endsWith(".agg_score");
                set({
                  selectedAggregator: next,
                  ...(own ? { selectedValueField: "$.evaluation_result.score" } : {}),
                });
              }}
            >
              {AGGREGATORS.map((one) => (
                <option key={one} value={one}>
                  {AGGREGATOR_NAMES[one]}
                </option>
              ))}
            </Select>
          )}
        </Field>
        {aggregator === "pass@k" && (
          <>
            <NumberField label="k" value={pivotConfig.k} whole onChange={(k) => set({ k })} />
            <NumberField
              label="Passes from"
              value={pivotConfig.threshold}
              onChange={(threshold) => set({ threshold })}
            />
          </>
        )}
      </div>
    </section>
  );
}

function FieldList(props: {
  label: string;
  chosen: readonly string[];
  fields: readonly FieldInfo[];
  onChange: (chosen: string[]) => void;
}) {
  const id = useId();
  const { chosen } = props;
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="text-[13px] font-medium">
        {props.label}
      </label>
      <Select
        id={id}
        value=""
        onChange={(event) => event.target.value && props.onChange([...chosen, event.target.value])}
      >
        <option value="">Add a field</option>
        {props.fields
          .filter((field) => !chosen.includes(field.path))
          .map((field) => (
            <option key={field.path} value={field.path}>
              {field.path}
            </option>
          ))}
      </Select>
      <ul className="flex flex-wrap gap-1.5 pt-1" aria-label={`Fields of ${props.label.toLowerCase()}`}>
        {chosen.map((path) => (
          <li
            key={path}
            className="flex min-w-0 items-center gap-1 rounded bg-accent-soft pl-2 font-mono text-xs text-accent-text"
          >
            <span className="truncate" title={path}>
              {path}
            </span>
            <button
              type="button"
              aria-label={`Remove ${path} from ${props.label.toLowerCase()}`}
              onClick={() => props.onChange(chosen.filter((one) => one !== path))}
              className="rounded p-1 hover:bg-surface"
            >
              <X size={12} aria-hidden="true" />
            </button>
          </li>
        ))}
        {chosen.length === 0 && <li className="text-xs text-ink-faint">All together</li>}
      </ul>
    </div>
  );
}

function NumberField(props: {
  label: string;
  value: number;
  whole?: boolean;
  onChange: (value: number) => void;
}) {
  return (
    <Field label={props.label} className="w-24">
      {(ids) => (
        <LazyInput
          {...ids}
          inputMode="decimal"
          value={String(props.value)}
          onCommit={(text) => {
            const value = Number(text);
            if (
              text.trim() &&
              Number.isFinite(value) &&
              (!props.whole || (Number.isInteger(value) && value >= 1))
            )
              props.onChange(value);
          }}
        />
      )}
    </Field>
  );
}
