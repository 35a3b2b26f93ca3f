// The options of one step, each with its range, its default and what it does.
import { Info } from "lucide-react";
import { useState } from "react";
import type { Model } from "~/api/models";
import { Badge } from "~/design/Badge";
import { Field, Input, Select, TextArea } from "~/design/Field";
import type { Form } from "./body";
import { type Group, OPTIONS, type Option, problemOf, rangeOf, rangeText } from "./options";

export function OptionFields(props: {
  form: Form;
  group: Group;
  base: Model | undefined;
  /** The form as it began, of a job that is run again: what differs from it is marked. */
  original: Form | null;
  onChange: (changes: Partial<Form>) => void;
}) {
  const { form, group, base, original, onChange } = props;
  const set = (key: string, value: string) => onChange({ values: { ...form.values, [key]: value } });
  return (
    <div className="grid gap-x-4 gap-y-5 sm:grid-cols-2 lg:grid-cols-3">
      {OPTIONS[form.kind]
        .filter((option) => option.group === group && option.when?.(form.values) !== false)
        .map((option) => (
          <OptionField
            key={option.key}
            option={option}
            form={form}
            base={base}
            changed={
              original !== null && (form.values[option.key] ?? "") !== (original.values[option.key] ?? "")
            }
            onChange={(value) => set(option.key, value)}
          />
        ))}
    </div>
  );
}

function OptionField(props: {
  option: Option;
  form: Form;
  base: Model | undefined;
  changed: boolean;
  onChange: (value: string) => void;
}) {
  const { option, form, base, changed } = props;
  const [explained, setExplained] = useState(false);
  const value = form.values[option.key] ?? "";
  const range = rangeOf(form.kind, option, base);
  const limits = rangeText(range, option);
  const normal = range.default !== undefined ? String(range.default) : option.whenEmpty;
  const bare = !limits && !normal;
  const label = (
    <span className="flex items-center gap-1.5">
      {option.label}
      {option.unit && <span className="font-normal text-ink-faint">{option.unit}</span>}
      {changed && <Badge tone="accent">changed</Badge>}
    </span>
  );
  const about = (
    <span>
      {limits && <span className="tabular">{limits}</span>}
      {limits && normal && " · "}
      {normal && <>default {normal}</>}{" "}
      {bare ? (
        <span>{option.hint}</span>
      ) : (
        <button
          type="button"
          title={option.hint}
          aria-label={`About ${option.label}`}
          aria-expanded={explained}
          onClick={() => setExplained(!explained)}
          className="inline-flex translate-y-0.5 rounded text-ink-faint hover:text-ink"
        >
          <Info size={13} />
        </button>
      )}
      {explained && <span className="mt-1 block text-ink-soft">{option.hint}</span>}
    </span>
  );
  return (
    <Field label={label} hint={about} error={problemOf(option, value, range)}>
      {(ids) =>
        option.input === "choice" ? (
          <Select {...ids} value={value} onChange={(event) => props.onChange(event.target.value)}>
            {option.choices?.map(([one, name]) => (
              <option key={one} value={one}>
                {name}
              </option>
            ))}
          </Select>
        ) : option.input === "switch" ? (
          <span className="flex h-8 items-center">
            <input
              {...ids}
              type="checkbox"
              checked={value === "true"}
              onChange={(event) => props.onChange(event.target.checked ? "true" : "")}
              className="size-4 accent-accent"
            />
          </span>
        ) : option.input === "lines" ? (
          <TextArea
            {...ids}
            rows={2}
            value={value}
            placeholder={option.whenEmpty}
            onChange={(event) => props.onChange(event.target.value)}
            className="min-h-8 font-mono text-xs"
          />
        ) : range.choices?.length ? (
          <Select {...ids} value={value} onChange={(event) => props.onChange(event.target.value)}>
            <option value="">{range.default ?? "default"} (default)</option>
            {range.choices
              .filter((choice) => choice !== range.default)
              .map((choice) => (
                <option key={choice} value={String(choice)}>
                  {choice}
                </option>
              ))}
          </Select>
        ) : (
          <Input
            {...ids}
            inputMode="decimal"
            value={value}
            placeholder={normal}
            onChange={(event) => props.onChange(event.target.value)}
            className="tabular"
          />
        )
      }
    </Field>
  );
}
