// The filter: groups that must all hold, each of conditions that must all hold, or one of them.
import { Plus, Trash2 } from "lucide-react";
import { useId } from "react";
import { Button, IconButton } from "~/design/Button";
import { Select } from "~/design/Field";
import { type FieldInfo, useFields } from "../rows";
import type { Filter, FilterGroup } from "../state";
import { useLocalState } from "../useLocalState";
import { OPERATORS_OF, typeOf, withField, withOperator } from "./fields";
import { LazyInput } from "./LazyInput";

const NEW: Filter = { field: "", operator: "==", value: "", type: "text" };

/** The groups in the address; nothing where there are none (`AddFilter` begins the first). */
export function Filters() {
  const [{ filterConfig }] = useLocalState();
  const change = useChangeFilters();
  if (filterConfig.length === 0) return null;
  return (
    <section aria-label="Filters" className="space-y-3 rounded-lg border bg-surface p-3">
      {filterConfig.map((group, place) => (
        <Group
          // biome-ignore lint/suspicious/noArrayIndexKey: groups are known by their place
          key={place}
          number={place + 1}
          group={group}
          onChange={(next, quietly) =>
            change(
              filterConfig.map((one, at) => (at === place ? next : one)),
              quietly,
            )
          }
          onRemove={() => change(filterConfig.filter((_, at) => at !== place))}
        />
      ))}
      <div className="flex flex-wrap gap-2 border-t pt-3">
        <Button
          small
          icon={<Plus size={13} aria-hidden="true" />}
          onClick={() => change([...filterConfig, { logic: "AND", filters: [NEW] }])}
        >
          Add filter group
        </Button>
        <Button small kind="quiet" onClick={() => change([])}>
          Clear all filters
        </Button>
      </div>
    </section>
  );
}

/** Begins the first group. */
export function AddFilter() {
  const [{ filterConfig }] = useLocalState();
  const change = useChangeFilters();
  if (filterConfig.length > 0) return null;
  return (
    <Button
      small
      icon={<Plus size={13} aria-hidden="true" />}
      onClick={() => change([{ logic: "AND", filters: [NEW] }])}
    >
      Add filter
    </Button>
  );
}

/** Sets the filter and goes back to the first page of what it lets through. */
export function useChangeFilters(): (filterConfig: FilterGroup[], quietly?: boolean) => void {
  const [{ paginationConfig }, change] = useLocalState();
  return (filterConfig, quietly) =>
    change({ filterConfig, paginationConfig: { ...paginationConfig, currentPage: 1 } }, quietly);
}

function Group(props: {
  number: number;
  group: FilterGroup;
  onChange: (group: FilterGroup, quietly?: boolean) => void;
  onRemove: () => void;
}) {
  const { group, number } = props;
  const fields = useFields();
  const list = useId();
  const set = (filters: Filter[], quietly?: boolean) => props.onChange({ ...group, filters }, quietly);
  return (
    <fieldset className="min-w-0 space-y-2" aria-label={`Filter group ${number}`}>
      <div className="flex flex-wrap items-center justify-between gap-2">
        <div className="flex items-center gap-2">
          <span className="text-[13px] font-medium">Group {number}</span>
          <Select
            aria-label={`Logic of group ${number}`}
            value={group.logic}
            onChange={(event) => props.onChange({ ...group, logic: event.target.value as "AND" | "OR" })}
          >
            <option value="AND">AND (all filters must match)</option>
            <option value="OR">OR (any filter must match)</option>
          </Select>
        </div>
        <Button small kind="quiet" onClick={props.onRemove}>
          Remove group
        </Button>
      </div>
      <datalist id={list}>
        {fields.data?.map((field) => (
          <option key={field.path} value={field.path} />
        ))}
      </datalist>
      {group.filters.map((filter, place) => (
        <Condition
          // biome-ignore lint/suspicious/noArrayIndexKey: conditions are known by their place
          key={place}
          filter={filter}
          info={fields.data?.find((field) => field.path === filter.field)}
          fields={fields.data ?? []}
          list={list}
          onChange={(next, quietly) =>
            set(
              group.filters.map((one, at) => (at === place ? next : one)),
              quietly,
            )
          }
          onRemove={() => set(group.filters.filter((_, at) => at !== place))}
        />
      ))}
      <Button
        small
        kind="quiet"
        icon={<Plus size={13} aria-hidden="true" />}
        onClick={() => set([...group.filters, NEW])}
      >
        Add filter to group
      </Button>
    </fieldset>
  );
}

function Condition(props: {
  filter: Filter;
  info: FieldInfo | undefined;
  fields: readonly FieldInfo[];
  list: string;
  onChange: (filter: Filter, quietly?: boolean) => void;
  onRemove: () => void;
}) {
  const { filter, info } = props;
  const values = useId();
  const kind = typeOf(filter, info);
  const input = kind === "date" ? "date" : "text";
  const valueProps = {
    type: input,
    inputMode: kind === "number" ? ("decimal" as const) : undefined,
    list: kind === "date" ? undefined : values,
    className: "min-w-32 flex-1 sm:w-56 sm:flex-none",
  };
  return (
    <div className="flex flex-wrap items-center gap-2">
      <LazyInput
        aria-label="Field"
        placeholder="$.field"
        list={props.list}
        spellCheck={false}
        className="w-full font-mono text-xs sm:w-96"
        value={filter.field}
        onCommit={(field) =>
          props.onChange(
            withField(
              filter,
              field,
              props.fields.find((one) => one.path === field),
            ),
          )
        }
      />
      <Select
        aria-label="Operator"
        value={filter.operator}
        onChange={(event) =>
          props.onChange(withOperator(filter, event.target.value as Filter["operator"], kind))
        }
      >
        {OPERATORS_OF[kind].map(([operator, name]) => (
          <option key={operator} value={operator}>
            {name}
          </option>
        ))}
      </Select>
      <LazyInput
        {...valueProps}
        aria-label="Value"
        placeholder={kind === "number" ? "number" : "value"}
        value={filter.value}
        onCommit={(value) => props.onChange({ ...filter, value }, true)}
      />
      {filter.operator === "between" && (
        <>
          <span className="text-xs text-ink-faint">and</span>
          <LazyInput
            {...valueProps}
            aria-label="Second value"
            value={filter.value2 ?? ""}
            onCommit={(value2) => props.onChange({ ...filter, value2 }, true)}
          />
        </>
      )}
      {kind !== "date" && (
        <datalist id={values}>
          {info?.values.map((value) => (
            <option key={String(value)} value={String(value)} />
          ))}
        </datalist>
      )}
      <IconButton label="Remove filter" onClick={props.onRemove}>
        <Trash2 size={14} />
      </IconButton>
    </div>
  );
}
