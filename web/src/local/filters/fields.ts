// What can be asked of a field, by its type.
import type { FieldInfo } from "../rows";
import type { Filter, Operator } from "../state";

export type Kind = "text" | "number" | "boolean" | "date";

export const OPERATORS_OF: Record<Kind, readonly [Operator, string][]> = {
  text: [
    ["==", "equals"],
    ["!=", "not equals"],
    ["contains", "contains"],
    ["!contains", "does not contain"],
    [">", "greater than"],
    ["<", "less than"],
    [">=", "at least"],
    ["<=", "at most"],
    ["between", "between"],
  ],
  number: [
    ["==", "equals"],
    ["!=", "not equals"],
    [">", "greater than"],
    ["<", "less than"],
    [">=", "at least"],
    ["<=", "at most"],
    ["between", "between"],
    ["contains", "contains"],
    ["!contains", "does not contain"],
  ],
  boolean: [
    ["==", "equals"],
    ["!=", "not equals"],
  ],
  date: [
    ["==", "on"],
    ["!=", "not on"],
    [">", "after"],
    ["<", "before"],
    [">=", "on or after"],
    ["<=", "on or before"],
    ["between", "between"],
  ],
};

/** How a condition is shown: as its own type says, else as its field is. */
export function typeOf(filter: Filter, info: FieldInfo | undefined): Kind {
  if (filter.type === "date" || filter.type === "date-range") return "date";
  if (filter.type === "number") return "number";
  // A link made elsewhere may compare a number as text; it keeps its operator.
  return info?.type === "boolean" && (filter.operator === "==" || filter.operator === "!=")
    ? "boolean"
    : "text";
}

/** The condition on another field: operator and value stay where they make sense there. */
export function withField(filter: Filter, field: string, info: FieldInfo | undefined): Filter {
  const kind = info?.type ?? "text";
  const type = kind === "boolean" ? "text" : kind;
  const same = type === filter.type || (type === "date" && filter.type === "date-range");
  const operator = OPERATORS_OF[kind].some(([one]) => one === filter.operator) ? filter.operator : "==";
  return same ? { ...filter, field, operator } : { field, operator, value: "", type };
}

/** The condition with another operator; the second value goes with `between`, and a span of dates has its own type. */
export function withOperator(filter: Filter, operator: Operator, kind: Kind): Filter {
  const { value2, ...rest } = filter;
  const between = operator === "between";
  return {
    ...rest,
    operator,
    type: kind === "date" ? (between ? "date-range" : "date") : filter.type,
    ...(between && value2 !== undefined ? { value2 } : {}),
  };
}
